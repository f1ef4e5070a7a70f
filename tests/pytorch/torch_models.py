"""Small models with transposed convolutions, for the tests of modules; empty where PyTorch is missing."""

from __future__ import annotations

import pytest

import gpu_transconv as gtc

torch = pytest.importorskip("torch")
nn = torch.nn

KINDS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
DEPTHS = tuple(KINDS)
GEOMETRY = {"stride": 2, "padding": 1}


def torchs(axes):
    return KINDS[axes]


def inputs(axes):
    return torch.randn(2, 3, *(9, 7, 5)[:axes], generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Two layers, the second of them depthwise."""

    def __init__(self, axes, wrapper=lambda module: module):
        super().__init__()
        self.up = nn.Sequential(
            wrapper(KINDS[axes](3, 6, 4, **GEOMETRY)), nn.Tanh(), wrapper(KINDS[axes](6, 6, 3, groups=6, bias=False))
        )

    def forward(self, x):
        return self.up(x)


class Named(nn.ConvTranspose1d):
    """Another class with torch's own forward."""


class OwnForward(nn.ConvTranspose1d):
    def forward(self, input, output_size=None):  # noqa: A002
        return super().forward(input, output_size) + 1


def ours_in(model):
    bases = gtc.torch.ConvTranspose1d, gtc.torch.ConvTranspose2d, gtc.torch.ConvTranspose3d
    return [module for module in model.modules() if isinstance(module, bases)]


def assert_same(got, want, tolerance=1e-5):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert got.stride() == want.stride()
    got, want = got.detach(), want.detach()
    assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())
