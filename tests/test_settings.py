"""Which backend, formulation, determinism and precision a call gets, and from where."""

from __future__ import annotations

import threading

import numba
import numpy as np
import pytest
from checks import refused

import gpu_transconv as gtc
from gpu_transconv import settings
from gpu_transconv.kernels.cpu.runtime import parallel
from gpu_transconv.kernels.cpu.runtime.threads import thread_count
from gpu_transconv.settings import Settings, pool_bytes, resolve

X, WEIGHT = np.ones((1, 5, 3)), np.ones((5, 5, 2))


def test_defaults():
    assert resolve() == Settings("auto", "auto", None, "highest")


def test_argument_beats_context_beats_environment(monkeypatch, launched):
    automatic = gtc.explain(X, WEIGHT).formulation
    gtc.conv_transpose(X, WEIGHT)
    monkeypatch.setenv("GPU_TRANSCONV_BACKEND", "reference")
    monkeypatch.setenv("GPU_TRANSCONV_FORMULATION", "scatter")
    gtc.conv_transpose(X, WEIGHT)
    with gtc.use(formulation="gather"):
        gtc.conv_transpose(X, WEIGHT)
        gtc.conv_transpose(X, WEIGHT, backend="cpu")
        gtc.conv_transpose(X, WEIGHT, formulation="scatter")
        with gtc.use(backend="cpu"):
            gtc.conv_transpose(X, WEIGHT)
            gtc.conv_transpose(X, WEIGHT, backend="reference", formulation="scatter")
        gtc.conv_transpose(X, WEIGHT)
    gtc.conv_transpose(X, WEIGHT)
    assert launched == [
        f"cpu/{automatic}",
        "reference/scatter",
        "reference/gather",
        "cpu/gather",
        "reference/scatter",
        "cpu/gather",
        "reference/scatter",
        "reference/gather",
        "reference/scatter",
    ]


@pytest.mark.parametrize(
    ("name", "outer", "inner", "default"),
    [
        ("backend", "reference", "cpu", "auto"),
        ("formulation", "scatter", "gather", "auto"),
        ("precision", "tf32", "highest", "highest"),
        ("deterministic", True, False, None),
    ],
)
def test_blocks_nest(name, outer, inner, default):
    with gtc.use(**{name: outer}):
        with gtc.use(**{name: inner}):
            assert getattr(resolve(), name) == inner
            assert getattr(resolve(**{name: outer}), name) == outer
        assert getattr(resolve(), name) == outer
        if default is not None:
            assert getattr(resolve(**{name: str(default)}), name) == default  # written out, the default is a choice
    assert getattr(resolve(), name) == default


def test_a_block_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), gtc.use(backend="reference"):
        raise ZeroDivisionError
    assert resolve() == Settings()


def test_blocks_combine():
    with (
        gtc.use(backend="reference"),
        gtc.use(deterministic=True),
        gtc.use(formulation="scatter", precision="tf32"),
    ):
        assert resolve() == Settings("reference", "scatter", True, "tf32")


@pytest.mark.parametrize("word", ["1", "true", "Yes", " ON "])
def test_deterministic_environment(monkeypatch, word):
    monkeypatch.setenv("GPU_TRANSCONV_DETERMINISTIC", word)
    assert resolve().deterministic is True
    assert resolve(deterministic=False).deterministic is False
    with gtc.use(deterministic=False):
        assert resolve().deterministic is False


@pytest.mark.parametrize("word", ["0", "false", "No", "off"])
def test_not_deterministic_environment(monkeypatch, word):
    monkeypatch.setenv("GPU_TRANSCONV_DETERMINISTIC", word)
    assert resolve().deterministic is False


@pytest.mark.parametrize("name", ["BACKEND", "FORMULATION", "DETERMINISTIC"])
def test_an_empty_environment_variable_says_nothing(monkeypatch, name):
    monkeypatch.setenv(f"GPU_TRANSCONV_{name}", "")
    assert resolve() == Settings()


