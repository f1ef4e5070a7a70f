"""The definition of the transposed convolution in plain NumPy: slow, short, and independent of the package.

It carries its own shape formula and sums in a wider type than it returns, so that the fast kernels can be
held against it. Nothing here imports from the package, by design.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, TypeAlias

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
    wide = np.result_type(x.dtype, _WIDER.get(x.dtype.name, "float64"))  # longdouble stays as wide as it is
    values = np.moveaxis(x, -1, 1) if channels_last else x
    n, cin, *size = values.shape
    kernel = weight.shape[2:]
    full = [(i - 1) * s + d * (k - 1) + 1 for i, s, d, k in zip(size, stride, dilation, kernel, strict=True)]
    kept = [f - low - high + extra for f, (low, high), extra in zip(full, padding, output_padding, strict=True)]

    inputs = values.astype(wide).reshape(n, groups, cin // groups, *size)
    filters = weight.astype(wide).reshape(groups, cin // groups, *weight.shape[1:])
    total = np.zeros((n, groups, weight.shape[1], *kept), wide)
    add = {"gather": _gather, "scatter": _scatter}[formulation]
    lows = [low for low, _ in padding]
    for taps in itertools.product(*map(range, kernel)):
        starts = [k * d - low for k, d, low in zip(taps, dilation, lows, strict=True)]
        tap: tuple[int | EllipsisType, ...] = (..., *taps)
        add(total, inputs, filters[tap], starts, stride)

    result = total.reshape(n, groups * weight.shape[1], *kept)
    if bias is not None:
        result = result + bias.astype(wide).reshape(-1, *[1] * len(kept))
    result = _activations(slope)[activation](result).astype(x.dtype)
    return np.ascontiguousarray(np.moveaxis(result, 1, -1) if channels_last else result)


def _gather(total: Array, x: Array, tap: Array, starts: list[int], stride: Sequence[int]) -> None:
    """Every output looks back for an input that reaches it through this tap."""
    outputs, inputs = [], []
    for o, i, start, s in zip(total.shape[3:], x.shape[3:], starts, stride, strict=True):
        positions = np.arange(o)
        source, remainder = np.divmod(positions - start, s)
        found = (remainder == 0) & (source >= 0) & (source < i)
        outputs.append(positions[found])
        inputs.append(source[found])
    # One row of indices per axis; batch, group and channel axes are taken whole.
    collected = _contract(x[(slice(None),) * 3 + np.ix_(*inputs)], tap)
    total[(slice(None),) * 3 + np.ix_(*outputs)] += collected


def _scatter(total: Array, x: Array, tap: Array, starts: list[int], stride: Sequence[int]) -> None:
    """Every input looks ahead: it stamps this tap at ``i*stride + start``, unless that is cut off."""
    outputs: list[slice | EllipsisType] = [...]
    inputs: list[slice | EllipsisType] = [...]
    for o, i, start, s in zip(total.shape[3:], x.shape[3:], starts, stride, strict=True):
        first = max(0, -(start // s))
        stop = max(first, min(i, -((start - o) // s)))
        inputs.append(slice(first, stop))
        outputs.append(
            slice(
                first * s + start,
                max(0, (stop - 1) * s + start + 1) if stop > first else first * s + start,
                s,
            )
        )
    stamped = _contract(x[tuple(inputs)], tap)
    total[tuple(outputs)] += stamped


def _contract(x: Array, tap: Array) -> Array:
    """Sum over the input channels of each group: (N, G, C, ...) with (G, C, O) gives (N, G, O, ...)."""
    if np.iscomplexobj(x):  # in parts: einsum of clongdouble writes out of bounds (seen in NumPy 2.4.6)
        real = _contract(x.real, tap.real) - _contract(x.imag, tap.imag)
        result: Array = real.astype(x.dtype)
        result.imag = _contract(x.real, tap.imag) + _contract(x.imag, tap.real)
        return result
    summed: Array = np.einsum("ngc...,gco->ngo...", x, tap)
    return summed
