"""The operator as one of SciPy's, without a matrix. Importing this module imports SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..api import conv_transpose
from ..arrays import Array, HostArray
from ..arrays.views import as_contiguous
from ..problem.arguments import IntOrInts, Padding
from .detector import INSTALL_SCIPY, MATRIX_DTYPES, check_weight, correlate, plan_detector

try:
    from scipy.sparse.linalg import LinearOperator
except ImportError as error:
    raise ImportError(f"ConvOperator needs SciPy: {INSTALL_SCIPY}") from error


class ConvOperator(LinearOperator):  # type: ignore[misc] # SciPy has no types
    """`conv_matrix` without the matrix: an operator for ``lsqr``, ``svds`` and the other solvers of SciPy.

    ``A @ v`` detects, by cross-correlation. ``A.H @ f`` generates, by `gpu_transconv.conv_transpose` with the
    conjugate weight (``A.T @ f``: with the weight itself), on the backend that `gpu_transconv.use` names. Multiplies a
    flattened vector, or a matrix with one vector per column, in the common dtype of weight and vector.

    Errors and source are those of `gpu_transconv.operators.conv_matrix`. SciPy is needed to import the class.

    Parameters
    ----------
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters; copied.
    image_shape, stride, padding, dilation, groups
        As in `gpu_transconv.operators.conv_matrix`.

    Attributes
    ----------
    shape : tuple of int
        ``(Cin * prod(features), Cout * prod(spatial))``.
    feature_shape, image_shape : tuple of int
        The shapes before flattening, (Cin, *features) and (Cout, *spatial).

    Examples
    --------
    Of all pictures with the feature map (2, 4, 2), find the one with the smallest sum of squares:

    >>> import numpy as np
    >>> from scipy.sparse.linalg import lsqr
    >>> from gpu_transconv.operators import ConvOperator
    >>> A = ConvOperator(np.array([[[1., 2., 3.]]]), (1, 5), stride=2, padding=1)
    >>> A.shape, A.feature_shape
    ((3, 5), (1, 3))
    >>> picture = lsqr(A, np.array([2., 4., 2.]))[0]
    >>> np.round(A @ picture, 6)
    array([2., 4., 2.])
    """

    def __init__(
        self,
        weight: Array,
        image_shape: Sequence[int],
        *,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
    ) -> None:
        weight = check_weight(weight, MATRIX_DTYPES)
        params, plan = plan_detector(
            weight, image_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        self._weight, self._params = as_contiguous(weight).copy(), params
        self._axes = plan.axes[3 - plan.ndim :]
        self.feature_shape = (plan.in_channels, *[axis.size for axis in self._axes])
        self.image_shape = plan.output_shape
        super().__init__(self._weight.dtype, (math.prod(self.feature_shape), math.prod(self.image_shape)))

    def _matmat(self, vectors: Array) -> HostArray:
        """M times the columns of `vectors`, or a vector: what is detected."""
        images, weight = self._share_dtype(vectors, self.image_shape)
        features = correlate(images, weight, self._params.groups, self._axes)
        return features.reshape(len(images), math.prod(self.feature_shape)).T

    def _rmatmat(self, vectors: Array) -> HostArray:
        """Adjoint of M times the columns of `vectors`, or a vector: what is generated."""
        features, weight = self._share_dtype(vectors, self.feature_shape)
        p = self._params  # which hold the picture's size as output_size
        images: HostArray = conv_transpose(
            features, weight.conj(), stride=p.stride, padding="same" if p.padding is None else p.padding,
            groups=p.groups, dilation=p.dilation, output_size=p.output_size,
        )  # fmt: skip
        return images.reshape(len(images), math.prod(self.image_shape)).T

    _matvec, _rmatvec = _matmat, _rmatmat

    def _share_dtype(self, vectors: Array, shape: tuple[int, ...]) -> tuple[HostArray, HostArray]:
        """One vector, or one per column, as a batch of `shape`; it and the weight in their common dtype."""
        columns = np.asarray(vectors)
        dtype = np.result_type(columns, self._weight)
        return columns.T.reshape(-1, *shape).astype(dtype, copy=False), self._weight.astype(dtype, copy=False)
