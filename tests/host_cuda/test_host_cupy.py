"""The CuPy launcher from the public functions down to the kernels, with a stand-in for CuPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import Case, named
from checks import assert_close, expected, implementations, make_arrays, run
from device_checks import VARIANTS, run_launches
from host_checks import requires_compiler
from host_cupy import Array, asarray
from support.gradients import exact_gradient, make_gradient, reduction_of, run_gradient
from tile_cases import EDGE_TABLE, EDGES, plan_of, product_of

import gpu_transconv as gtc
from gpu_transconv.kernels.cupy import compile as compiling
from gpu_transconv.kernels.cupy import hopper_driver, launch, memory
from gpu_transconv.kernels.cupy.launch_plan import scatter_owned_launches
from gpu_transconv.kernels.registry import kernels
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan

pytestmark = requires_compiler
ROWS = [row for row in kernels() if row.backend == "cupy" and row.operation == "forward"]
GRADIENT_ROWS = [row for row in kernels() if row.backend == "cupy" and row.operation != "forward"]


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("name", ["2d-kernel-is-twice-stride", "2d-grouped", "1d-kernel-is-stride"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_arrays_of_numpy(row, name, dtype, data_format, cupy):
    fake, case = cupy(), named(name)
    arrays = make_arrays(case, dtype, data_format)
    want = expected(case, arrays, data_format)
    assert_close(run(row, case, arrays, data_format, dtype, want.shape), want, dtype, case.reduction)
    word = {"atomic": "scatter_atomic<", "tiles": "scatter_owned<", "": "gather_"}[row.variant]
    assert any(word in kernel for kernel, _ in fake.launched)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("name", ["2d-kernel-is-twice-stride", "2d-depthwise"])
@pytest.mark.parametrize("row", GRADIENT_ROWS, ids=lambda row: row.name)
def test_gradients(row, name, dtype, data_format, cupy):
    fake, case = cupy(), named(name)
    arrays = make_gradient(case, dtype, data_format)
    got = run_gradient(row, case, arrays, data_format, dtype)
    want = exact_gradient(case, row.operation, arrays, data_format)
    assert_close(got, want, dtype, reduction_of(case, row.operation))
    word = row.operation if row.variant or row.operation == "weight_grad" else "gather_"
    assert any(word in kernel for kernel, _ in fake.launched)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("operation", ["forward", "input_grad"])
def test_warpgroups(operation, data_format, cupy):
    """On a device that has them, layers of many channels; tensor copies read x, or grad_output, where it is."""
    fake = cupy(warpgroups=True)
    case = Case("many", (1, 64, 3, 64), (64, 136, 2, 2), bias=operation == "forward", keywords={"stride": (2, 1)})
    if operation == "forward":
        row = next(row for row in ROWS if not row.variant)
        arrays = make_arrays(case, "bfloat16", data_format)
        want = expected(case, arrays, data_format)
        got = run(row, case, arrays, data_format, "bfloat16", want.shape)
        assert_close(got, want, "bfloat16", case.reduction)
    else:
        row = next(row for row in GRADIENT_ROWS if row.name == "cupy/input_grad/gather")
        arrays = make_gradient(case, "bfloat16", data_format)
        want = exact_gradient(case, operation, arrays, data_format)
        got = run_gradient(row, case, arrays, data_format, "bfloat16")
        assert_close(got, want, "bfloat16", reduction_of(case, operation))
    assert "hopper_gather<" in fake.launched[-1][0]  # the trial's come first


@pytest.mark.parametrize("fault", ["compiler", "map"])
def test_a_device_that_fails_its_trial_computes_without_warpgroups(fault, cupy, monkeypatch):
    fake, encode = cupy(warpgroups=True), hopper_driver.encode

    def refused(*_):
        raise RuntimeError("no compiler for sm_90a")

    def half_of_x(tensor, address):
        first, second, *others = tensor.sizes
        return encode(replace(tensor, sizes=(first, second // 2, *others)), address)

    if fault == "compiler":
        monkeypatch.setattr(compiling, "machine_code", refused)
    else:
        monkeypatch.setattr(hopper_driver, "encode", half_of_x)
    case = Case("many", (1, 64, 3, 64), (64, 136, 2, 2), keywords={"stride": (2, 1)})
    arrays, row = make_arrays(case, "float16"), next(row for row in ROWS if not row.variant)
    want = expected(case, arrays)
    wrong = " and ".join(f"float16 highest {data_format}" for data_format in ("channels_first", "channels_last"))
    reason = "no compiler for sm_90a" if fault == "compiler" else f"wrong results with {wrong}"
    with pytest.warns(RuntimeWarning, match=f"failed its trial there: {reason}"):
        got = run(row, case, arrays, "channels_first", "float16", want.shape)
    assert_close(got, want, "float16", case.reduction)
    assert "gather_tile" in fake.launched[-1][0]


def test_other_devices_have_no_warpgroups(cupy):
    fake = cupy(warpgroups=True, capability=(10, 0))
    case = named("2d-kernel-is-twice-stride")
    arrays = make_arrays(case, "float16")
    gtc.conv_transpose(*arrays, **case.keywords, backend="cupy", formulation="gather")
    assert fake.launched
    assert not any("hopper" in kernel for kernel, _ in fake.launched)


def test_arrays_on_the_device_are_used_where_they_are(cupy):
    cupy()
    case = named("2d-kernel-is-twice-stride")
    arrays = make_arrays(case, "float32")
    x, weight, bias = (asarray(a) for a in arrays)
    assert memory.as_device(x) is x
    given = gtc.conv_transpose(x, weight, bias, **case.keywords, backend="cupy", formulation="gather")
    assert isinstance(given, Array)
    assert_close(given.host, expected(case, arrays), "float32", case.reduction)
    # Not contiguous: copied. Not aligned to 16 bytes: copied too, since kernels read 16 bytes at once.
    wide = asarray(np.repeat(arrays.x, 2, axis=-1))[..., ::2]
    again = gtc.conv_transpose(wide, weight, bias, **case.keywords, backend="cupy", formulation="gather")
    np.testing.assert_array_equal(again.host, given.host)
    flat = asarray(np.zeros(33, np.float32))[1:]
    assert memory.as_device(flat).data.ptr != flat.data.ptr
    assert memory.as_device(flat).data.ptr % 16 == 0


def test_out_on_the_device(cupy):
    cupy()
    case = named("2d-kernel-is-stride")
    arrays = make_arrays(case, "float32")
    want = expected(case, arrays)
    out = asarray(np.zeros((*want.shape[:-1], 2 * want.shape[-1]), np.float32))[..., ::2]
    found = gtc.conv_transpose(*(asarray(a) for a in arrays), **case.keywords, backend="cupy", out=out)
    assert found is out
    assert_close(np.ascontiguousarray(out.host), want, "float32", case.reduction)


def test_prepared_weights_are_packed_once_for_each_order(cupy):
    fake = cupy()
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((40, 20, 2, 2)).astype(np.float32)
    layer = gtc.ConvTranspose(weight, stride=2, backend="cupy", formulation="gather")
    for size in (3, 3, 9, 9, 24):
        x = rng.standard_normal((1, 40, size, size)).astype(np.float32)
        want = gtc.conv_transpose(x, weight, stride=2, backend="reference")
        np.testing.assert_allclose(layer(x), want, rtol=1e-3, atol=1e-4)
    packs = [kernel for kernel, _ in fake.launched if "pack_weight" in kernel]
    assert 1 <= len(packs) <= 2
    assert len(fake.launched) >= 5 + len(packs)


def test_precision_that_the_device_has_not(cupy):
    cupy(capability=(7, 5))
    x, weight = np.ones((1, 2, 3), np.float32), np.ones((2, 3, 2), np.float32)
    with pytest.raises(gtc.BackendUnavailableError, match=r"8\.0.*7\.5.*precision='highest'"):
        gtc.conv_transpose(x, weight, backend="cupy", precision="tf32")
    assert gtc.conv_transpose(x, weight, backend="cupy").shape == (1, 3, 4)


def test_explanation_names_the_kernel(cupy):
    cupy()
    found = gtc.explain((1, 64, 16, 16), (64, 32, 2, 2), stride=2, backend="cupy", formulation="scatter")
    assert "scatter_atomic<" in found.kernel
    assert found.workspace_bytes == 0


def test_warm_up_compiles_ahead(cupy):
    fake = cupy()
    params = make_params(
        1, stride=2, padding=0, output_padding=0, output_size=None, groups=1, dilation=1, activation=None,
        data_format="channels_first",
    )  # fmt: skip
    plan = make_plan(params, (1, 3, 4), (3, 2, 2), "float32", False)
    planned = scatter_owned_launches(plan, launch.device_properties(0))
    compiling.warm_up((*planned.pack, *planned.launch), 0)
    assert len(list(fake.folder.glob("*.cuh"))) == 2
    assert not fake.launched


def test_compiler_log_is_shown(cupy, monkeypatch):
    cupy()
    monkeypatch.setattr(compiling, "read_source", lambda name: f"no such thing in {name}")
    with pytest.raises(RuntimeError, match=r"(?s)cannot compile gtc::.* for sm_90:.*error: no such thing"):
        gtc.conv_transpose(np.ones((1, 2, 3), np.float32), np.ones((2, 3, 2), np.float32), backend="cupy")


@pytest.mark.parametrize(
    ("part", "words"),
    [("getDeviceCount", "driver cannot be used"), ("getVersion", "NVRTC"), (None, "no device")],
)
def test_what_is_missing_is_said(part, words, cupy):
    fake = cupy()

    def fail():
        raise RuntimeError("not here")

    if part is None:
        fake.cuda.runtime.getDeviceCount = lambda: 0
    else:
        setattr(fake.cuda.nvrtc if part == "getVersion" else fake.cuda.runtime, part, fail)
    status = gtc.backends()["cupy"]
    assert not status
    assert words in status.reason
    assert implementations("cupy")


@pytest.mark.parametrize("number", [0, 9])
def test_forced_tiles_as_the_tests_for_a_device_run_them(number, cupy):
    cupy()
    shape, dtype, precision, device = EDGE_TABLE[number].values
    arrays = make_arrays(EDGES["merged"], dtype)
    plan = plan_of(EDGES["merged"], arrays, "channels_first", precision)
    planned = VARIANTS["gather"](plan, device, shape=shape, packed=product_of("merged", plan))
    got = run_launches(plan, planned, arrays)
    assert_close(got, expected(EDGES["merged"], arrays), dtype, EDGES["merged"].reduction, precision)
