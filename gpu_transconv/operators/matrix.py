"""The operator as an explicit matrix, whose columns are pixels and whose rows are features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, HostArray
from ..arrays.outputs import memory_bytes
from ..arrays.views import as_contiguous
from ..problem.arguments import IntOrInts, Padding
from ..problem.axis import Axis
from ..problem.dtypes import DTYPES
from ..problem.plan import Plan
from .detector import INSTALL_SCIPY, MATRIX_DTYPES, check_weight, plan_detector

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def conv_matrix(
    weight: Array,
    image_shape: Sequence[int],
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> csr_array:
    """Explicit matrix M of the convolution that detects features; M.T is the transposed convolution.

    Parameters
    ----------
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters as `gpu_transconv.conv_transpose` takes them: Cin features, Cout picture channels. One of the
        dtypes float32, float64, complex64, complex128, int32, int64.
    image_shape : sequence of int
        Shape (Cout, *spatial) of the picture.
    stride, padding, dilation, groups
        As in `gpu_transconv.conv_transpose`. ``padding="same"`` needs spatial sizes that are multiples of
        stride, because the transposed convolution makes no others.

    Returns
    -------
    scipy.sparse.csr_array, shape (Cin * prod(features), Cout * prod(spatial))
        ``M @ image.ravel()`` is the feature map (Cin, *features), flattened. Every weight that falls inside
        the picture is one entry, zero weights too (``eliminate_zeros()`` drops them); columns are sorted, and
        complex weights not conjugated.

    Raises
    ------
    ValueError
        If a shape or a geometry argument is invalid.
    TypeError
        If `weight` is no NumPy array of these dtypes.
    MemoryError
        If the entries need more memory than there is; `ConvOperator` has none.
    ImportError
        If SciPy is missing.

    Notes
    -----
    ``M.T @ f.ravel()`` is `gpu_transconv.conv_transpose` of f with ``output_size=image_shape[1:]``: with a
    stride, pictures of several sizes have feature maps of one size.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285 (2016), section 4.1.

    Examples
    --------
    Three detectors of the feature (1, 2, 3), two pixels apart, on a picture of five pixels:

    >>> import numpy as np
    >>> from gpu_transconv.operators import conv_matrix
    >>> M = conv_matrix(np.array([[[1, 2, 3]]]), (1, 5), stride=2, padding=1)
    >>> M.toarray()
    array([[2, 3, 0, 0, 0],
           [0, 1, 2, 3, 0],
           [0, 0, 0, 1, 2]])
    >>> M.T @ np.array([1, 10, 100])
    array([  2,  13,  20, 130, 200])
    """
    weight = check_weight(weight, MATRIX_DTYPES)
    _, plan = plan_detector(weight, image_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    try:
        sparse = import_module("scipy.sparse")
    except ImportError as error:
        raise ImportError(f"conv_matrix needs SciPy: {INSTALL_SCIPY}") from error
    _check_entries(plan)
    size = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    return sparse.csr_array(_entries(weight, plan), (plan.in_channels * size[0], plan.out_channels * size[1]))


def _entries(weight: HostArray, plan: Plan) -> tuple[HostArray, HostArray, HostArray]:
    """Values row by row, their columns, and where each row begins, as a compressed sparse matrix has them."""
    (rows, channels), (inside, pixel) = weight.shape[:2], _sight(plan)
    features, taps = inside.shape
    shape = (rows, features, channels, taps)  # entries row by row, and in a row by column
    keep = np.broadcast_to(inside[:, None], shape)
    counts = np.tile(inside.sum(1) * channels, rows)
    pixels = math.prod(plan.out_spatial)
    index = _index_dtype(plan, int(counts.sum()), pixels)

    group = np.arange(rows) // (rows // plan.groups)
    channel = group[:, None, None, None] * channels + np.arange(channels)[:, None]
    columns = np.broadcast_to((channel * pixels).astype(index), shape)[keep]
    columns += np.broadcast_to(pixel[:, None].astype(index), shape)[keep]
    entries = as_contiguous(weight).reshape(rows, 1, channels, taps)
    starts: HostArray = np.append(0, np.cumsum(counts)).astype(index)
    return np.broadcast_to(entries, shape)[keep], columns, starts


def _index_dtype(plan: Plan, entries: int, pixels: int) -> type[np.int32] | type[np.int64]:
    """Index type of a matrix."""
    return np.int32 if max(entries, plan.out_channels * pixels) < 2**31 else np.int64


def _check_entries(plan: Plan) -> None:
    """Raise `MemoryError` where a matrix is more than this machine can hold, before any of it is made."""
    taps = math.prod(sum(_seeing(axis, tap) for tap in range(axis.kernel)) for axis in plan.axes)
    entries = taps * plan.in_channels * (plan.out_channels // plan.groups)
    index = _index_dtype(plan, entries, math.prod(plan.out_spatial))
    needed = entries * (DTYPES[plan.dtype].size + np.dtype(index).itemsize)
    seen = math.prod(plan.in_spatial)
    needed += seen * (plan.in_channels * np.dtype(index).itemsize + 9 * math.prod(plan.kernel))  # starts; `_sight`
    if needed > memory_bytes():
        raise MemoryError(
            f"the matrix of {entries:,} entries needs {needed:,} bytes, this machine has {memory_bytes():,}; "
            "ConvOperator does the same without the matrix"
        )


def _seeing(axis: Axis, tap: int) -> int:
    """How many features see a pixel through `tap`."""
    return len(axis.inputs_of(tap))


def _sight(plan: Plan) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which pixel each feature sees through each tap: is it inside, its flat index; both (features, taps)."""
    inside, pixel = np.ones((1, 1), bool), np.zeros((1, 1), np.int64)
    for axis in plan.axes:
        feature, tap = np.ogrid[: axis.size, : axis.kernel]
        seen = axis.output_of(feature, tap)
        found = (seen >= 0) & (seen < axis.output_size)
        shape = (len(inside) * axis.size, inside.shape[1] * axis.kernel)
        inside = (inside[:, None, :, None] & found[:, None]).reshape(shape)
        pixel = (pixel[:, None, :, None] * axis.output_size + seen[:, None]).reshape(shape)
    return inside, pixel
