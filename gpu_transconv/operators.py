"""The operator as a matrix: what M detects, what M.T generates, and which convolution M.T is.

M, an ordinary strided cross-correlation, takes a picture to its feature map; M.T is the transposed
convolution. `docs/math.md` carries one small example through all of it. SciPy is imported at the first call.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from .api import conv_transpose, infer_ndim
from .arrays import Array, HostArray
from .arrays.library import plain
from .arrays.outputs import check_memory, memory_bytes
from .arrays.views import as_contiguous
from .problem.arguments import Params, make_params
from .problem.axis import Axis, output_range
from .problem.dtypes import DTYPES, dtype_name
from .problem.plan import ArraySpec, Plan, plan_call
from .problem.shapes import check_bytes, check_shapes

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator

#: SciPy has no half precision.
_MATRIX_DTYPES = tuple(name for name, (size, _) in DTYPES.items() if size > 2)


def conv_matrix(
    weight: Array,
    image_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
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
    weight = _check_weight(weight, _MATRIX_DTYPES)
    _, plan = _plan_detector(weight, image_shape, stride, padding, dilation, groups)
    sparse = _import_scipy("conv_matrix", "scipy.sparse")
    _check_entries(plan)
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
    data = np.broadcast_to(entries, shape)[keep]
    starts: Array = np.append(0, np.cumsum(counts)).astype(index)
    return sparse.csr_array((data, columns, starts), (rows * features, plan.out_channels * pixels))


def ConvOperator(  # noqa: N802 - reads like the class that its result is an instance of
    weight: Array,
    image_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> LinearOperator:
    """`conv_matrix` without the matrix: an operator for ``lsqr``, ``svds`` and the other solvers of SciPy.

    ``A @ v`` detects, by cross-correlation. ``A.H @ f`` generates, by `gpu_transconv.conv_transpose` with the
    conjugate weight (``A.T @ f``: with the weight itself), on the backend that `gpu_transconv.use` names.
    Arguments, errors and source are those of `conv_matrix`; `weight` is copied.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator, shape (Cin * prod(features), Cout * prod(spatial))
        Multiplies a flattened vector, or a matrix with one vector per column, in the common dtype of weight
        and vector. Its ``feature_shape`` and ``image_shape`` are the shapes before flattening.

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
    weight = _check_weight(weight, _MATRIX_DTYPES)
    params, plan = _plan_detector(weight, image_shape, stride, padding, dilation, groups)
    linalg = _import_scipy("ConvOperator", "scipy.sparse.linalg")
    axes = plan.axes[3 - plan.ndim :]
    features, image = (plan.in_channels, *[axis.size for axis in axes]), plan.output_shape
    detector = _Detector(as_contiguous(weight).copy(), params, axes, features, image)
    products = {"matvec": detector.detect, "rmatvec": detector.generate}
    products |= {"matmat": detector.detect, "rmatmat": detector.generate}
    shape = (math.prod(features), math.prod(image))
    result = linalg.LinearOperator(shape, **products, dtype=detector.weight.dtype)
    result.feature_shape, result.image_shape = features, image
    return result


