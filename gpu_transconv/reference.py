"""The definition of the transposed convolution and its two gradients in plain NumPy: slow, short, independent.

It carries its own shape formula and sums in a wider type than it returns, so that the fast kernels can be
held against it. Nothing here imports from the package, by design.

All three functions add the products of the same pairs: on every axis, input i and tap k meet at output
``o = i*stride - low + k*dilation``. They differ in which of the three is summed over.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_WIDER = {
    "float64": "longdouble",
    "complex64": "complex128",
    "complex128": "clongdouble",
    "int32": "int64",
    "int64": "int64",
}

#: Of the tanh form of GELU.
_SQRT_2_OVER_PI = 0.7978845608028653558798921198687637369517


def _sigmoid(v: Array) -> Array:
    return 0.5 * (1 + np.tanh(v / 2))  # does not overflow


def _activations(slope: float) -> dict[str | None, Callable[[Array], Array]]:
    return {
        None: lambda v: v,
        "relu": lambda v: np.where(v < 0, v.dtype.type(0), v),
        "leaky_relu": lambda v: np.where(v < 0, v * slope, v),
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "silu": lambda v: v * _sigmoid(v),
        "gelu": lambda v: 0.5 * v * (1 + np.tanh(_SQRT_2_OVER_PI * (v + 0.044715 * v**3))),
    }


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    channels_last: bool = False,
    activation: str | None = None,
    slope: float = 0.01,
    formulation: str = "gather",
) -> Array:
    """Transposed convolution of a batch, straight from the definition.

    Parameters
    ----------
    x : ndarray, shape (N, Cin, *spatial) or (N, *spatial, Cin)
        Input.
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters.
    bias : ndarray, shape (Cout,), optional
        Added to every output element.
    stride, dilation, output_padding : sequence of int
        One per spatial axis.
    padding : sequence of (int, int)
        What is cut from the (low, high) end of each axis.
    groups : int
        Number of channel groups.
    channels_last : bool
        Whether the channels are the last axis of x and of the result.
    activation, slope
        As in `gpu_transconv.conv_transpose`.
    formulation : {"gather", "scatter"}
        Whether to loop over outputs or over inputs. The sums are the same.

    Returns
    -------
    ndarray
        In x's dtype, rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> one, three = np.ones((1, 1, 2)), np.array([[[1., 2., 3.]]])
    >>> conv_transpose(one, three, stride=[1], padding=[(0, 0)], output_padding=[0], dilation=[1])
    array([[[1., 3., 5., 3.]]])
    """
    wide = _wider(x)
    n, _, *size = _first(x, channels_last).shape
    kernel = weight.shape[2:]
    full = [(i - 1) * s + d * (k - 1) + 1 for i, s, d, k in zip(size, stride, dilation, kernel, strict=True)]
    kept = [f - low - high + extra for f, (low, high), extra in zip(full, padding, output_padding, strict=True)]
    inputs, filters = _grouped(x, groups, channels_last), _filters(weight, groups)
    total = np.zeros((n, groups, weight.shape[1], *kept), wide)
    lows = [low for low, _ in padding]
    for met in _meetings(size, kept, kernel, stride, lows, dilation, formulation):
        total[met.outputs] += _contract(inputs[met.inputs], filters[met.tap])
    result = total.reshape(n, groups * weight.shape[1], *kept)
    if bias is not None:
        result = result + bias.astype(wide).reshape(-1, *[1] * len(kept))
    return _finished(_activations(slope)[activation](result), x.dtype, channels_last)


def input_grad(
    grad_output: Array,
    weight: Array,
    *,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding_low: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    channels_last: bool = False,
    formulation: str = "gather",
) -> Array:
    """Gradient of `conv_transpose` by x: an ordinary strided cross-correlation of grad_output with the filters.

    Parameters
    ----------
    grad_output : ndarray, shape (N, Cout, *spatial) or (N, *spatial, Cout)
        Gradient by the result.
    weight : ndarray, shape (Cin, Cout // groups, *kernel)
        Filters.
    input_size, stride, padding_low, dilation : sequence of int
        One per spatial axis: the size of x, and what was cut from the low end of the result.
    groups, channels_last, formulation
        As in `conv_transpose`; gather loops over the elements of the gradient, scatter over those of grad_output.

    Returns
    -------
    ndarray
        In grad_output's dtype, rounded once; of the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> ones, three = np.ones((1, 1, 4)), np.array([[[1., 2., 3.]]])
    >>> input_grad(ones, three, input_size=[2], stride=[1], padding_low=[0], dilation=[1])
    array([[[6., 6.]]])
    """
    inputs, filters = _grouped(grad_output, groups, channels_last), _filters(weight, groups).swapaxes(1, 2)
    size = inputs.shape[3:]
    total = np.zeros((inputs.shape[0], groups, filters.shape[2], *input_size), inputs.dtype)
    for met in _meetings(input_size, size, weight.shape[2:], stride, padding_low, dilation, _OTHER[formulation]):
        total[met.inputs] += _contract(inputs[met.outputs], filters[met.tap])
    return _finished(total.reshape(-1, weight.shape[0], *input_size), grad_output.dtype, channels_last)


def weight_grad(
    x: Array,
    grad_output: Array,
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding_low: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    channels_last: bool = False,
    formulation: str = "gather",
) -> Array:
    """Gradient of `conv_transpose` by the weight: a correlation of x with grad_output, one sum over pixels per tap.

    Parameters
    ----------
    x : ndarray, shape (N, Cin, *spatial) or (N, *spatial, Cin)
        Input.
    grad_output : ndarray, shape (N, Cout, *spatial) or (N, *spatial, Cout)
        Gradient by the result.
    kernel_size, stride, padding_low, dilation : sequence of int
        One per spatial axis.
    groups, channels_last, formulation
        As in `conv_transpose`; gather looks from each output back to its input, scatter from each input ahead.

    Returns
    -------
    ndarray, shape (Cin, Cout // groups, *kernel_size)
        In x's dtype, rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> x, ones = np.array([[[1., 2.]]]), np.ones((1, 1, 4))
    >>> weight_grad(x, ones, kernel_size=[3], stride=[1], padding_low=[0], dilation=[1])
    array([[[3., 3., 3.]]])
    """
    inputs, outputs = _grouped(x, groups, channels_last), _grouped(grad_output, groups, channels_last)
    total = np.zeros((groups, inputs.shape[2], outputs.shape[2], *kernel_size), inputs.dtype)
    sizes = inputs.shape[3:], outputs.shape[3:]
    for met in _meetings(*sizes, kernel_size, stride, padding_low, dilation, formulation):
        total[met.tap] = _correlate(inputs[met.inputs], outputs[met.outputs])
    return _finished(total.reshape(-1, *total.shape[2:]), x.dtype, False)


#: Who looks for whom where the result is the input's gradient: its owner, who gathers, is the input.
_OTHER = {"gather": "scatter", "scatter": "gather"}


class _Met(NamedTuple):
    """A tap, and the inputs and outputs that meet through it, as indices of arrays that end with the spatial axes."""

    tap: Any
    inputs: Any
    outputs: Any


def _meetings(
    size: Sequence[int], out: Sequence[int], kernel: Sequence[int], stride: Sequence[int], lows: Sequence[int],
    dilation: Sequence[int], formulation: str,
) -> Iterator[_Met]:  # fmt: skip
    """What meets through each tap."""
    find = {"gather": _look_back, "scatter": _look_ahead}[formulation]
    for tap in itertools.product(*map(range, kernel)):
        starts = [k * d - low for k, d, low in zip(tap, dilation, lows, strict=True)]
        yield _Met((..., *tap), *find(size, out, starts, stride))


def _look_back(size: Sequence[int], out: Sequence[int], starts: list[int], stride: Sequence[int]) -> tuple[Any, Any]:
    """Every output looks back for an input that reaches it."""
    outputs, inputs = [], []
    for o, i, start, s in zip(out, size, starts, stride, strict=True):
        positions = np.arange(o)
        source, remainder = np.divmod(positions - start, s)
        found = (remainder == 0) & (source >= 0) & (source < i)
        outputs.append(positions[found])
        inputs.append(source[found])
    # One row of indices per axis; batch, group and channel axes are taken whole.
    return ((slice(None),) * 3 + np.ix_(*inputs), (slice(None),) * 3 + np.ix_(*outputs))


def _look_ahead(size: Sequence[int], out: Sequence[int], starts: list[int], stride: Sequence[int]) -> tuple[Any, Any]:
    """Every input looks ahead to ``i*stride + start``, unless that is cut off."""
    outputs: list[Any] = [...]
    inputs: list[Any] = [...]
    for o, i, start, s in zip(out, size, starts, stride, strict=True):
        first = max(0, -(start // s))
        stop = max(first, min(i, -((start - o) // s)))
        inputs.append(slice(first, stop))
        end = (stop - 1) * s + start + 1 if stop > first else first * s + start
        outputs.append(slice(first * s + start, max(0, end), s))
    return (tuple(inputs), tuple(outputs))


def _wider(x: Array) -> np.dtype[Any]:
    """The dtype in which sums over `x` are taken; longdouble stays as wide as it is."""
    return np.result_type(x.dtype, _WIDER.get(x.dtype.name, "float64"))


def _first(x: Array, channels_last: bool) -> Array:
    return np.moveaxis(x, -1, 1) if channels_last else x


def _grouped(x: Array, groups: int, channels_last: bool) -> Array:
    """The array (N, groups, channels, *spatial) of a batch, in the wider type."""
    n, channels, *size = _first(x, channels_last).shape
    return _first(x, channels_last).astype(_wider(x)).reshape(n, groups, channels // groups, *size)


def _filters(weight: Array, groups: int) -> Array:
    """The array (groups, Cin, Cout, *kernel) of the weights, channels counted inside a group."""
    return weight.astype(_wider(weight)).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def _finished(total: Array, dtype: np.dtype[Any], channels_last: bool) -> Array:
    result = total.astype(dtype)
    return np.ascontiguousarray(np.moveaxis(result, 1, -1) if channels_last else result)


def _contract(x: Array, tap: Array) -> Array:
    """Sum over the channels of each group: (N, G, C, ...) with (G, C, O) gives (N, G, O, ...)."""
    return _einsum("ngc...,gco->ngo...", x, tap)


def _correlate(x: Array, y: Array) -> Array:
    """Sum over images and pixels: (N, G, C, ...) with (N, G, O, ...) gives (G, C, O)."""
    pixels = math.prod(x.shape[3:])
    flat = [array.reshape(*array.shape[:3], pixels) for array in (x, y)]
    return _einsum("ngcp,ngop->gco", *flat)


def _einsum(rule: str, x: Array, y: Array) -> Array:
    """NumPy's, of complex arrays in parts: that of clongdouble writes out of bounds (seen in NumPy 2.4.6)."""
    if np.iscomplexobj(x):
        real = _einsum(rule, x.real, y.real) - _einsum(rule, x.imag, y.imag)
        result: Array = real.astype(x.dtype)
        result.imag = _einsum(rule, x.real, y.imag) + _einsum(rule, x.imag, y.real)
        return result
    summed: Array = np.einsum(rule, x, y)
    return summed
