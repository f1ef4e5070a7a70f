"""A detector's transpose generates what the detector finds: the demonstration, on a drawing and on a photograph.

Every function here is a step of the demonstration and can be called on its own; `gpu_transconv.tools.demo.picture`
reads the picture, `gpu_transconv.tools.demo.draw` draws, and ``gpu-transconv demo`` does it all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from ... import conv_transpose2d
from ...arrays import HostArray
from ...operators import conv_matrix
from ...settings import AUTO

Picture: TypeAlias = HostArray

#: Finds strokes that run from north-west to south-east: bright on the diagonal, dark beside it.
DIAGONAL = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
_BAR = np.array([[-1, 1, -1]] * 3, np.float32)
#: Strokes in four directions. Each filter has mean zero, so that an even surface of any brightness gives 0.
BANK = np.stack([kernel - kernel.mean() for kernel in (DIAGONAL, DIAGONAL[:, ::-1], _BAR, _BAR.T)])
#: A lone bright pixel under `DIAGONAL` gives at most 1, a full diagonal 3.
THRESHOLD = 1.0
#: Part of the responses that is kept of a photograph.
SHARE = 0.1


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


def drawing() -> Picture:
    """Draw one stroke in each of four directions: bright (1) on dark (0), 20 x 20 pixels."""
    picture = np.zeros((20, 20), np.float32)
    steps = np.arange(7)
    picture[1 + steps, 1 + steps] = 1  # from north-west
    picture[1 + steps, 18 - steps] = 1  # from north-east
    picture[11:18, 4] = 1
    picture[14, 11:18] = 1
    return picture


def detail(picture: Picture) -> Picture:
    """How much every pixel differs from the mean of the 3 x 3 pixels around it.

    Examples
    --------
    >>> bool(detail(np.full((4, 4), 0.5)).any())
    False
    """
    window = np.ones((3, 3))
    fine: Picture = picture - detect(picture, window) / detect(np.ones_like(picture), window)
    return fine


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


def rectify(features: Picture, threshold: float = THRESHOLD) -> Picture:
    """Keep what exceeds the threshold, as a layer with the bias -threshold and ReLU does.

    Examples
    --------
    >>> rectify(np.array([-5., 1., 3.]))
    array([0., 0., 2.])
    """
    return np.maximum(features - threshold, 0)


def keep_strongest(features: Picture, share: float) -> Picture:
    """Set all but the strongest responses, of either sign, to 0; about `share` of them stay.

    Examples
    --------
    >>> keep_strongest(np.array([-5., 1., 3., 0.]), 0.5)
    array([-5.,  0.,  3.,  0.])
    """
    strength = np.abs(features)
    limit = np.quantile(strength, 1 - share) if share < 1 else -1.0
    return np.where(strength > limit, features, np.zeros_like(features))


def paint(
    features: Picture, kernels: Picture, shape: tuple[int, ...], stride: int = 1, *, formulation: str = AUTO
) -> Picture:
    """Apply the detector's transpose: every feature stamps its filter into a picture of `shape`.

    Stamps that overlap add. One feature map and one filter are matrices, several of them stacks of matrices.
    ``formulation`` is as in `gpu_transconv.conv_transpose2d`.

    Examples
    --------
    >>> paint(np.array([[0., 0., 0.], [0., 5., 0.], [0., 0., 0.]]), DIAGONAL.astype(float), (3, 3))
    array([[ 5., -5., -5.],
           [-5.,  5., -5.],
           [-5., -5.,  5.]])
    """
    rows, columns = kernels.shape[-2:]
    weight = kernels.reshape(-1, 1, rows, columns)
    stack = features.reshape(len(weight), *features.shape[-2:])
    pads = [rows // 2, columns // 2]
    painted: Picture = conv_transpose2d(
        stack, weight, stride=stride, padding=pads, output_size=shape, formulation=formulation
    )
    return painted.reshape(shape)


def likeness(one: Picture, other: Picture) -> float:
    """Correlation of two pictures inside of a border of one pixel, where no filter sees beyond the edge.

    Examples
    --------
    >>> picture = np.arange(25.).reshape(5, 5)
    >>> round(likeness(picture, 3 - 2 * picture), 6)
    -1.0
    """
    a, b = (values[1:-1, 1:-1].astype(np.float64).ravel() for values in (one, other))
    a, b = (values - values.mean() if values.size else values for values in (a, b))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


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
    """What the demonstration gives; `gather`, `scatter`, `product` are one picture, painted in three ways.

    `likeness` is the correlation of the painted picture with the `detail` of the one that was looked at.
    """

    picture: Picture
    responses: Picture
    kept: Picture
    gather: Picture
    scatter: Picture
    product: Picture
    likeness: float
    checks: tuple[Check, ...]


def demonstrate(picture: Picture, share: float = SHARE, bank: Picture = BANK) -> Result:
    """Detect, keep the strongest, and paint back by gather, by scatter, and by the transposed matrix; compare.

    Parameters
    ----------
    picture : ndarray, shape (rows, columns)
        What the detector sees.
    share : float
        Part of the responses that is kept.
    bank : ndarray, shape (filters, 3, 3)
        The filters, for both directions.

    Returns
    -------
    Result
        Feature maps, kept features, painted pictures, checks.
    """
    matrix = conv_matrix(bank[:, None], (1, *picture.shape), padding=[size // 2 for size in bank.shape[1:]])
    responses = np.stack([detect(picture, kernel) for kernel in bank])
    kept = keep_strongest(responses, share)
    gather, scatter = (paint(kept, bank, picture.shape, formulation=name) for name in ("gather", "scatter"))
    product = (matrix.T @ kept.ravel().astype(np.float64)).reshape(picture.shape)
    # Every sum has at most one term per tap and filter; the classical bound is terms * eps * (sum of their sizes).
    unit = (bank.size + 1) * float(np.finfo(picture.dtype).eps)
    forward = unit * _largest(abs(matrix) @ np.abs(picture).ravel())
    backward = unit * _largest(abs(matrix).T @ np.abs(kept).ravel())
    checks = (
        Check("detector = M x", _largest(responses.ravel() - matrix @ picture.ravel()), forward),
        Check("gather = scatter", _largest(gather - scatter), backward),
        Check("gather = M.T f", _largest(gather - product), backward),
        Check("scatter = M.T f", _largest(scatter - product), backward),
        *(check for stride in (1, 2) for check in _stamp_checks(DIAGONAL, stride)),
    )
    found = likeness(gather, detail(picture))
    return Result(picture, responses, kept, gather, scatter, product, found, checks)


def _stamp_checks(kernel: Picture, stride: int) -> Iterator[Check]:
    """One activation in the middle of 3 x 3 must paint exactly the filter, and nothing else."""
    activation = np.zeros((3, 3), kernel.dtype)
    activation[1, 1] = 1
    stamp = np.zeros((2 * stride + 1, 2 * stride + 1), kernel.dtype)
    stamp[stride - 1 : stride + 2, stride - 1 : stride + 2] = kernel
    for formulation in ("gather", "scatter"):
        painted = paint(activation, kernel, stamp.shape, stride, formulation=formulation)
        yield Check(f"one stamp, stride {stride} = filter ({formulation})", _largest(painted - stamp), 0.0)


def _largest(values: Picture) -> float:
    return float(np.abs(values).max(initial=0))