def as_convolution(
    weight: Array,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Convolution:
    """Tell which convolution a transposed convolution is: of a stuffed input, with a turned weight, stride 1.

    That shows what it is, not how to run it: along an axis, all but one in stride of its products are with a
    stuffed zero. `gpu_transconv.conv_transpose` makes none of those.

    Parameters
    ----------
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters of the transposed convolution, in any dtype that it takes.
    stride, padding, output_padding, dilation, groups
        As in `gpu_transconv.conv_transpose`.

    Raises
    ------
    ValueError
        If a shape or a geometry argument is invalid.
    TypeError
        If `weight` is no NumPy array of a supported dtype.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285 (2016), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from gpu_transconv.operators import as_convolution
    >>> x, c = np.array([[1, 10, 100]]), as_convolution(np.array([[[1, 2, 3]]]), stride=2, padding=1)
    >>> c.weight, c.stuff(x)
    (array([[[3, 2, 1]]]), array([[  0,   1,   0,  10,   0, 100,   0]]))
    >>> c.apply(x)
    array([[  2,  13,  20, 130, 200]])
    """
    weight = _check_weight(weight, tuple(DTYPES))
    ndim = infer_ndim(weight)
    params = make_params(
        ndim, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
    )
    check_shapes(params, (weight.shape[0], *[1] * ndim), weight.shape, None)
    grouped = as_contiguous(weight).reshape(params.groups, -1, *weight.shape[1:])
    turned = np.flip(grouped.swapaxes(1, 2), tuple(range(3, 3 + ndim)))
    return Convolution(turned.reshape(-1, *turned.shape[2:]).copy(), params)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A transposed convolution as a plain one, made by `as_convolution`.

    Attributes
    ----------
    weight : ndarray, shape (Cout, Cin // groups, *kernel)
        The filters, channels swapped inside each group and taps in reverse order.
    params : Params
        The arguments of the transposed convolution.
    """

    weight: Array
    params: Params

    def stuff(self, x: Array) -> Array:
        """Put ``stride - 1`` zeros between the elements of `x`, then the padding around it.

        Parameters
        ----------
        x : ndarray, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input of the transposed convolution, in the weight's dtype; else `TypeError`, or `ValueError`.

        Returns
        -------
        ndarray, shape (N, Cin, *stuffed) or (Cin, *stuffed)
            Padded by ``dilation*(kernel - 1) - padding`` zeros at both ends of each axis, plus output_padding
            at the high end. Where that is negative, elements are cut off.

        Examples
        --------
        >>> as_convolution(np.array([[[1, 2, 3]]]), stride=2, padding=3).stuff(np.array([[7, 8, 9]]))
        array([[0, 8, 0]])
        """
        plan = self._plan(x)
        x, axes = plain("x", x), [_stuffing(axis) for axis in plan.axes[3 - plan.ndim :]]
        sources, places = zip(*[_meet(axis, 0) for axis in axes], strict=True)
        shape = (*x.shape[: -plan.ndim], *[axis.output_size for axis in axes])
        check_memory("stuffed input", shape, plan.dtype)
        stuffed = np.zeros(shape, x.dtype)
        stuffed[(..., *places)] = x[(..., *sources)]
        return stuffed

    def apply(self, x: Array) -> Array:
        """Correlate the stuffed input with the turned weight, which is the transposed convolution of `x`.

        Parameters
        ----------
        x : ndarray, shape (N, Cin, *spatial) or (Cin, *spatial)
            As for `stuff`.

        Returns
        -------
        ndarray, shape (N, Cout, *out) or (Cout, *out)
            `gpu_transconv.conv_transpose` of `x`, up to rounding; infinite weights make stuffed zeros NaN.

        Examples
        --------
        >>> as_convolution(np.array([[[1, 2, 3]]]), stride=2, padding=3).apply(np.array([[7, 8, 9]]))
        array([[16]])
        """
        plan, stuffed = self._plan(x), self.stuff(x)
        spatial = stuffed.shape[-plan.ndim :]
        pairs = zip(plan.axes[3 - plan.ndim :], spatial, strict=True)
        sliding = [Axis(axis.output_size, axis.kernel, 1, axis.dilation, 0, size) for axis, size in pairs]
        batch = stuffed.reshape(plan.batch, plan.in_channels, *spatial).astype(plan.accumulate)
        result = _correlate(batch, self.weight.astype(plan.accumulate), plan.groups, sliding)
        return result.astype(x.dtype).reshape(plan.output_shape)

    def _plan(self, x: Array) -> Plan:
        """Plan of the transposed convolution of `x`, once that is checked."""
        dtype, groups = self.weight.dtype.name, self.params.groups
        if not isinstance(x, np.ndarray) or x.dtype.newbyteorder("=").name != dtype:
            given = getattr(x, "dtype", type(x).__name__)
            raise TypeError(f"x must be a NumPy array of the weight's dtype {dtype}, got {given}")
        cout, cin, *kernel = self.weight.shape
        weight = (cin * groups, cout // groups, *kernel)
        plan = plan_call(self.params, ArraySpec(x.shape, dtype), ArraySpec(weight, dtype))
        check_memory("output", plan.output_shape, dtype)
        return plan


@dataclass(frozen=True, eq=False)
class _Detector:
    """Both products of a `ConvOperator`; `params` hold the picture's size as output_size."""

    weight: Array
    params: Params
    axes: tuple[Axis, ...]
    features: tuple[int, ...]
    image: tuple[int, ...]

    def detect(self, vectors: Array) -> Array:
        """M times the columns of `vectors`."""
        images, weight = self._share_dtype(vectors, self.image)
        features = _correlate(images, weight, self.params.groups, self.axes)
        return features.reshape(len(images), math.prod(self.features)).T

    def generate(self, vectors: Array) -> Array:
        """Adjoint of M times the columns of `vectors`."""
        features, weight = self._share_dtype(vectors, self.features)
        p = self.params
        images = conv_transpose(
            features, weight.conj(), stride=p.stride, padding="same" if p.padding is None else p.padding,
            groups=p.groups, dilation=p.dilation, output_size=p.output_size,
        )  # fmt: skip
        return images.reshape(len(images), math.prod(self.image)).T

    def _share_dtype(self, vectors: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """One vector, or one per column, as a batch of `shape`; it and the weight in their common dtype."""
        columns = np.asarray(vectors)
        dtype = np.result_type(columns, self.weight)
        return columns.T.reshape(-1, *shape).astype(dtype, copy=False), self.weight.astype(dtype, copy=False)


def _plan_detector(
    weight: HostArray, image_shape: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> tuple[Params, Plan]:
    """Check the arguments of a detector, and plan its adjoint."""
    ndim = infer_ndim(weight)
    params = make_params(ndim, stride=stride, padding=padding, dilation=dilation, groups=groups)
    image = _as_image_shape(image_shape, ndim)
    features = [_feature_size(params, i, image[1 + i], weight.shape[2 + i]) for i in range(ndim)]
    shape = (weight.shape[0], *features)
    check_shapes(params, shape, weight.shape, None)
    channels = weight.shape[1] * params.groups
    if image[0] != channels:
        raise ValueError(
            f"image_shape must begin with the {channels} output channels of weight's shape {weight.shape} "
            f"and groups={params.groups}, got {image}"
        )
    params, dtype = replace(params, output_size=image[1:]), dtype_name(weight.dtype)
    check_bytes("picture", image, dtype)
    check_bytes("feature map", shape, dtype)
    return params, plan_call(params, ArraySpec(shape, dtype), ArraySpec(weight.shape, dtype))


def _feature_size(params: Params, i: int, size: int, kernel: int) -> int:
    """Number of features on spatial axis `i` of a picture of `size` pixels.

    One feature needs ``least`` pixels (`gpu_transconv.problem.axis.output_range`), every further one another stride:
    ``features = floor((size - least) / stride) + 1``. With "same", ``size = features*stride``.
    """
    stride = params.stride[i]
    if params.padding is None:
        if size % stride:
            raise ValueError(
                f"image_shape must have multiples of stride as spatial sizes where padding is 'same', "
                f"got {size} pixels and stride {stride} on spatial axis {i}"
            )
        return size // stride
    least, _ = output_range(1, kernel, stride, sum(params.padding[i]), params.dilation[i])
    if size < least:
        raise ValueError(
            f"image_shape must have at least {least} pixels on spatial axis {i}, one feature with kernel "
            f"{kernel}, dilation {params.dilation[i]} and padding {params.padding[i]}, got {size}"
        )
    return (size - least) // stride + 1


def _as_image_shape(image_shape: Any, ndim: int) -> tuple[int, ...]:
    try:
        shape = tuple(map(operator.index, image_shape))
    except TypeError:
        shape = ()
    if len(shape) != ndim + 1 or min(shape) < 1:
        raise ValueError(f"image_shape must be {ndim + 1} ints >= 1 (Cout, *spatial), got {image_shape!r}")
    return shape


def _check_weight(weight: Any, dtypes: tuple[str, ...]) -> HostArray:
    """Raise unless `weight` is an array of one of `dtypes`; return it as a plain one."""
    if not isinstance(weight, np.ndarray):
        raise TypeError(f"weight must be a NumPy array, got {type(weight).__name__}")
    if dtype_name(weight.dtype) not in dtypes:
        raise TypeError(f"weight must have one of the dtypes {', '.join(dtypes)}, got {weight.dtype}")
    return plain("weight", weight)


def _import_scipy(caller: str, module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{caller} needs SciPy: pip install scipy (or, in a checkout, pip install ".[demo]")'
        ) from error


def _index_dtype(plan: Plan, entries: int, pixels: int) -> type:
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


def _sight(plan: Plan) -> tuple[Array, Array]:
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


def _meet(axis: Axis, tap: int) -> tuple[slice, slice]:
    """Slices of the features and the pixels that meet through `tap`."""
    seen = axis.inputs_of(tap)
    pixels = slice(axis.output_of(seen.start, tap), axis.output_of(seen.stop, tap), axis.stride)
    return slice(seen.start, seen.stop), pixels


def _stuffing(axis: Axis) -> Axis:
    """Stuffing as a transposed convolution with the one tap 1, as long as a stride-1 correlation needs it."""
    more = axis.stamp_size - 1
    return Axis(axis.size, 1, axis.stride, 1, axis.pad_low - more, axis.output_size + more)


def _correlate(images: Array, weight: Array, groups: int, axes: Sequence[Axis]) -> Array:
    """Cross-correlate (N, Cout, *spatial) with (Cin, Cout // groups, *kernel), by one strided slice per tap.

    `axes` are those of the transposed convolution to which it is the adjoint.
    """
    n, cin, cout = len(images), weight.shape[0] // groups, weight.shape[1]
    pictures = images.reshape(n, groups, cout, *images.shape[2:])
    by_tap = np.moveaxis(weight.reshape(groups, cin, *weight.shape[1:]), (0, 1, 2), (-3, -2, -1))
    total = np.zeros((n, groups, cin, *[axis.size for axis in axes]), images.dtype)
    for taps in itertools.product(*[range(axis.kernel) for axis in axes]):
        features, pixels = zip(*map(_meet, axes, taps), strict=True)
        seen = pictures[(..., *pixels)]
        found = by_tap[taps] @ seen.reshape(n, groups, cout, math.prod(seen.shape[3:]))
        total[(..., *features)] += found.reshape(n, groups, cin, *seen.shape[3:])
    return total.reshape(n, groups * cin, *total.shape[3:])
