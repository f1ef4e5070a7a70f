"""What explain says of a problem, with and without a GPU, before and after tuning; and what observers see."""

from __future__ import annotations

import json
import logging
import threading

import numpy as np
import pytest
from checks import refused
from support.fakes import DeviceArray, FakeBackend

import gpu_transconv as gtc
from gpu_transconv import Explanation
from gpu_transconv.dispatch import device, limits, store
from gpu_transconv.dispatch.limits import DeviceLimits
from gpu_transconv.dispatch.select import invalidate
from gpu_transconv.problem.dtypes import DTYPES

X, WEIGHT = (1, 64, 32, 32), (64, 32, 4, 4)
KEYWORDS = {"stride": 2, "padding": 1}
#: A machine on which times are easily worked out: every operation a picosecond, every byte a nanosecond.
LIMITS = DeviceLimits("cuda", 1, dict.fromkeys((*DTYPES, "tf32"), 1e3), 1.0, 0.0, measured=True)


@pytest.fixture(autouse=True)
def _fresh(folder):
    """No tuning results."""


@pytest.fixture
def fake_limits(monkeypatch):
    """Fake limits of every device."""

    def put(**changes):
        found = DeviceLimits(**{**vars(LIMITS), **changes})
        monkeypatch.setattr("gpu_transconv.dispatch.select.device_limits", lambda _device: found)
        invalidate()

    yield put
    monkeypatch.undo()
    invalidate()


def test_counts():
    found = gtc.explain(X, WEIGHT, (32,), **KEYWORDS, formulation="scatter")
    assert (found.backend, found.formulation) == ("cpu", "scatter")
    assert found.kernel.startswith("cpu/scatter")
    assert found.output_shape == (1, 32, 64, 64)
    assert found.phases == 4
    assert found.flops == 2 * 64 * 32 * 4 * 4 * 32 * 32
    assert found.bytes == 4 * (64 * 32 * 32 + 64 * 32 * 4 * 4 + 32 + 32 * 64 * 64)
    assert found.arithmetic_intensity == found.flops / found.bytes
    assert found.deterministic is True
    assert found.tuned_seconds is None
    assert [r.name for r in found.runners_up] == ["cpu/gather"]
    assert found.roofline_fraction is None  # of figures that were not measured here


def test_arrays_shapes_and_lists_say_the_same():
    x, weight = (np.ones(shape, "f8") for shape in (X, WEIGHT))
    found = gtc.explain(x, weight, **KEYWORDS)
    assert found == gtc.explain(list(X), WEIGHT, dtype="float64", **KEYWORDS)
    assert found.plan.dtype == "float64"
    assert found == gtc.explain(X, weight, dtype="float64", **KEYWORDS)


def test_what_is_explained_is_what_runs(launched):
    for shape in ((1, 1, 3), (2, 64, 40), (1, 128, 2)):
        for keywords in ({}, {"stride": 2}, {"backend": "reference"}, {"formulation": "scatter"}):
            x, weight = np.ones(shape, "f4"), np.ones((shape[1], 2, 4), "f4")
            found = gtc.explain(x, weight, **keywords)
            gtc.conv_transpose(x, weight, **keywords)
            assert launched[-1] == f"{found.backend}/{found.formulation}"
            choice = gtc.last_choice()
            assert choice.implementation.name == launched[-1]
            assert choice.reason == found.reason


def test_as_text():
    text = str(gtc.explain(X, WEIGHT, **KEYWORDS))
    for words in ("1 x 32 x 64 x 64 float32", "bitwise repeatable", "67,108,864", "roofline", "shipped", "predicted"):
        assert words in text
    assert "run gpu-transconv info --measure" in text
    assert "%" not in text.partition("roofline")[2].partition("\n")[0]
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["output", "kernel", "because"]


def test_tuned_times(fake_limits, monkeypatch):
    fake_limits()
    monkeypatch.setattr("gpu_transconv.dispatch.explain.device_limits", lambda _device: LIMITS)
    plan = gtc.explain(X, WEIGHT, **KEYWORDS).plan
    store.record(plan, "cpu", {"cpu/gather": 4.0, "cpu/scatter": 0.5})
    invalidate()
    found = gtc.explain(X, WEIGHT, **KEYWORDS)
    assert found.formulation == "scatter"
    assert found.tuned_seconds == 0.5
    assert found.runners_up[0].tuned_seconds == 4.0
    assert found.roofline_fraction == found.roofline_seconds / 0.5
    assert "500 ms measured" in str(found)


