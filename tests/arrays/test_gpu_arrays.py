"""Arrays on a CUDA device, of each library that has them: in and out without a copy, on the library's stream."""

from __future__ import annotations

import numpy as np
import pytest
from cases import named
from checks import assert_close, expected, make_arrays, refused

import gpu_transconv as gtc

CASE = named("2d-kernel-is-twice-stride")
ARRAYS = make_arrays(CASE, "float32")
WANT = expected(CASE, ARRAYS)

pytestmark = pytest.mark.gpu("cupy")


class Cupy:
    def __init__(self):
        self.library = pytest.importorskip("cupy")

    def make(self, array):
        return self.library.asarray(array)

    def read(self, made):
        assert type(made) is self.library.ndarray
        return made.get()

    def address(self, made):
        return made.data.ptr


class Torch(Cupy):
    def __init__(self):
        self.library = pytest.importorskip("torch")
        if not self.library.cuda.is_available():
            pytest.skip("this PyTorch has no CUDA")

    def make(self, array):
        return self.library.from_numpy(array).cuda()

    def read(self, made):
        assert type(made) is self.library.Tensor
        assert made.is_cuda
        return made.cpu().numpy()

    def address(self, made):
        return made.data_ptr()


class Numba(Cupy):
    def __init__(self):
        self.library = pytest.importorskip("numba.cuda")

    def make(self, array):
        return self.library.to_device(array)

    def read(self, made):
        assert hasattr(made, "__cuda_ndarray__")
        return made.copy_to_host()

    def address(self, made):
        return made.__cuda_array_interface__["data"][0]


class Jax(Cupy):
    def __init__(self):
        self.library = pytest.importorskip("jax")
        if self.library.default_backend() != "gpu":
            pytest.skip("this JAX has no CUDA")

    def make(self, array):
        return self.library.device_put(array)

    def read(self, made):
        assert isinstance(made, self.library.Array)
        assert made.devices() == self.make(np.ones(1)).devices()
        return np.asarray(made)


@pytest.fixture(params=[Cupy, Torch, Numba, Jax], ids=lambda kind: kind.__name__.lower())
def library(request):
    return request.param()


@pytest.mark.parametrize("prepared", [False, True], ids=["function", "prepared"])
def test_results_are_of_the_same_kind(library, prepared, launched):
    x, weight, bias = map(library.make, ARRAYS)
    if prepared:
        got = gtc.ConvTranspose(weight, bias, **CASE.keywords)(x)
    else:
        got = gtc.conv_transpose(x, weight, bias, **CASE.keywords)
    assert_close(library.read(got), WANT, "float32", CASE.reduction)
    assert launched[-1].startswith("cupy/")


def test_out(library):
    x, weight, bias = map(library.make, ARRAYS)
    out = library.make(np.full(WANT.shape, np.nan, np.float32))
    if isinstance(library, Jax):
        with refused(TypeError, "out must be an array that can be written"):
            gtc.conv_transpose(x, weight, bias, **CASE.keywords, out=out)
        return
    before = library.address(out)
    assert gtc.conv_transpose(x, weight, bias, **CASE.keywords, out=out) is out
    assert library.address(out) == before
    assert_close(library.read(out), WANT, "float32", CASE.reduction)


def test_bfloat16_tensors():
    library = Torch()
    torch = library.library
    x, weight, bias = (library.make(a).to(torch.bfloat16) for a in ARRAYS)
    got = gtc.conv_transpose(x, weight, bias, **CASE.keywords)
    assert got.dtype is torch.bfloat16
    want = torch.nn.functional.conv_transpose2d(
        x.double(), weight.double(), bias.double(), stride=CASE.keywords["stride"], padding=CASE.keywords["padding"]
    )
    assert float((got.double() - want).abs().max()) <= 2**-7 * float(want.abs().max())


@pytest.mark.parametrize("kind", [Cupy, Torch], ids=["cupy", "torch"])
def test_work_follows_the_library_s_stream(kind):
    """x is written on a stream that is still busy; the result, read on the same stream, must know of it."""
    library = kind()
    module = library.library
    x, weight, bias = map(library.make, ARRAYS)
    stream = module.cuda.Stream(non_blocking=True) if kind is Cupy else module.cuda.Stream()
    (module.cuda.runtime.deviceSynchronize if kind is Cupy else module.cuda.synchronize)()
    with stream if kind is Cupy else module.cuda.stream(stream):
        late = module.zeros_like(x)
        busy = module.ones((4096, 4096), dtype=module.float32, **({} if kind is Cupy else {"device": "cuda"}))
        for _ in range(8):
            busy = busy @ busy * 0
        late[...] = x + busy[0, 0]
        got = gtc.conv_transpose(late, weight, bias, **CASE.keywords)
        assert_close(library.read(got), WANT, "float32", CASE.reduction)


def test_numpy_arrays_travel(launched):
    for backend in ("cupy", "numba-cuda"):
        if not gtc.backends()[backend]:
            continue
        got = gtc.conv_transpose(*ARRAYS, **CASE.keywords, backend=backend)
        assert type(got) is np.ndarray
        assert_close(got, WANT, "float32", CASE.reduction)
    assert launched[0] == "cupy/gather"


def test_mixed_devices():
    import cupy

    x, weight, _ = ARRAYS
    with refused(TypeError, "weight must be on x's device cuda:0", "got one on cpu"):
        gtc.conv_transpose(cupy.asarray(x), weight)
    with refused(TypeError, "x is on a CUDA device", "'cpu'"):
        gtc.conv_transpose(cupy.asarray(x), cupy.asarray(weight), backend="cpu")
