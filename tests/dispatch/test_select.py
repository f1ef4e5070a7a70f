"""Which kernel runs, for backends that are not here: fakes stand in for the GPU's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from checks import keywords_of, refused
from support.fakes import DeviceArray, FakeBackend

import gpu_transconv as gtc
from gpu_transconv.dispatch.select import invalidate, select
from gpu_transconv.kernels.registry import FOLDERS, kernels
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.settings import BACKENDS, resolve

X, WEIGHT = np.arange(24, dtype="f4").reshape(1, 2, 3, 4), np.ones((2, 3, 2, 2), "f4")


def plan(dtype="float32", **keywords):
    return make_plan(make_params(2, **keywords), X.shape, WEIGHT.shape, dtype, False)


def chosen(device, **keywords):
    return select(plan(), resolve(**keywords), device).implementation.name


def test_callers_may_ask_for_the_backends_there_are():
    assert tuple(FOLDERS) == BACKENDS


FORWARD = [kernel for kernel in kernels() if kernel.operation == "forward"]


def test_names_are_unique_and_full():
    names = [kernel.name for kernel in kernels()]
    assert len(set(names)) == len(names)
    assert [kernel.name for kernel in FORWARD] == [
        *("cpu/gather", "cpu/scatter"),
        *("numba-cuda/gather", "numba-cuda/scatter/atomic", "numba-cuda/scatter/tiles"),
        *("cupy/gather", "cupy/scatter/atomic", "cupy/scatter/tiles"),
        *("reference/gather", "reference/scatter"),
    ]


@pytest.mark.parametrize("operation", ["input_grad", "weight_grad"])
def test_every_backend_has_the_same_kernels_of_every_operation(operation):
    names = [kernel.name for kernel in kernels() if kernel.operation == operation]
    assert names == [kernel.name.replace("/", f"/{operation}/", 1) for kernel in FORWARD]


@pytest.mark.parametrize("row", FORWARD, ids=lambda row: row.name)
def test_a_row_is_had_by_its_keywords(row, install):
    install(cupy=FakeBackend(), numba_cuda=FakeBackend())
    assert chosen("cpu", **keywords_of(row)) == row.name


@pytest.mark.parametrize(
    ("deterministic", "by_name", "prefers_scatter"),
    [
        (None, "cupy/scatter/atomic", "cupy/scatter/tiles"),
        (True, "cupy/scatter/tiles", "cupy/scatter/tiles"),
        (False, "cupy/scatter/atomic", "cupy/scatter/atomic"),
    ],
)
def test_atomics_run_only_where_that_was_allowed(install, deterministic, by_name, prefers_scatter):
    install(cupy=FakeBackend(ratios={"gather": 1e9, "scatter/atomic": 1.0, "scatter/tiles": 1e8}))
    assert chosen("cpu", backend="cupy", formulation="scatter", deterministic=deterministic) == by_name
    assert chosen("cuda", deterministic=deterministic) == prefers_scatter
    assert chosen("cuda", formulation="gather", deterministic=deterministic) == "cupy/gather"


@pytest.mark.parametrize(
    ("present", "expected"),
    [(("cupy", "numba_cuda"), "cupy/gather"), (("numba_cuda",), "numba-cuda/gather"), (("cupy",), "cupy/gather")],
)
def test_cuda_arrays_by_themselves(install, present, expected):
    install(**{name: FakeBackend() for name in present})
    assert chosen("cuda") == expected
    assert chosen("cpu").startswith("cpu/")  # never for arrays in host memory


def test_cuda_arrays_without_a_backend(install):
    install()
    with refused(gtc.BackendUnavailableError, "no backend", "cupy: not here; install it", "numba-cuda: not here"):
        chosen("cuda")
    with refused(gtc.BackendUnavailableError, "no backend", "cupy"):
        gtc.conv_transpose(DeviceArray(X), DeviceArray(WEIGHT))


def test_a_backend_by_name_never_falls_back(install):
    install(cupy=FakeBackend("no driver; install one"), numba_cuda=FakeBackend())
    with refused(gtc.BackendUnavailableError, "backend 'cupy' is not available", "no driver; install one"):
        chosen("cuda", backend="cupy")
    assert gtc.backends()["cupy"] == (False, "no driver; install one")
    assert gtc.backends()["numba-cuda"]


def test_a_module_that_is_missing_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpu_transconv.kernels.cupy", None)
    invalidate()
    assert "cupy" in gtc.backends()["cupy"].reason
    monkeypatch.undo()
    invalidate()


@pytest.mark.parametrize(
    ("backend", "dtype", "taken"),
    [
        ("cupy", "complex128", True),
        ("cupy", "bfloat16", True),
        ("cupy", "int32", False),
        ("numba-cuda", "float16", True),
        ("numba-cuda", "bfloat16", False),
        ("numba-cuda", "complex64", False),
    ],
)
def test_dtypes_by_the_contract(install, backend, dtype, taken):
    install(cupy=FakeBackend(), numba_cuda=FakeBackend())
    if taken:
        assert select(plan(dtype), resolve(backend)).implementation.backend == backend
        return
    with refused(TypeError, "x must have one of the dtypes", "float32", f"got {dtype}"):
        select(plan(dtype), resolve(backend))


def test_auto_on_a_device_takes_a_backend_that_has_the_dtype(install):
    install(cupy=FakeBackend(), numba_cuda=FakeBackend())
    with refused(TypeError, "x must have one of the dtypes", "complex64", "on a CUDA device", "got int64"):
        select(plan("int64"), resolve(), "cuda")
    install(numba_cuda=FakeBackend())
    with refused(TypeError, "x must have one of the dtypes float16, float32, float64 on", "got complex64"):
        select(plan("complex64"), resolve(), "cuda")


def test_a_row_that_refuses(install):
    install(cupy=FakeBackend(ratios={"scatter/tiles": 0.5}, refusals={"scatter/tiles": "its tile is too large"}))
    choice = select(plan(), resolve(), "cuda")
    assert choice.implementation.name == "cupy/gather"
    assert "cupy/scatter/tiles cannot run this problem: its tile is too large" in choice.reason
    with refused(gtc.BackendUnavailableError, "cupy/scatter/tiles", "its tile is too large"):
        chosen("cpu", backend="cupy", formulation="scatter", deterministic=True)
    assert chosen("cpu", backend="cupy", formulation="scatter") == "cupy/scatter/atomic"


@pytest.mark.parametrize(("dtype", "expected"), [("float32", "tf32"), ("float16", "highest"), ("float64", "highest")])
def test_precision_is_part_of_the_plan(dtype, expected):
    arguments = make_params(2), X.shape, WEIGHT.shape, dtype, False
    assert make_plan(*arguments, "tf32").precision == expected
    assert make_plan(*arguments).precision == "highest"


# Where the arrays go.

WANT = gtc.conv_transpose(X, WEIGHT, stride=2, backend="reference")


@pytest.mark.parametrize("prepared", [False, True])
def test_numpy_arrays_travel_to_the_device_and_back(install, prepared):
    fake = FakeBackend()
    install(cupy=fake)
    keywords = {"stride": 2, "backend": "cupy"}
    layer = gtc.ConvTranspose(WEIGHT, **keywords) if prepared else None
    got = layer(X) if layer else gtc.conv_transpose(X, WEIGHT, **keywords)
    np.testing.assert_array_equal(got, WANT)
    assert type(got) is np.ndarray
    assert fake.log == ["to device", "to device", "gather", "from device"]
    out = np.empty((*WANT.shape[:-1], 2 * WANT.shape[-1]), "f4")[..., ::2]
    assert (layer(X, out) if layer else gtc.conv_transpose(X, WEIGHT, **keywords, out=out)) is out
    np.testing.assert_array_equal(out, WANT)
    if layer:  # the weights stay on the device
        assert fake.log[4:] == ["to device", "gather", "from device"]


@pytest.mark.parametrize("prepared", [False, True])
def test_cuda_arrays_stay_on_their_device_and_stream(install, prepared):
    fake = FakeBackend()
    install(cupy=fake)
    x, weight = DeviceArray(X, stream=7), DeviceArray(WEIGHT)
    layer = gtc.ConvTranspose(weight, stride=2) if prepared else None
    fake.streams.clear()
    got = layer(x) if layer else gtc.conv_transpose(x, weight, stride=2)
    assert isinstance(got, DeviceArray)
    np.testing.assert_array_equal(got.host, WANT)
    assert fake.log == (["on device", "gather"] if prepared else ["gather"])
    assert set(fake.streams) == {7, "left"}


def test_a_cuda_output(install):
    fake = FakeBackend()
    install(cupy=fake)
    x, weight = DeviceArray(X), DeviceArray(WEIGHT)
    out = DeviceArray(np.full(WANT.shape, np.nan, "f4"))
    assert gtc.conv_transpose(x, weight, stride=2, out=out) is out
    np.testing.assert_array_equal(out.host, WANT)
    assert fake.log == ["gather"]
    wide = DeviceArray(np.full((*WANT.shape[:-1], 20), np.nan, "f4")[..., : WANT.shape[-1]])
    assert gtc.conv_transpose(x, weight, stride=2, out=wide) is wide
    np.testing.assert_array_equal(wide.host, WANT)
    assert fake.log == ["gather", "gather", "on device"]


def test_a_cuda_output_over_the_input(install):
    install(cupy=FakeBackend())
    x = DeviceArray(X.copy())
    ones = DeviceArray(np.eye(2, dtype="f4").reshape(2, 2, 1, 1))
    assert gtc.conv_transpose(x, ones, out=x) is x
    np.testing.assert_array_equal(x.host, X)


def test_an_empty_batch_launches_nothing(install):
    fake = FakeBackend()
    install(cupy=fake)
    assert gtc.conv_transpose(X[:0], WEIGHT, backend="cupy").shape == (0, 3, 4, 5)
    assert gtc.conv_transpose(DeviceArray(X[:0]), DeviceArray(WEIGHT)).shape == (0, 3, 4, 5)
    assert "gather" not in fake.log


def test_mixed_devices(install):
    install(cupy=FakeBackend())
    on_device = DeviceArray(WEIGHT)
    with refused(TypeError, "weight must be on x's device cpu", "got one on cuda"):
        gtc.conv_transpose(X, on_device)
    with refused(TypeError, "bias must be on x's device cuda", "got one on cpu"):
        gtc.conv_transpose(DeviceArray(X), on_device, np.ones(3, "f4"))
    with refused(TypeError, "x must be on weight's device cuda", "got one on cpu"):
        gtc.ConvTranspose(on_device)(X)
    with refused(TypeError, "out must be an array on a CUDA device", "got ndarray"):
        gtc.conv_transpose(DeviceArray(X), on_device, out=np.empty((1, 3, 4, 5), "f4"))
    with refused(TypeError, "out must be a NumPy array", "got DeviceArray"):
        gtc.conv_transpose(X, WEIGHT, out=DeviceArray(np.empty((1, 3, 4, 5), "f4")))
    for name in ("cpu", "reference"):
        with refused(TypeError, "x is on a CUDA device", repr(name)):
            gtc.conv_transpose(DeviceArray(X), on_device, backend=name)


def test_dtypes_of_cuda_arrays(install):
    install(cupy=FakeBackend())
    with refused(TypeError, "weight", "x's dtype float32", "got float64"):
        gtc.conv_transpose(DeviceArray(X), DeviceArray(WEIGHT.astype("f8")))
    with refused(TypeError, "x must have one of the dtypes", "got int8"):
        gtc.conv_transpose(DeviceArray(X.astype("i1")), DeviceArray(WEIGHT))