def test_a_fast_algorithm_is_named_with_what_it_saves(fake_limits, monkeypatch):
    fake_limits()
    monkeypatch.setattr("gpu_transconv.dispatch.explain.device_limits", lambda _device: LIMITS)
    exact, found = (
        gtc.explain((4, 512, 16, 16), (512, 256, 4, 4), **KEYWORDS, formulation="gather", precision=precision)
        for precision in ("highest", "fast")
    )
    assert "pairs" not in exact.kernel
    assert "in pairs on two axes" in found.kernel
    assert "44% fewer multiplications" in found.kernel
    fast = Explanation(**{**vars(found), "roofline_fraction": 1.25})
    assert "125% of it, with fewer multiplications than the definition" in str(fast)


@pytest.mark.parametrize(
    ("shapes", "keywords", "words"),
    [
        ((X, WEIGHT), {}, "matrix products"),
        ((X, (64, 3, 4, 4)), {}, "direct"),
        ((X, (64, 1, 4, 4)), {"groups": 64}, "depthwise"),
        ((X, WEIGHT), {"dtype": "int64"}, "loops without tiles"),
    ],
    ids=["dense", "rgb", "depthwise", "integers"],
)
def test_the_kernel_is_named_in_words(shapes, keywords, words):
    found = gtc.explain(*shapes, **KEYWORDS, **keywords, formulation="gather")
    assert words in found.kernel.partition("(")[2]


@pytest.mark.parametrize(
    ("changes", "bound"), [({}, "memory"), ({"copy_gb_per_s": 1e6}, "compute")], ids=["memory", "compute"]
)
def test_roofline_on_a_fake_machine(monkeypatch, changes, bound):
    fake = DeviceLimits(**{**vars(LIMITS), **changes})
    monkeypatch.setattr("gpu_transconv.dispatch.explain.device_limits", lambda _device: fake)
    found = gtc.explain(X, WEIGHT, **KEYWORDS)
    assert found.bound == bound
    seconds = found.bytes * 1e-9 if bound == "memory" else found.flops * 1e-12
    assert found.roofline_seconds == pytest.approx(seconds)
    assert found.measured_machine is True


# --- fake costs on a fake device -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fake", "deterministic", "expected"),
    [
        ({}, None, "cupy/gather"),
        ({"ratios": {"scatter/tiles": 0.5}}, None, "cupy/scatter/tiles"),
        ({"ratios": {"gather": 3.0, "scatter/tiles": 2.0}}, None, "cupy/scatter/tiles"),
        ({"ratios": {"gather": 3.0, "scatter/tiles": 4.0}}, None, "cupy/gather"),
        ({"ratios": {"gather": 3.0, "scatter/tiles": 4.0, "scatter/atomic": 1.0}}, None, "cupy/gather"),
        ({"ratios": {"gather": 3.0, "scatter/tiles": 4.0, "scatter/atomic": 1.0}}, False, "cupy/scatter/atomic"),
        (
            {"ratios": {"gather": 3.0}, "refusals": {"scatter/tiles": "no", "scatter/atomic": "no"}},
            None,
            "cupy/gather",
        ),
    ],
)
def test_the_cheapest_runs(install, fake_limits, fake, deterministic, expected):
    install(cupy=FakeBackend(**fake))
    fake_limits(copy_gb_per_s=1e9)  # so that operations decide
    found = gtc.explain(DeviceArray(np.ones(X, "f4")), DeviceArray(np.ones(WEIGHT, "f4")), deterministic=deterministic)
    assert found.kernel == expected
    assert found.deterministic is (expected != "cupy/scatter/atomic")
    assert {r.name for r in found.runners_up} | {expected} == {
        "cupy/gather", "cupy/scatter/atomic", "cupy/scatter/tiles"
    }  # fmt: skip
    assert found.workspace_bytes is None


def test_atomics_pay_for_their_traffic(install, fake_limits):
    install(cupy=FakeBackend(ratios={"gather": 1.0, "scatter/tiles": 1.0, "scatter/atomic": 1.0}))
    fake_limits()
    found = gtc.explain(X, WEIGHT, **KEYWORDS, backend="cupy", deterministic=False)
    times = {r.name: r.predicted_seconds for r in found.runners_up}
    stamps = 32 * 4 * 4 * 32 * 32  # output channels x taps x inputs, of one image
    assert times["cupy/scatter/atomic"] == pytest.approx((found.bytes + 2 * 4 * stamps) * 1e-9)
    assert found.predicted_seconds == pytest.approx(found.bytes * 1e-9)


def test_launches_cost_time(install, fake_limits):
    install(cupy=FakeBackend())
    fake_limits(launch_seconds=1.0)
    found = gtc.explain((1, 1, 1), (1, 1, 1), backend="cupy")
    assert found.predicted_seconds == pytest.approx(1.0, rel=1e-3)
    assert max(r.predicted_seconds for r in found.runners_up) == pytest.approx(3.0, rel=1e-3)  # zeros, stamps, end