BACKENDS = ("'auto'", "'cpu'", "'numba-cuda'", "'cupy'", "'reference'")
FORMULATIONS = ("'auto'", "'gather'", "'scatter'")


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("BACKEND", "gpu", BACKENDS),
        ("FORMULATION", "both", FORMULATIONS),
        ("DETERMINISTIC", "maybe", ("1", "true", "0")),
    ],
)
def test_environment_with_an_invalid_value(monkeypatch, name, value, choices):
    monkeypatch.setenv(f"GPU_TRANSCONV_{name}", value)
    with refused(ValueError, f"GPU_TRANSCONV_{name} must be one of", *choices, f"got {value!r}"):
        gtc.conv_transpose(X, WEIGHT)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", 1 << 30),
        (" ", 1 << 30),
        ("0", 0),
        ("12345", 12345),
        ("7b", 7),
        ("3k", 3072),
        (" 64KiB ", 1 << 16),
        ("512M", 1 << 29),
        ("512MB", 1 << 29),
        ("2 GiB", 1 << 31),
        ("1T", 1 << 40),
    ],
)
def test_bytes_of_results_that_are_kept(monkeypatch, word, expected):
    monkeypatch.setenv("GPU_TRANSCONV_POOL_BYTES", word)
    assert pool_bytes() == expected


@pytest.mark.parametrize("word", ["half", "-1", "1.5G", "512X", "M", "1e9", "0x10", "²", "1_000", "5 12"])
def test_bytes_that_are_none_are_refused_at_the_call(monkeypatch, word):
    monkeypatch.setenv("GPU_TRANSCONV_POOL_BYTES", word)
    settings._merge.cache_clear()
    try:
        with refused(ValueError, "GPU_TRANSCONV_POOL_BYTES must be a number of bytes", "512M", f"got {word!r}"):
            gtc.conv_transpose(X, WEIGHT)
    finally:
        settings._merge.cache_clear()


@pytest.mark.parametrize("through", ["argument", "block"])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("backend", "gpu", BACKENDS),
        ("backend", None, BACKENDS),
        ("backend", "CPU", BACKENDS),
        ("backend", 1, BACKENDS),
        ("formulation", "implicit", FORMULATIONS),
        ("formulation", None, FORMULATIONS),
        ("precision", "high", ("'highest'", "'tf32'")),
        ("precision", None, ("'highest'", "'tf32'")),
        ("deterministic", "yes", ("None, True or False",)),
        ("deterministic", 1, ("None, True or False",)),
        ("deterministic", 0.0, ("None, True or False",)),
        ("deterministic", np.array([True, False]), ("None, True or False",)),
    ],
    ids=str,
)
def test_invalid_values(name, value, expected, through):
    with refused(ValueError, f"{name} must be", *expected, f"got {value!r}"):
        if through == "argument":
            gtc.conv_transpose(X, WEIGHT, **{name: value})
        else:
            with gtc.use(**{name: value}):
                pass
    assert resolve() == Settings()


def test_a_block_holds_in_its_own_thread_only():
    inside, checked = threading.Event(), threading.Event()
    seen = {}

    def other():
        inside.wait()
        seen["before"] = resolve()
        with gtc.use(formulation="scatter"):
            seen["own"] = resolve()
            checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with gtc.use(backend="reference"):
        inside.set()
        checked.wait()
        seen["here"] = resolve()
    thread.join()
    assert seen == {
        "before": Settings(),
        "own": Settings(formulation="scatter"),
        "here": Settings(backend="reference"),
    }


def test_use_takes_keywords_only():
    with pytest.raises(TypeError, match="positional"):
        gtc.use("cpu")


def test_backends():
    status = gtc.backends()
    assert list(status) == ["cpu", "numba-cuda", "cupy", "reference"]
    for name, (available, reason) in status.items():
        assert available is bool(status[name])
        assert (reason is None) == available
    assert status["cpu"] == (True, None)
    assert status["reference"] == (True, None)


