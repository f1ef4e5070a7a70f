"""CUDA tensors: by either GPU backend, on torch's current stream, in their memory format."""

from __future__ import annotations

import pytest
from torch_cases import LAST, OURS, THEIRS, torch

pytestmark = pytest.mark.gpu("cupy", "numba-cuda")


@pytest.fixture(autouse=True)
def _exact():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_values_strides_and_gradients(dtype, last, ndim):
    x, weight = (torch.randn(s, device="cuda").to(dtype) for s in ((2, 4, *[5] * ndim), (4, 3, *[3] * ndim)))
    if last and ndim > 1:
        x = x.to(memory_format=LAST[ndim])
    tolerance = {torch.float32: 1e-4, torch.float16: 1e-2, torch.float64: 1e-9}[dtype]
    found = []
    for side in (OURS, THEIRS):
        given = [t.detach().requires_grad_() for t in (x, weight)]
        y = side[ndim](*given, stride=2)
        found.append((y, *torch.autograd.grad((y * y).sum(), given)))
    assert found[0][0].stride() == found[1][0].stride()
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=30 * tolerance)


def test_current_stream_and_graphs():
    x, weight = torch.randn(1, 8, 64, device="cuda"), torch.randn(8, 8, 4, device="cuda")
    OURS[1](x, weight, stride=2)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = OURS[1](x, weight, stride=2)
    x.normal_()
    graph.replay()
    torch.testing.assert_close(y, THEIRS[1](x, weight, stride=2), rtol=1e-4, atol=1e-4)


def test_a_changed_weight_is_seen():
    x, weight = torch.randn(1, 8, 64, device="cuda"), torch.nn.Parameter(torch.randn(8, 8, 4, device="cuda"))
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(OURS[1](x, weight), THEIRS[1](x, weight), rtol=1e-4, atol=1e-4)
            weight.data.normal_()


def test_mixed_devices():
    with pytest.raises(RuntimeError, match="weight must be on input's device"):
        OURS[1](torch.ones(1, 2, 5, device="cuda"), torch.ones(2, 3, 4))
