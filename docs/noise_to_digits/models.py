"""The two generators, the discriminator that trains them, and the classifier whose features measure them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from gpu_transconv.torch import conv_transpose2d

#: Length of the vector of noise, and channels of noise at full size.
NOISE, NOISE_CHANNELS = 24, 8


class Painter(nn.ConvTranspose2d):
    """A transposed convolution of this package, with gradients."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:  # noqa: ARG002
        """Paint the features of `x`."""
        return conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding)


class Generator(nn.Module):
    """Transposed convolutions with relu between them; the last is followed by a sigmoid, so pixels are in (0, 1)."""

    def __init__(self, noise: tuple[int, int, int], layers: list[Painter]) -> None:
        super().__init__()
        self.noise, self.layers = noise, nn.ModuleList(layers)
        for layer in layers:
            reaching = layer.in_channels * (layer.kernel_size[0] / layer.stride[0]) ** 2 if noise[1] > 1 else 0
            reaching = reaching or layer.in_channels * (1 if layer is layers[0] else 4)
            nn.init.normal_(layer.weight, std=(2 / reaching) ** 0.5)
            nn.init.zeros_(layer.bias)

    def draw(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw noise for `count` pictures."""
        return torch.randn(count, *self.noise, generator=generator)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Make pictures, shape (N, 1, 8, 8)."""
        for layer in self.layers[:-1]:
            z = torch.relu(layer(z))
        return torch.sigmoid(self.layers[-1](z))


def upscaling() -> Generator:
    """From a vector of noise, a map of 1 x 1, to 4 x 4 and 8 x 8."""
    return Generator((NOISE, 1, 1), [Painter(NOISE, 64, 4), Painter(64, 32, 4, 2, 1), Painter(32, 1, 3, 1, 1)])


def constant_size() -> Generator:
    """From noise of 8 x 8 through five layers of stride 1, whose reach is more than the picture."""
    widths = (NOISE_CHANNELS, 40, 40, 40, 40, 1)
    layers = [Painter(before, after, 3, 1, 1) for before, after in pairwise(widths)]
    return Generator((NOISE_CHANNELS, 8, 8), layers)


GENERATORS = {"upscaling": upscaling, "constant_size": constant_size}


class Discriminator(nn.Module):
    """Detectors that tell real digits from made ones; also told how much the pictures of a batch differ."""

    def __init__(self) -> None:
        super().__init__()
        self.detect = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(),
        )  # fmt: skip
        self.judge = nn.Sequential(nn.Linear(64 * 16 + 1, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return a score per picture, higher for real."""
        found = self.detect(pictures)
        variety = torch.sqrt(found.var(0, unbiased=False) + 1e-8).mean().expand(len(found), 1)
        return self.judge(torch.cat([found, variety], 1))[:, 0]


class Classifier(nn.Module):
    """Tells which digit a picture shows; `features` are the sixteen numbers that it decides by."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16), nn.Tanh())
        self.decide = nn.Linear(16, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return a score for each digit."""
        return self.decide(self.features(pictures))
