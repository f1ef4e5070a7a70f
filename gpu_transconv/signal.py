"""SciPy's `upfirdn`: resampling by a rational factor with a filter, on NumPy and CuPy arrays.

Raising the rate by `up` with a filter is the transposed convolution of one channel with stride `up`; lowering it by
`down` is the convolution with stride `down`, the gradient by its input. With both, only the samples that are kept are
computed: of ``n = up / gcd(up, down)`` neighbours among these each one is a channel of a convolution with stride
``down / gcd(up, down)``, since the n-th after it meets the same filter taps.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import numpy as np

from .api import conv_transpose1d
from .arrays import Array
from .gradients import conv_transpose_input_grad

__all__ = ["upfirdn"]

#: Extensions of a signal beyond its ends that `numpy.pad` has too.
_MODES = ("constant", "symmetric", "reflect", "edge", "wrap")
#: SciPy's others.
_LEFT_OUT = ("smooth", "line", "antisymmetric", "antireflect")
#: Neighbours in memory of a sample on the axis from which they are taken as channels of an array with the channels
#: last; with fewer the axis is moved. Chosen, not measured.
_CHANNELS = 8


def upfirdn(
    h: Array, x: Array, up: int = 1, down: int = 1, axis: int = -1, mode: str = "constant", cval: float = 0
) -> Array:
    """Put ``up - 1`` zeros between samples, filter, and keep every `down`-th; as `scipy.signal.upfirdn` does.

    Parameters
    ----------
    h : array_like, shape (K,)
        Filter.
    x : array_like
        Signals along `axis`, of any number of axes; NumPy's or CuPy's.
    up, down : int
        Rates.
    axis : int
        The axis to filter along.
    mode : {"constant", "symmetric", "reflect", "edge", "wrap"}
        How the signal goes on beyond its ends, as in `numpy.pad`.
    cval : number
        Its value there, for "constant".

    Returns
    -------
    array
        Of x's shape but along `axis`, where it has ``((n - 1)*up + K - 1) // down + 1`` samples; in the common dtype
        of h, x and float32, in C order.

    Raises
    ------
    ValueError
        If h is no filter, a rate is not a positive integer, x has no samples, or `mode` is not one of the above.
    TypeError
        If the common dtype is wider than float64 or complex128.

    Examples
    --------
    >>> import numpy as np
    >>> from gpu_transconv.signal import upfirdn
    >>> upfirdn([.5, 1, .5], np.arange(4.), up=2)
    array([0. , 0. , 0.5, 1. , 1.5, 2. , 2.5, 3. , 1.5])
    >>> upfirdn([.5, 1, .5], np.arange(10), up=2, down=3)
    array([0. , 1. , 2.5, 4. , 5.5, 7. , 8.5])
    """
    xp: Any = sys.modules["cupy"] if type(x).__module__.partition(".")[0] == "cupy" else np
    h, x = xp.asarray(h), xp.asarray(x)
    rates = _as_rate("up", up), _as_rate("down", down)
    axis = _check(h, x, axis, mode)
    dtype = np.result_type(h.dtype, x.dtype, np.float32)
    if dtype.name not in ("float32", "float64", "complex64", "complex128"):
        raise TypeError(
            f"h and x must have a common dtype of at most float64 or complex128, got {h.dtype} and {x.dtype}, whose "
            f"common one is {dtype}; there are no kernels for it"
        )
    lead, tail = x.shape[:axis], x.shape[axis + 1 :]
    length = ((x.shape[axis] - 1) * rates[0] + h.size - 1) // rates[1] + 1
    x, before = x.astype(dtype, copy=False), 0
    if mode != "constant" or cval:
        before = (h.size - 1) // rates[0]
        x = xp.pad(x, [(before * (i == axis),) * 2 for i in range(x.ndim)], mode, **_constant(mode, cval))
    signals = xp.ascontiguousarray(x).reshape(math.prod(lead), x.shape[axis], math.prod(tail))
    if dtype.kind == "c" and h.dtype.kind != "c":  # real and imaginary parts do not meet
        signals = signals.view(signals.real.dtype)
    result = _filter(xp, h.astype(signals.dtype, copy=False), signals, rates, before, length)
    return result.view(dtype).reshape(*lead, length, *tail)


def _filter(xp: Any, h: Array, x: Array, rates: tuple[int, int], before: int, length: int) -> Array:
    """Filter signals (a, n, b) along n; the first `before` samples are not the signal's own. The result is contiguous.

    Where signals lie side by side they are channels, which the kernels take as they are.
    """
    a, n, b = x.shape
    up, down = rates
    if down == 1 and b >= _CHANNELS:
        weight = xp.repeat(h[None, None], b, axis=0)
        last = conv_transpose1d(x, weight, stride=up, padding=before * up, groups=b, data_format="channels_last")
        return xp.ascontiguousarray(last)
    rows = xp.ascontiguousarray(x.swapaxes(1, 2)).reshape(a * b, n)
    if down == 1:
        filtered = conv_transpose1d(rows[:, None], h[None, None], stride=up, padding=before * up)
    else:
        filtered = _filter_kept(xp, h, rows, rates, before, length)
    return xp.ascontiguousarray(filtered.reshape(a, b, length).swapaxes(1, 2))


def _filter_kept(xp: Any, h: Array, rows: Array, rates: tuple[int, int], before: int, length: int) -> Array:
    """Compute of every row the samples that are kept, in turns of as many as meet different taps of the filter.

    Of turn j the r-th is sample ``o = j*step*up + r*down`` of the upsampled signal, the sum over t of
    ``x[j*step + t] * h[r*down - t*up]``. That is a correlation with a filter of its own for each r.
    """
    up, down = rates
    each, step = (rate // math.gcd(up, down) for rate in rates)
    first, last = -((h.size - 1) // up), (each - 1) * down // up
    taps = np.arange(each)[:, None] * down - np.arange(first, last + 1) * up
    present = (taps >= 0) & (taps < h.size)
    weight = xp.where(xp.asarray(present), h[xp.asarray(np.where(present, taps, 0))], h.dtype.type(0))
    turns = -(-length // each)
    # What is read, in whole steps: zeros after the end, and samples that no kept one meets, do not count.
    low = -first - before
    used = min(rows.shape[1], (turns - 1) * step + last - first + 1 - low)
    high = max(0, (turns - 1) * step + last - first + 1 - low - used)
    alone = each == 1
    kept = conv_transpose_input_grad(
        rows[:, None, :used] if alone else rows[:, :used, None], weight[:, None], input_size=turns, stride=step,
        padding=[(low, high)], data_format="channels_first" if alone else "channels_last",
    )  # fmt: skip
    return xp.ascontiguousarray(kept.reshape(rows.shape[0], -1)[:, :length])


def _as_rate(name: str, value: object) -> int:
    """Return a rate, an int of at least 1."""
    try:
        rate = operator.index(value)  # type: ignore[arg-type] # raises where it is none
    except TypeError:
        rate = 0
    if rate < 1 or isinstance(value, bool):
        raise ValueError(f"{name} must be an int >= 1, got {value!r}")
    return rate


def _check(h: Array, x: Array, axis: int, mode: object) -> int:
    """Return the axis counted from the first, or raise."""
    if h.ndim != 1 or not h.size:
        raise ValueError(f"h must be a filter of one axis and at least one tap, got shape {h.shape}")
    if mode in _LEFT_OUT:
        raise ValueError(
            f"mode must be one of {', '.join(_MODES)}, got {mode!r}: no kernel and no numpy.pad extends a signal so; "
            "scipy.signal.upfirdn does"
        )
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be one of x's {x.ndim}, from {-x.ndim} to {x.ndim - 1}, got {axis}")
    if not x.shape[axis]:
        raise ValueError(f"x must have samples along axis {axis}, got shape {x.shape}")
    return axis % int(x.ndim)


def _constant(mode: str, cval: float) -> dict[str, float]:
    """What `numpy.pad` is told besides."""
    return {"constant_values": cval} if mode == "constant" else {}
