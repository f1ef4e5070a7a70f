"""CUDA graphs on a device: replays write to memory that nobody else has, and what cannot be captured is refused."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_transconv as gtc

BACKENDS = ("cupy", "numba-cuda")
RNG = np.random.default_rng(22)
#: A reduction that is split on any device, with partial sums in scratch memory; in half precision the atomic scatter
#: of both backends sums in scratch memory too.
X, WEIGHT = (RNG.standard_normal(s).astype(np.float32) / 20 for s in ((1, 700, 2, 3), (700, 9, 2, 2)))


def want(x):
    return gtc.conv_transpose(x, WEIGHT, stride=2, backend="reference")


@pytest.fixture
def torch():
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return module


def take_memory(torch):
    """Others take what both pools have to give, and write to it."""
    cupy = pytest.importorskip("cupy")
    sizes = [1 << n for n in range(9, 24)]
    arrays = [cupy.full(n // 4, 7, np.float32) for n in sizes for _ in range(4)]
    return arrays + [torch.full((n // 4,), 7.0, device="cuda") for n in sizes for _ in range(4)]


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "function"])
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_capture_by_torch(torch, backend, dtype, formulation, prepared):
    x, weight = (torch.from_numpy(a).cuda().to(getattr(torch, dtype)) for a in (X, WEIGHT))
    keywords = {"stride": 2, "backend": backend, "formulation": formulation, "deterministic": False}
    layer = gtc.ConvTranspose(weight, **keywords) if prepared else None
    call = layer or (lambda x: gtc.conv_transpose(x, weight, **keywords))
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # warm up, on another stream than that of the capture
        call(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = call(x)
    taken = take_memory(torch)
    for factor in (1, -2):
        x.copy_(torch.from_numpy(factor * X))
        graph.replay()
        torch.cuda.synchronize()
        np.testing.assert_allclose(got.float().cpu().numpy(), want(factor * X), rtol=0.01, atol=0.01)
        assert all(bool((array == 7).all()) for array in taken)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_first_call_inside_of_a_capture_is_refused(torch, backend):
    weight = torch.from_numpy(WEIGHT).cuda()
    layer = gtc.ConvTranspose(weight, stride=2, backend=backend)
    x = torch.from_numpy(X).cuda()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="captured into a CUDA graph"), torch.cuda.graph(graph):
        layer(x)
    torch.cuda.synchronize()
    np.testing.assert_allclose(layer(x).cpu().numpy(), want(X), rtol=1e-3, atol=1e-3)


def test_capture_by_cupy():
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream(non_blocking=True)
    layer = gtc.ConvTranspose(cupy.asarray(WEIGHT), stride=2, backend="cupy", formulation="gather")
    x = cupy.asarray(X)
    cupy.cuda.runtime.deviceSynchronize()
    with stream:
        layer(x)
        stream.begin_capture()
        got = layer(x)
        graph = stream.end_capture()
        taken = [cupy.full(1 << n, 7, np.float32) for n in range(7, 22) for _ in range(4)]
        for factor in (1, -2):
            x[...] = cupy.asarray(factor * X)
            graph.launch()
            np.testing.assert_allclose(got.get(), want(factor * X), rtol=1e-3, atol=1e-3)
        assert all(bool((array == 7).all()) for array in taken)
