"""Noise through layers with random weights: which generators can lay out a picture, and which make a texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from ... import conv_transpose2d
from .detect import DIAGONAL, Picture
from .rows import square_matrix

#: Pixels along a side of what the generators make, and maps between their layers.
SIDE, CHANNELS = 16, 8
#: Pictures that each generator makes: standard errors of one sixtieth of a deviation.
SAMPLES = 4000
#: Pixels along the edge that see the zeros of the padding, which tell a layer where it is.
BORDER = 3


class Layer(NamedTuple):
    """Geometry of one transposed convolution; the numbers of channels follow from its place."""

    kernel: int
    stride: int
    padding: int


#: Profile of a smooth filter of each kernel and stride: every phase has the sum 1.
BLOBS = {Layer(3, 1, 1): (0.25, 0.5, 0.25), Layer(4, 2, 1): (0.25, 0.75, 0.75, 0.25)}


@dataclass(frozen=True)
class Generator:
    """What it starts from, and its layers; ReLU stands between them."""

    name: str
    start: int
    layers: tuple[Layer, ...]

    def weights(self, seed: int) -> list[Picture]:
        """Draw weights: from one vector, a number for every place; else a smooth blob times a number per filter."""
        rng, found = np.random.default_rng(seed), []
        for index, layer in enumerate(self.layers):
            outputs = 1 if index == len(self.layers) - 1 else CHANNELS
            if self.start == 1 and index == 0:
                weight = rng.standard_normal((CHANNELS, outputs, layer.kernel, layer.kernel))
            else:
                weight = rng.standard_normal((CHANNELS, outputs, 1, 1)) * np.outer(BLOBS[layer], BLOBS[layer])
            found.append((weight * np.sqrt(2 / CHANNELS)).astype(np.float32))
        return found

    def pictures(self, samples: int = SAMPLES, seed: int = 0) -> Picture:
        """Make pictures of Gaussian noise, shape (samples, SIDE, SIDE)."""
        noise = np.random.default_rng(seed + 1).standard_normal((samples, CHANNELS, self.start, self.start))
        values: Picture = noise.astype(np.float32)
        for index, (layer, weight) in enumerate(zip(self.layers, self.weights(seed), strict=True)):
            between = "relu" if index < len(self.layers) - 1 else None
            values = conv_transpose2d(values, weight, stride=layer.stride, padding=layer.padding, activation=between)
        return values[:, 0]


#: The three that page 4 compares.
GENERATORS = (
    Generator("full-size noise, stride 1", SIDE, (Layer(3, 1, 1),) * 3),
    Generator("one vector, upscaled", 1, (Layer(4, 1, 0), Layer(4, 2, 1), Layer(4, 2, 1))),
    Generator("one vector, at full size at once", 1, (Layer(SIDE, 1, 0), Layer(3, 1, 1), Layer(3, 1, 1))),
)


@dataclass(frozen=True)
class Statistics:
    """What a generator's pictures have in common, away from the border."""

    mean: Picture
    deviation: Picture
    #: How far the mean image is from flat at most, in its own standard errors.
    largest: float
    #: Largest correlation, of either sign, of two pixels of a row by their distance; index 0 is 1.
    correlation: Picture


@cache
def made(number: int) -> Picture:
    """Pictures of one of the generators, kept for the figures and the numbers of one page."""
    return GENERATORS[number].pictures()


def statistics(pictures: Picture, border: int = BORDER) -> Statistics:
    """Mean, deviation and correlations of a stack of pictures.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((500, 10, 10))
    >>> found = statistics(noise)
    >>> bool(found.largest < 4), bool(found.correlation[1] < 4 / np.sqrt(500))
    (True, True)
    """
    mean, deviation = pictures.mean(0), pictures.std(0)
    inside = slice(border, -border)
    errors = deviation[inside, inside] / np.sqrt(len(pictures))
    away = (mean[inside, inside] - mean[inside, inside].mean()) / errors
    standard = (pictures[:, inside, inside] - mean[inside, inside]) / deviation[inside, inside]
    count = standard.shape[-1]
    correlation = [float(np.abs((standard[..., : count - d] * standard[..., d:]).mean(0)).max()) for d in range(count)]
    return Statistics(mean, deviation, float(np.abs(away).max()), np.array(correlation))


def reach(layers: Sequence[Layer]) -> int:
    """Pixels along a side that one number of the input can change.

    Examples
    --------
    >>> reach([Layer(3, 1, 1)] * 3), reach([Layer(4, 2, 1)] * 3)
    (7, 22)
    """
    side = 1
    for layer in layers:
        side = (side - 1) * layer.stride + layer.kernel
    return side


def multiplications(layers: Sequence[Layer], side: int, channels: int = 64) -> int:
    """Multiplications of layers with as many input as output channels, whose last makes `side` x `side` pixels."""
    total = 0
    for layer in reversed(layers):
        side //= layer.stride
        total += side * side * layer.kernel**2 * channels**2
    return total


def gaussian_covariance(samples: int = SAMPLES, seed: int = 0) -> tuple[Picture, Picture]:
    """Covariance of M.T z for white Gaussian z: as measured, and M.T M."""
    matrix = square_matrix(DIAGONAL).astype(np.float64)
    painted = np.random.default_rng(seed).standard_normal((samples, len(matrix))) @ matrix
    return painted.T @ painted / samples, matrix.T @ matrix