@pytest.mark.parametrize("through", ["argument", "block", "environment"])
@pytest.mark.parametrize("name", ["numba-cuda", "cupy"])
def test_a_backend_that_cannot_run_here(monkeypatch, name, through):
    status = gtc.backends()[name]
    if status:
        pytest.skip(f"{name} can run here")
    with refused(gtc.BackendUnavailableError, f"backend {name!r} is not available", status.reason, "install"):
        if through == "argument":
            gtc.conv_transpose(X, WEIGHT, backend=name)
        elif through == "block":
            with gtc.use(backend=name):
                gtc.conv_transpose(X, WEIGHT)
        else:
            monkeypatch.setenv("GPU_TRANSCONV_BACKEND", name)
            gtc.conv_transpose(X, WEIGHT)
    assert issubclass(gtc.BackendUnavailableError, RuntimeError)


@pytest.fixture
def threads_seen(monkeypatch):
    """Numba's number of threads whenever a kernel is entered on several threads."""
    seen = []
    monkeypatch.setattr(parallel, "current_openmp", lambda: None)  # as if this thread had called nothing of PyTorch's
    enter = parallel.on_threads
    monkeypatch.setattr(parallel, "on_threads", lambda *a: seen.append(numba.get_num_threads()) or enter(*a))
    return seen


LARGE = np.ones((1, 64, 4096), np.float32), np.ones((64, 64, 4), np.float32)
CALLS = {
    "function": lambda: gtc.conv_transpose(*LARGE, stride=2),
    "scatter": lambda: gtc.conv_transpose(*LARGE, stride=2, formulation="scatter"),
    "prepared": lambda: gtc.ConvTranspose(LARGE[1], stride=2)(LARGE[0]),
    "integers": lambda: gtc.conv_transpose(*(a[:, :9].astype(int) for a in (LARGE[0], LARGE[1][:9])), stride=2),
    "input_grad": lambda: gtc.conv_transpose_input_grad(np.ones((1, 64, 8194), np.float32), LARGE[1], stride=2),
    "weight_grad": lambda: gtc.conv_transpose_weight_grad(
        LARGE[0], np.ones((1, 64, 8194), np.float32), kernel_size=4, stride=2
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_threads_are_those_of_the_block(threads_seen, call):
    before = numba.get_num_threads()
    with gtc.use(threads=2):
        expected = CALLS[call]()
        counts = {2, *threads_seen} if numba.config.NUMBA_NUM_THREADS > 1 else {1}
        assert thread_count() == max(counts)
        threads_seen.clear()
        with gtc.use(threads=1), gtc.use(backend="cpu"):
            assert thread_count() == 1
            assert np.array_equal(CALLS[call](), expected)
        assert set(threads_seen) <= {1}
        assert thread_count() == max(counts)
    assert numba.get_num_threads() == before


def test_threads_are_set_back_after_an_error(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    before = numba.get_num_threads()
    monkeypatch.setattr(parallel, "current_openmp", lambda: None)  # as if this thread had called nothing of PyTorch's
    monkeypatch.setattr(parallel, "on_threads", fail)
    if numba.config.NUMBA_NUM_THREADS == 1:
        pytest.skip("one thread does not enter")
    with gtc.use(threads=2), pytest.raises(ZeroDivisionError):
        CALLS["scatter"]()
    assert numba.get_num_threads() == before


def test_threads_hold_in_their_own_thread_only():
    counts = []
    with gtc.use(threads=1):
        thread = threading.Thread(target=lambda: counts.append(thread_count()))
        thread.start()
        thread.join()
    assert counts == [numba.config.NUMBA_NUM_THREADS]


def test_more_threads_than_there_are():
    with gtc.use(threads=1000):
        assert thread_count() == numba.config.NUMBA_NUM_THREADS


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", (2,)])
def test_invalid_threads(value):
    with refused(ValueError, "threads must be None or an int >= 1", f"got {value!r}"), gtc.use(threads=value):
        pass
    assert resolve() == Settings()
