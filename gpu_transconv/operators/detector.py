"""The detector M: its arguments, checked, the plan of its adjoint, and its product with pictures by slices."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..api import infer_ndim
from ..arrays import Array, HostArray
from ..arrays.library import plain
from ..problem.arguments import IntOrInts, Ints, Padding, Params, make_params
from ..problem.axis import Axis, output_range
from ..problem.dtypes import DTYPES, dtype_name
from ..problem.plan import ArraySpec, Plan, plan_call
from ..problem.shapes import check_bytes, check_shapes

#: SciPy has no half precision.
MATRIX_DTYPES = tuple(name for name, (size, _) in DTYPES.items() if size > 2)
#: What needs SciPy says so.
INSTALL_SCIPY = 'pip install scipy (or, in a checkout, pip install ".[demo]")'


def plan_detector(
    weight: HostArray,
    image_shape: Sequence[int],
    *,
    stride: IntOrInts,
    padding: Padding,
    dilation: IntOrInts,
    groups: int,
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


def _as_image_shape(image_shape: Sequence[int], ndim: int) -> Ints:
    try:
        shape = tuple(map(operator.index, image_shape))
    except TypeError:
        shape = ()
    if len(shape) != ndim + 1 or min(shape) < 1:
        raise ValueError(f"image_shape must be {ndim + 1} ints >= 1 (Cout, *spatial), got {image_shape!r}")
    return shape


def check_weight(weight: Array, dtypes: tuple[str, ...]) -> HostArray:
    """Raise unless `weight` is an array of one of `dtypes`; return it as a plain one."""
    if not isinstance(weight, np.ndarray):
        raise TypeError(f"weight must be a NumPy array, got {type(weight).__name__}")
    if dtype_name(weight.dtype) not in dtypes:
        raise TypeError(f"weight must have one of the dtypes {', '.join(dtypes)}, got {weight.dtype}")
    return plain("weight", weight)


def meet(axis: Axis, tap: int) -> tuple[slice, slice]:
    """Slices of the features and the pixels that meet through `tap`."""
    seen = axis.inputs_of(tap)
    pixels = slice(axis.output_of(seen.start, tap), axis.output_of(seen.stop, tap), axis.stride)
    return slice(seen.start, seen.stop), pixels


def correlate(images: HostArray, weight: HostArray, groups: int, axes: Sequence[Axis]) -> HostArray:
    """Cross-correlate (N, Cout, *spatial) with (Cin, Cout // groups, *kernel), by one strided slice per tap.

    `axes` are those of the transposed convolution to which it is the adjoint.
    """
    n, cin, cout = len(images), weight.shape[0] // groups, weight.shape[1]
    pictures = images.reshape(n, groups, cout, *images.shape[2:])
    by_tap = np.moveaxis(weight.reshape(groups, cin, *weight.shape[1:]), (0, 1, 2), (-3, -2, -1))
    total = np.zeros((n, groups, cin, *[axis.size for axis in axes]), images.dtype)
    for taps in itertools.product(*[range(axis.kernel) for axis in axes]):
        features, pixels = zip(*map(meet, axes, taps), strict=True)
        seen = pictures[(..., *pixels)]
        found = by_tap[taps] @ seen.reshape(n, groups, cout, math.prod(seen.shape[3:]))
        total[(..., *features)] += found.reshape(n, groups, cin, *seen.shape[3:])
    return total.reshape(n, groups * cin, *total.shape[3:])
