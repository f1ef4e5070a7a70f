"""What the driver does in its own order: limits, streams, empty arrays, lifetimes, subnormals. On a device."""

from __future__ import annotations

import numpy as np
import pytest
from cases import named
from checks import assert_close, expected, make_arrays

import gpu_transconv as gtc

BACKENDS = ("cupy", "numba-cuda")
CASE = named("2d-kernel-is-twice-stride")
RNG = np.random.default_rng(21)


def want(x, weight, **keywords):
    return gtc.conv_transpose(x, weight, backend="reference", **keywords)


def busy(cupy, products=40):
    """Enqueue some tens of milliseconds of work on the current stream."""
    block = cupy.ones((4096, 4096), np.float32)
    for _ in range(products):
        block = block @ block * 0
    return block[0, 0]


def test_launches_of_one_kernel_need_different_shared_memory():
    keywords = {"formulation": "scatter", "deterministic": True, "stride": 2}
    x = RNG.standard_normal((1, 64, 64, 64)).astype(np.float16)
    for kernel, padding, extra in ((4, 1, 0), (5, 2, 1), (4, 1, 0)):
        weight = (RNG.standard_normal((64, 64, kernel, kernel)) / 30).astype(np.float16)
        given = keywords | {"padding": padding, "output_padding": extra}
        got = gtc.conv_transpose(x, weight, backend="cupy", **given)
        np.testing.assert_allclose(got, want(x, weight, **given), rtol=0.01, atol=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_an_empty_batch(library, backend):
    module = pytest.importorskip(library)
    x, weight = np.zeros((0, 3, 4, 5), np.float32), np.ones((3, 2, 2, 2), np.float32)
    make = module.asarray if library == "cupy" else lambda a: module.from_numpy(a).cuda()
    got = gtc.conv_transpose(make(x), make(weight), stride=2, backend=backend)
    assert tuple(got.shape) == (0, 2, 8, 10)
    assert type(got) is type(make(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_device_is_a_memory_error(backend):
    x = np.ones((1, 1, 1 << 18), np.float32)
    weight = np.ones((1, 1 << 20, 1), np.float32)  # a terabyte of output
    import numba.cuda

    given = numba.cuda.to_device(x), numba.cuda.to_device(weight)
    with pytest.raises(MemoryError):
        gtc.conv_transpose(*given, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("view", ["every second", "transposed"])
def test_arrays_of_any_strides(view, backend):
    cupy = pytest.importorskip("cupy")
    arrays = make_arrays(CASE, "float32")
    wide = np.repeat(arrays.x, 2, axis=-1) if view == "every second" else arrays.x.transpose(0, 1, 3, 2).copy()
    x = cupy.asarray(wide)
    x = x[..., ::2] if view == "every second" else x.transpose(0, 1, 3, 2)
    shape = expected(CASE, arrays).shape
    out = cupy.full((*shape[:-1], 2 * shape[-1]), np.nan, np.float32)[..., ::2]
    weight, bias = cupy.asarray(arrays.weight), cupy.asarray(arrays.bias)
    assert gtc.conv_transpose(x, weight, bias, **CASE.keywords, backend=backend, out=out) is out
    assert_close(out.get(), expected(CASE, arrays), "float32", CASE.reduction)


def test_float32_subnormals():
    """CuPy compiles with -ftz=true, so that float32 subnormals count as zero; Numba's kernels keep them."""
    x, weight = np.full((1, 1, 3), 1e-40, np.float32), np.ones((1, 1, 1), np.float32)
    got = {backend: gtc.conv_transpose(x, weight, backend=backend) for backend in ("cpu", *BACKENDS)}
    np.testing.assert_array_equal(got["cpu"], x)
    np.testing.assert_array_equal(got["numba-cuda"], x)
    np.testing.assert_array_equal(got["cupy"], np.zeros_like(x))
    wide = np.full((1, 1, 3), 1e-310)  # a subnormal float64 stays
    np.testing.assert_array_equal(gtc.conv_transpose(wide, weight.astype(np.float64), backend="cupy"), wide)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_made_on_other_streams_are_waited_for(backend):
    """Numba arrays say on which stream they are made; that of the weight is still busy."""
    cuda = pytest.importorskip("numba.cuda")
    cupy = pytest.importorskip("cupy")
    arrays = make_arrays(CASE, "float32")
    streams = cuda.stream(), cuda.stream()
    x = cuda.to_device(arrays.x, stream=streams[0]).bind(streams[0])
    late = cupy.zeros(arrays.weight.shape, np.float32)
    cupy.cuda.runtime.deviceSynchronize()
    with cupy.cuda.Stream.from_external(_Address(int(streams[1].handle))):
        late[...] = cupy.asarray(arrays.weight) + busy(cupy)
    weight = cuda.as_cuda_array(late, sync=False).bind(streams[1])
    got = gtc.conv_transpose(x, weight, **CASE.keywords, backend=backend)
    cupy.cuda.runtime.deviceSynchronize()
    assert_close(got.copy_to_host(), expected(CASE, arrays._replace(bias=None)), "float32", CASE.reduction)


class _Address:
    def __init__(self, pointer):
        self.pointer = pointer

    def __cuda_stream__(self):
        return 0, self.pointer


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_weights_outlive_their_layer_where_another_stream_reads_them(formulation):
    cupy = pytest.importorskip("cupy")
    weight, x = (RNG.standard_normal(shape).astype(np.float32) for shape in ((64, 32, 4, 4), (1, 64, 16, 16)))
    expect, given = want(x, weight, stride=2), cupy.asarray(x)
    other = cupy.cuda.Stream(non_blocking=True)
    for _ in range(20):
        layer = gtc.ConvTranspose(
            cupy.asarray(weight), stride=2, backend="cupy", formulation=formulation, deterministic=True
        )
        layer(given)
        cupy.cuda.runtime.deviceSynchronize()
        with other:
            late = given + busy(cupy)
            got = layer(late)
        del layer
        taken = [cupy.full(n, np.nan, np.float32) for n in (weight.size, weight.size + 64, 2 * weight.size)]
        other.synchronize()
        np.testing.assert_allclose(got.get(), expect, rtol=1e-3, atol=1e-3)
        del taken


def test_jax_and_the_backend_leave_each_other_s_memory_alone():
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("this JAX has no CUDA")
    x, weight = (RNG.standard_normal(shape).astype(np.float32) for shape in ((1, 16, 64, 64), (16, 8, 4, 4)))
    expect, filters = want(x, weight, stride=2), jax.device_put(weight)
    results = []
    for i in range(300):
        got = gtc.conv_transpose(jax.device_put(x) * (i + 1), filters, stride=2)
        results.append(got * 1)
        jax.numpy.full(x.shape, np.nan)  # takes what has been given back
        del got
    for i, result in enumerate(results):
        np.testing.assert_allclose(np.asarray(result) / (i + 1), expect, rtol=1e-3, atol=1e-3)
