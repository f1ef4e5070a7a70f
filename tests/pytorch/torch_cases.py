"""Random layers for the tests of PyTorch's functions, and what both sides say to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="its functions are tested")
import gpu_transconv as gtc  # noqa: E402

OURS = {n: getattr(gtc.torch, f"conv_transpose{n}d") for n in (1, 2, 3)}
THEIRS = {n: getattr(torch.nn.functional, f"conv_transpose{n}d") for n in (1, 2, 3)}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Layer:
    """The shapes and arguments of one call."""

    name: str
    ndim: int
    x: tuple[int, ...]
    weight: tuple[int, ...]
    keywords: dict[str, Any]
    has_bias: bool

    def tensors(self, dtype=torch.float64, seed: int = 0, **keywords) -> list[Any]:
        """x, weight and bias or None, with values near 1."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [self.x, self.weight, (self.weight[1] * self.keywords["groups"],)]
        made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
        made = [tensor.requires_grad_(**keywords) if keywords else tensor for tensor in made]
        return made if self.has_bias else [*made[:2], None]

    def ours(self, *tensors):
        return OURS[self.ndim](*tensors, **self.keywords)

    def theirs(self, *tensors):
        return THEIRS[self.ndim](*tensors, **self.keywords)


def make_layer(seed: int) -> Layer:
    """A random small layer; every third number of axes, every geometry argument."""
    rng = np.random.default_rng(seed)
    ndim = 1 + seed % 3
    groups = int(rng.choice([1, 1, 2, 3]))
    inputs, outputs = int(rng.integers(1, 3)) * groups, int(rng.integers(1, 3))
    kernel = rng.integers(1, (6, 4, 3)[ndim - 1] + 1, ndim)
    stride, dilation = rng.integers(1, 4, ndim), rng.integers(1, 3, ndim)
    size = rng.integers(1, (6, 4, 3)[ndim - 1] + 1, ndim)
    extra = [int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True)]
    full = (size - 1) * stride + dilation * (kernel - 1) + 1 + extra
    padding = [int(rng.integers(0, min(2, (f - 1) // 2) + 1)) for f in full]
    batch = () if seed % 7 == 5 else (int(rng.integers(1, 3)),)
    keywords = {
        "stride": tuple(map(int, stride)), "padding": tuple(padding), "output_padding": tuple(extra),
        "dilation": tuple(map(int, dilation)), "groups": groups,
    }  # fmt: skip
    shape = (*batch, inputs, *map(int, size))
    return Layer(f"random{seed}", ndim, shape, (inputs, outputs, *map(int, kernel)), keywords, bool(seed % 2))


LAYERS = [make_layer(seed) for seed in range(60)]
