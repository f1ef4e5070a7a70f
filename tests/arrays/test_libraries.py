"""Arrays of other libraries: read without a copy, and results of the caller's own type."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from cases import named
from checks import DTYPES, assert_close, expected, make_arrays, numpy_dtype, refused
from support.fakes import DeviceArray, FakeBackend, handed_to_kernels

import gpu_transconv as gtc
from gpu_transconv.arrays.pool import SMALLEST

CASE = named("2d-kernel-is-twice-stride")
KEYWORDS = CASE.keywords


class Dlpack:
    """An array that others can read through DLPack alone."""

    def __init__(self, array):
        self.array, self.dtype, self.shape = array, array.dtype, array.shape

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Interface:
    """An array that others can read through ``__array_interface__`` alone."""

    def __init__(self, array):
        self.array, self.dtype, self.shape = array, array.dtype, array.shape

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class Torch:
    def __init__(self):
        self.torch = pytest.importorskip("torch")

    def make(self, array):
        if array.dtype == ml_dtypes.bfloat16:
            return self.torch.from_numpy(array.view("i2")).view(self.torch.bfloat16)
        return self.torch.from_numpy(array)

    def read(self, made):
        assert type(made) is self.torch.Tensor
        if made.dtype is self.torch.bfloat16:
            return made.view(self.torch.int16).numpy().view(ml_dtypes.bfloat16)
        return made.numpy()


class Jax:
    def __init__(self):
        self.jax = pytest.importorskip("jax")

    def make(self, array):
        made = self.jax.device_put(array)
        if made.dtype != array.dtype:
            pytest.skip("JAX has 32 bits only unless told otherwise")
        return made

    def read(self, made):
        assert isinstance(made, self.jax.Array)
        return np.asarray(made)


class Strict:
    def __init__(self):
        self.library = pytest.importorskip("array_api_strict")

    def make(self, array):
        if array.dtype.name not in ("float32", "float64", "complex64", "complex128", "int32", "int64"):
            pytest.skip("the standard has no such dtype")
        return self.library.asarray(array)

    def read(self, made):
        assert type(made).__module__.startswith("array_api_strict")
        return np.from_dlpack(made)


class ToNumpy:
    def __init__(self, make):
        self.make = make

    def read(self, made):
        assert type(made) is np.ndarray
        return made


LIBRARIES = {
    "torch": Torch,
    "jax": Jax,
    "array-api-strict": Strict,
    "dlpack": lambda: ToNumpy(Dlpack),
    "interface": lambda: ToNumpy(Interface),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]()


@pytest.mark.parametrize("dtype", DTYPES["cpu"])
@pytest.mark.parametrize("prepared", [False, True], ids=["function", "prepared"])
def test_results_are_of_the_same_kind(library, dtype, prepared):
    if dtype == "bfloat16" and isinstance(library, ToNumpy):
        pytest.skip("neither interface can say bfloat16")
    arrays = make_arrays(CASE, dtype)
    x, *weights = map(library.make, arrays)
    got = gtc.ConvTranspose(*weights, **KEYWORDS)(x) if prepared else gtc.conv_transpose(x, *weights, **KEYWORDS)
    found = library.read(got)
    assert found.dtype == numpy_dtype(dtype)
    assert_close(found, expected(CASE, arrays), dtype, CASE.reduction)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_copied(library, monkeypatch, dtype):
    if dtype == "bfloat16" and not isinstance(library, Torch | Jax):
        pytest.skip("only these have bfloat16")
    seen = handed_to_kernels(monkeypatch)
    side = int(np.sqrt(SMALLEST / 2))
    x, weight = (np.ones(shape, numpy_dtype(dtype)) for shape in ((1, 1, side, side), (1, 1, 2, 2)))
    x, weight = library.make(x), library.make(weight)
    got = gtc.conv_transpose(x, weight, stride=2)
    sources = [library.read(a) if not hasattr(a, "array") else a.array for a in (x, weight)]
    assert [np.shares_memory(a, b) for a, b in zip(seen, sources, strict=False)] == [True, True]
    assert np.shares_memory(seen[3], library.read(got))


def test_kinds_mix_on_the_host():
    torch = pytest.importorskip("torch")
    x, weight, bias = make_arrays(CASE, "float32")
    want = gtc.conv_transpose(x, weight, bias, **KEYWORDS)
    got = gtc.conv_transpose(torch.from_numpy(x), weight, Dlpack(bias), **KEYWORDS)
    np.testing.assert_array_equal(got.numpy(), want)
    layer = gtc.ConvTranspose(torch.from_numpy(weight), bias, **KEYWORDS)
    for given, kind in ((x, np.ndarray), (torch.from_numpy(x), torch.Tensor), (x, np.ndarray)):
        assert type(layer(given)) is kind


def test_results_of_other_kinds_through_a_gpu(library, install):
    install(cupy=FakeBackend())
    x, weight, _ = map(library.make, make_arrays(CASE, "float32"))
    want = expected(CASE, make_arrays(CASE, "float32")._replace(bias=None))
    got = library.read(gtc.conv_transpose(x, weight, **KEYWORDS, backend="cupy"))
    assert_close(got, want, "float32", CASE.reduction)


# --- out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "array-api-strict", "interface"])
def test_out_of_the_same_kind(name):
    library = LIBRARIES[name]()
    arrays = make_arrays(CASE, "float32")
    want = expected(CASE, arrays)
    memory = np.full(want.shape, np.nan, np.float32)
    out = library.make(memory)
    assert gtc.conv_transpose(*map(library.make, arrays), **KEYWORDS, out=out) is out
    filled = memory if name != "array-api-strict" else library.read(out)
    assert_close(filled, want, "float32", CASE.reduction)


def test_out_of_another_kind():
    torch = pytest.importorskip("torch")
    x, weight, _ = make_arrays(CASE, "float32")
    with refused(TypeError, "out must be a NumPy array like x", "got Tensor"):
        gtc.conv_transpose(x, weight, out=torch.ones(1))
    with refused(TypeError, "out must be a torch.Tensor like x", "got ndarray"):
        gtc.conv_transpose(torch.from_numpy(x), weight, out=x)


def test_out_of_jax():
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones((1, 1, 2))
    with refused(TypeError, "out must be an array that can be written", "JAX"):
        gtc.conv_transpose(x, x, out=x)


# --- torch ---------------------------------------------------------------------------------------------


def test_tensors_that_need_a_gradient():
    torch = pytest.importorskip("torch")
    x, weight = torch.ones(1, 1, 3), torch.nn.Parameter(torch.ones(1, 1, 2))
    for given in ({"x": x, "weight": weight}, {"x": weight, "weight": x[..., :2]}):
        with refused(TypeError, "", "needs no gradient", "torch.no_grad()", ".detach()") as caught:
            gtc.conv_transpose(**given)
        assert "gpu_transconv.torch" not in str(caught.value)  # there is no such module yet
    with torch.no_grad():
        got = gtc.conv_transpose(x, weight)
    assert not got.requires_grad
    assert torch.equal(got, gtc.conv_transpose(x, weight.detach()))


def test_autograd_knows_that_out_was_changed():
    torch = pytest.importorskip("torch")
    x, out = torch.ones(1, 1, 3, requires_grad=True), torch.ones(1, 1, 4)
    product = torch.nn.functional.pad(x, (0, 1)) * out
    gtc.conv_transpose(x.detach(), torch.ones(1, 1, 2), out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.parametrize("view", ["conj", "transposed", "negative"])
def test_tensors_that_are_views(view):
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 4, 5, dtype=torch.complex64)
    x = {"conj": x.conj(), "transposed": x.transpose(2, 3), "negative": x.conj().imag}[view]
    weight = torch.randn(3, 2, 3, 3, dtype=x.dtype)
    got = gtc.conv_transpose(x, weight)
    want = gtc.conv_transpose(x.resolve_neg().resolve_conj().numpy(), weight.numpy())
    np.testing.assert_array_equal(got.numpy(), want)


def test_tensors_that_cannot_be_read():
    torch = pytest.importorskip("torch")
    x, weight = torch.ones(1, 1, 3), torch.ones(1, 1, 2)
    with refused(TypeError, "x must be a dense tensor", "got torch.sparse_coo"):
        gtc.conv_transpose(x.to_sparse(), weight)
    with refused(TypeError, "weight must be a dense tensor", "meta"):
        gtc.conv_transpose(x, weight.to("meta"))
    with refused(TypeError, "x must be a tensor that NumPy can read", "float8"):
        gtc.conv_transpose(x.to(torch.float8_e4m3fn), weight)
    with refused(TypeError, "x must have one of the dtypes", "got int8"):
        gtc.conv_transpose(x.to(torch.int8), weight)


# --- others --------------------------------------------------------------------------------------------


def test_jax_tracers_are_refused():
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones((1, 1, 2))
    with refused(TypeError, "x must be a concrete array", "jit", "pure_callback"):
        jax.jit(lambda x: gtc.conv_transpose(x, x))(x)


def test_jax_through_a_callback():
    jax = pytest.importorskip("jax")
    x, weight = jax.numpy.ones((1, 2, 3)), jax.numpy.ones((2, 1, 2))
    shape = jax.ShapeDtypeStruct((1, 1, 4), x.dtype)
    inside = jax.jit(lambda x: jax.pure_callback(lambda a: gtc.conv_transpose(a, weight), shape, x))
    np.testing.assert_array_equal(inside(x), gtc.conv_transpose(x, weight))


def test_devices_of_the_array_standard():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    x = strict.ones((1, 1, 3), device=device)
    got = gtc.conv_transpose(x, x)
    assert got.device == device


def test_an_object_that_fails_to_be_read():
    class Broken(Dlpack):
        def __dlpack__(self, **keywords):
            raise BufferError("it is elsewhere")

    with refused(TypeError, "weight must be an array in host memory", "Broken", "it is elsewhere"):
        gtc.conv_transpose(np.ones((1, 1, 2)), Broken(np.ones((1, 1, 2))))


class OnCuda(Dlpack):
    def __dlpack_device__(self):
        return (2, 1)


def test_dlpack_of_a_device_needs_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with refused(TypeError, "x must be an array with __cuda_array_interface__", "OnCuda", "install cupy"):
        gtc.conv_transpose(OnCuda(np.ones((1, 1, 2))), np.ones((1, 1, 2)))


def fake_cupy(array_type):
    """A module that knows of two devices and of the stream that is current on each."""

    class Device:
        current = 0

        def __init__(self, number):
            self.id, self.before = number, None

        def __enter__(self):
            self.before, Device.current = Device.current, self.id

        def __exit__(self, *_):
            Device.current = self.before

    stream = lambda number=-1: SimpleNamespace(ptr=100 + (Device.current if number < 0 else number))  # noqa: E731
    cuda = SimpleNamespace(Device=Device, get_current_stream=stream)
    made = lambda shape, dtype: array_type(np.full(shape, np.nan, dtype), Device.current)  # noqa: E731
    return SimpleNamespace(ndarray=array_type, cuda=cuda, empty=made)


class CupyArray(DeviceArray):
    def __init__(self, host, number=0):
        super().__init__(host)
        self.device = sys.modules["cupy"].cuda.Device(number)


def test_cupy_arrays_run_on_their_device_and_its_stream(monkeypatch, install):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(CupyArray))
    fake = FakeBackend()
    install(cupy=fake)
    x, weight, _ = make_arrays(CASE, "float32")
    got = gtc.conv_transpose(CupyArray(x, 1), CupyArray(weight, 1), **KEYWORDS)
    assert type(got) is CupyArray
    assert got.device.id == 1
    assert fake.streams == [101, "left"]
    assert fake.log == ["gather"]
    assert_close(got.host, expected(CASE, make_arrays(CASE, "float32")._replace(bias=None)), "float32", CASE.reduction)
    assert sys.modules["cupy"].cuda.Device.current == 0
    with refused(TypeError, "weight must be on x's device cuda:1", "got one on cuda:0"):
        gtc.conv_transpose(CupyArray(x, 1), CupyArray(weight, 0))


def test_no_library_is_imported_for_an_array():
    code = """
import sys, numpy as np, gpu_transconv as gtc
class Some:
    def __init__(self, array): self.__array_interface__, self.keep = array.__array_interface__, array
x = Some(np.ones((1, 1, 2)))
gtc.conv_transpose(x, x, backend="reference")
assert not {"torch", "jax", "cupy", "numba"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
