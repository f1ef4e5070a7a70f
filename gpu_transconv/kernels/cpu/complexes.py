"""Complex arrays as real ones with twice as many channels, and back; see `gpu_transconv.problem.rewrites`."""

from __future__ import annotations

import numpy as np

from ...arrays.pool import outputs
from ...arrays.views import Array
from ...problem.plan import Plan


def real_weight(weight: Array) -> Array:
    """Weights of the real problem: ``(a + bi)(c + di) = (ac - bd) + (ad + bc)i``."""
    rows, columns, *kernel = weight.shape
    real = np.empty((rows, 2, columns, 2, *kernel), weight.real.dtype)
    real[:, 0, :, 0] = real[:, 1, :, 1] = weight.real
    real[:, 0, :, 1] = weight.imag
    np.negative(weight.imag, out=real[:, 1, :, 0])
    return real.reshape(2 * rows, 2 * columns, *kernel)


def real_parts(array: Array) -> Array:
    """Flat view in which real and imaginary parts take turns."""
    return array.reshape(-1).view(array.real.dtype)


def apart(x: Array, plan: Plan) -> Array:
    """Input of the real problem: the plane of a channel's real parts, then that of its imaginary parts."""
    if plan.channels_last:
        return real_parts(x)
    planes = x.reshape(plan.batch * plan.in_channels, -1)
    both = _planes(planes.shape, x.real.dtype)
    both[:, 0], both[:, 1] = planes.real, planes.imag
    return both.reshape(-1)


def result_of(out: Array, plan: Plan) -> Array:
    """Memory for the result of the real problem: that of `out` where it has the same order."""
    if plan.channels_last:
        return real_parts(out)
    planes = plan.batch * plan.out_channels
    return _planes((planes, out.size // planes), out.real.dtype)


def together(parts: Array, out: Array, plan: Plan) -> None:
    """Fill `out` from the result of the real problem."""
    if not plan.channels_last:
        whole = out.reshape(plan.batch * plan.out_channels, -1)
        whole.real, whole.imag = parts[:, 0], parts[:, 1]


def _planes(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> Array:
    count = 2 * shape[0] * shape[1]
    return outputs.empty((count,), dtype, count * dtype.itemsize).reshape(shape[0], 2, shape[1])
