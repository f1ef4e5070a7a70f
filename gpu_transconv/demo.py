"""A detector's transpose generates what the detector finds: the demonstration on a real picture.

Every function here is a step of the demonstration and can be called on its own; `gpu_transconv.picture` reads
the picture, `gpu_transconv.figures` draws, and ``gpu-transconv demo`` does it all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .api import conv_transpose2d

Picture = NDArray[Any]

#: Finds strokes that run from north-west to south-east: bright on the diagonal, dark beside it.
DIAGONAL = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
#: A lone bright pixel under the filter gives at most 1, a full diagonal 3.
THRESHOLD = 1.0


def normalise(picture: Picture) -> Picture:
    """Stretch a grey picture to [0, 1]; one without any contrast becomes 0.

    Examples
    --------
    >>> normalise(np.array([[10, 20, 30]]))
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    values = np.asarray(picture, np.float64)
    low, high = values.min(), values.max()
    stretched: Picture = (values - low) / (high - low if high > low else 1)
    return stretched.astype(np.float32)


def strokes(grey: Picture) -> Picture:
    """Bright strokes and outlines, from 0 (none) to 1: how much a pixel outshines the 3 x 3 pixels around it.

    The weights of `DIAGONAL` do not add up to zero, so on plain brightness its response would mostly say how
    dark a place is. Here an even surface is 0, whatever its brightness, and three bright pixels in a diagonal
    row respond with 3.

    Examples
    --------
    >>> bool(strokes(np.full((4, 4), 0.7)).any())
    False
    """
    window = np.ones((3, 3))
    around = detect(grey, window) / detect(np.ones_like(grey), window)
    excess = np.maximum(np.round(grey - around, 6), 0)
    clear = float(np.quantile(excess, 0.95)) or float(excess.max()) or 1.0
    return np.minimum(excess / clear, 1).astype(np.float32)


def detect(picture: Picture, kernel: Picture, stride: int = 1) -> Picture:
    """Slide the filter over the picture (cross-correlation, zeros beyond the border): the feature map.

    With stride 1 the feature map has the picture's size, with stride 2 half of it.

    Examples
    --------
    The filter fits a diagonal best; one step aside it does not fit at all.

    >>> detect(np.eye(3), DIAGONAL)
    array([[ 2., -2., -1.],
           [-2.,  3., -2.],
           [-1., -2.,  2.]])
    """
    rows, columns = kernel.shape
    padded = np.pad(picture, [(rows // 2, rows // 2), (columns // 2, columns // 2)])
    features = np.zeros([(size - 1) // stride + 1 for size in picture.shape], np.result_type(picture, kernel))
    for i, j in np.ndindex(kernel.shape):
        features += kernel[i, j] * padded[i : i + picture.shape[0] : stride, j : j + picture.shape[1] : stride]
    return features


def keep(features: Picture, threshold: float) -> Picture:
    """Set every response that does not exceed the threshold to 0.

    Examples
    --------
    >>> keep(np.array([-5., 1., 2.]), 1)
    array([0., 0., 2.])
    """
    return np.where(features > threshold, features, np.zeros_like(features))


def paint(features: Picture, kernel: Picture, shape: tuple[int, ...], stride: int = 1, **how: Any) -> Picture:
    """Apply the detector's transpose: every feature stamps the filter into a picture of `shape`.

    Stamps that overlap add. ``how`` names the formulation or the backend.

    Examples
    --------
    >>> paint(np.array([[0., 0., 0.], [0., 5., 0.], [0., 0., 0.]]), DIAGONAL.astype(float), (3, 3))
    array([[ 5., -5., -5.],
           [-5.,  5., -5.],
           [-5., -5.,  5.]])
    """
    painted: Picture = conv_transpose2d(
        features[None], kernel[None, None], stride=stride, padding=_pads(kernel), output_size=shape, **how
    )
    return painted.reshape(shape)


class Check(NamedTuple):
    """What was compared, the largest difference, and what rounding alone explains."""

    name: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """False too where the difference is not a number."""
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Result:
    """What one stride gives; `gather`, `scatter`, `product` are one picture, painted in three ways."""

    stride: int
    features: Picture
    kept: Picture
    gather: Picture
    scatter: Picture
    product: Picture
    checks: tuple[Check, ...]


def demonstrate(picture: Picture, threshold: float, stride: int = 1, kernel: Picture = DIAGONAL) -> Result:
    """Detect, threshold, and paint back by gather, by scatter, and by the transposed matrix; then compare.

    Parameters
    ----------
    picture : ndarray, shape (rows, columns)
        What the detector sees, see `strokes`.
    threshold : float
        Responses that do not exceed it are dropped.
    stride : int
        Step of the detector.
    kernel : ndarray, shape (3, 3)
        The filter, for both directions.

    Returns
    -------
    Result
        Feature map, kept features, painted pictures, checks.
    """
    from .operators import conv_matrix

    matrix = conv_matrix(kernel[None, None], (1, *picture.shape), stride=stride, padding=_pads(kernel))
    features = detect(picture, kernel, stride)
    kept = keep(features, threshold)
    gather = paint(kept, kernel, picture.shape, stride, formulation="gather")
    scatter = paint(kept, kernel, picture.shape, stride, formulation="scatter")
    product = (matrix.T @ kept.ravel().astype(np.float64)).reshape(picture.shape)
    # Every sum has at most one term per tap: the classical bound is terms * eps * (sum of the terms' sizes).
    unit = (kernel.size + 1) * float(np.finfo(picture.dtype).eps)
    forward = unit * _largest(abs(matrix) @ np.abs(picture).ravel())
    backward = unit * _largest(abs(matrix).T @ np.abs(kept).ravel())
    checks = (
        Check("detector = M x", _largest(features.ravel() - matrix @ picture.ravel()), forward),
        Check("gather = scatter", _largest(gather - scatter), backward),
        Check("gather = M.T f", _largest(gather - product), backward),
        Check("scatter = M.T f", _largest(scatter - product), backward),
        *_stamp_checks(kernel, stride),
    )
    return Result(stride, features, kept, gather, scatter, product, checks)


def _pads(kernel: Picture) -> list[int]:
    """Padding that keeps the picture's size at stride 1."""
    return [size // 2 for size in kernel.shape]


def _stamp_checks(kernel: Picture, stride: int) -> Iterator[Check]:
    """One activation in the middle of 3 x 3 must paint exactly the filter, and nothing else."""
    activation = np.zeros((3, 3), kernel.dtype)
    activation[1, 1] = 1
    stamp = np.zeros((2 * stride + 1, 2 * stride + 1), kernel.dtype)
    stamp[stride - 1 : stride + 2, stride - 1 : stride + 2] = kernel
    for formulation in ("gather", "scatter"):
        painted = paint(activation, kernel, stamp.shape, stride, formulation=formulation)
        yield Check(f"one stamp = filter ({formulation})", _largest(painted - stamp), 0.0)


def _largest(values: Picture) -> float:
    return float(np.abs(values).max(initial=0))