@pytest.mark.parametrize(("dtype", "share"), [("complex64", 0.25), ("float32", 1.0), ("float64", 0.5), ("int32", 0.25)])
def test_peaks_by_dtype(dtype, share):
    known = DeviceLimits("cpu", 1, {"float32": 100.0, "float64": 50.0}, 1.0, 0.0)
    plan = gtc.explain((1, 1, 1), (1, 1, 1), dtype=dtype, backend="reference").plan
    assert known.peak(plan) == share * 100e9


def test_refusals():
    with refused(ValueError, "x must have as many channels", "5"):
        gtc.explain((1, 5, 4), (4, 1, 2))
    with refused(TypeError, "dtype must be one of", "float32", "got 'float31'"):
        gtc.explain((1, 1, 4), (1, 1, 2), dtype="float31")
    with refused(TypeError, "dtype must be one of", "got 'fp32'", "did you mean 'float32'?"):
        gtc.explain((1, 1, 4), (1, 1, 2), dtype="fp32")
    with refused(ValueError, "x must be an array or a shape", "got (1, 1, -4)"):
        gtc.explain((1, 1, -4), (1, 1, 2))
    with refused(TypeError, "explain() got an unexpected keyword argument 'paddin'"):
        gtc.explain((1, 1, 4), (1, 1, 2), paddin=1)
    with refused(MemoryError, "the weight of shape", "this machine has"):
        gtc.explain((1, 1, 4), (1, 1, 2**40))
    with refused(TypeError, "weight must be an array", "got str"):
        gtc.explain((1, 1, 4), "1x1x2")
    with refused(ValueError, "backend must be one of", "'cupy'"):
        gtc.explain((1, 1, 4), (1, 1, 2), backend="abacus")


# --- observation ---------------------------------------------------------------------------------------


def test_the_log_names_the_kernel(caplog):
    x = np.ones((1, 1, 3), "f4")
    gtc.conv_transpose(x, x)
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "gpu_transconv"):
        gtc.conv_transpose(x, x, backend="reference", formulation="scatter")
        gtc.ConvTranspose(x, backend="reference")(x)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "reference/scatter for float32 (1, 1, 5)",
        "reference/gather for float32 (1, 1, 5)",
    ]
    assert "backend 'reference' was asked for" in caplog.records[0].getMessage()


def test_every_thread_has_its_own_last_choice():
    x = np.ones((1, 1, 3))
    seen = {}

    def work(formulation):
        before = gtc.last_choice()
        barrier.wait()
        gtc.conv_transpose(x, x, formulation=formulation, backend="reference")
        barrier.wait()
        seen[formulation] = before, gtc.last_choice().implementation.name

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(name,)) for name in ("gather", "scatter")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"gather": (None, "reference/gather"), "scatter": (None, "reference/scatter")}


# --- the machine's limits --------------------------------------------------------------------------------


def test_limits_are_shipped_until_measured(monkeypatch):
    peaks = pytest.importorskip("gpu_transconv.dispatch.measure_limits")
    before = limits.device_limits()
    assert before == limits.shipped("cpu")
    assert not before.measured
    measured = DeviceLimits("cpu", before.units, {"float32": 7.0, "float64": 3.0}, 5.0, 1e-6, measured=True)
    monkeypatch.setattr(peaks, "measure_cpu", lambda _threads: measured)
    assert peaks.measure() == measured
    invalidate()
    limits._memory.clear()
    assert limits.device_limits() == measured  # from the file
    assert gtc.explain((1, 1, 3), (1, 1, 3)).measured_machine


ENTRY = '{"figures 1": {"a cpu": %s}}'


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"figures 1": {"a cpu": {',
        '{"figures 1": 3}',
        ENTRY % "4",
        ENTRY % '{"copy_gb_per_s": 0}',
        ENTRY % '{"copy_gb_per_s": "fast"}',
        ENTRY % '{"copy_gb_per_s": NaN}',
        ENTRY % '{"units": -1}',
        ENTRY % '{"peak_gflops": {"float64": 1.0}}',
        ENTRY % '{"peak_gflops": {"float32": null}}',
        ENTRY % '{"launch_seconds": Infinity}',
    ],
    ids=lambda text: text[:60],
)
def test_limits_that_cannot_be_read(text, folder):
    folder.mkdir()
    (folder / "machine.json").write_text(text)
    invalidate()
    with pytest.warns(gtc.CacheWarning, match=r"machine\.json cannot be used"):
        assert limits.device_limits() == limits.shipped("cpu")
    assert (folder / "machine.json.unusable").read_text() == text


def test_limits_of_another_version_are_left_alone(folder):
    folder.mkdir()
    text = json.dumps({"figures 1": {device.identity("cpu"): {"copy_gb_per_s": 9.0, "unheard_of": 1}}})
    (folder / "machine.json").write_text(text)
    invalidate()
    assert limits.device_limits() == limits.shipped("cpu")
    assert (folder / "machine.json").read_text() == text
