"""Problems that are simpler ones in disguise: the same memory, read as another shape.

A complex problem is a real one with twice as many channels, real parts and imaginary parts in turns. With the channels
last its memory is that of the complex arrays; else the parts are put apart before and together after.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from .axis import Axis, backwards, exchanged
from .plan import Plan

_UNIT = Axis(1, 1, 1, 1, 0, 1)
#: With more phases than this the tables of kernels, some words each, cost more than they save.
MOST_PHASES = 1 << 16


class Problem(NamedTuple):
    """A plan on the same flat arrays as another, and the taps that it uses: a range per axis, or all of them.

    Its bias is that of the other plan, each value repeated as often as there are more channels.
    """

    plan: Plan
    taps: tuple[tuple[int, int], ...] | None = None


_REAL = {"complex64": "float32", "complex128": "float64"}


@lru_cache(maxsize=1024)
def simplify(plan: Plan) -> Problem:
    """Return a simpler problem on the same flat arrays, or `plan` itself."""
    if plan.dtype in _REAL and plan.activation is None:
        dtype, cin, cout = _REAL[plan.dtype], 2 * plan.in_channels, 2 * plan.out_channels
        return simplify(replace(plan, in_channels=cin, out_channels=cout, dtype=dtype, accumulate=dtype))
    if not plan.channels_last and all(_is_single(axis, plan.fixed_order) for axis in plan.axes):
        # One input element: every element of the output is a channel of its own, next to each other in memory.
        channels = plan.out_channels * math.prod(plan.out_spatial)
        whole = all(axis.output_size == axis.kernel for axis in plan.axes)
        taps = None if whole else tuple((axis.pad_low, axis.pad_low + axis.output_size) for axis in plan.axes)
        one = replace(plan, axes=(_UNIT, _UNIT, _UNIT), out_channels=channels, channels_last=True, ndim=1)
        return Problem(one, taps)
    d, h, w = plan.axes
    if is_plain(d) and is_plain(h) and h != _UNIT:
        d, h = _UNIT, _plain(d.size * h.size)
    if is_plain(h) and is_plain(w) and h != _UNIT:
        d, h, w = _UNIT, d, _plain(h.size * w.size)
    return Problem(plan if (d, h, w) == plan.axes else replace(plan, axes=(d, h, w), ndim=3))


def _is_single(axis: Axis, fixed_order: bool) -> bool:
    """Whether the output of a single input is the filter, or a part of it; in one order, if the stamps never meet."""
    dense = (axis.dilation == 1 or axis.kernel == 1) and axis.step == 1
    inside = axis.size == 1 and 0 <= axis.pad_low <= axis.kernel - axis.output_size and dense
    return inside and (axis.kernel <= axis.tap_step or not fixed_order)


def is_plain(axis: Axis) -> bool:
    """Whether the axis is only passed through."""
    return axis.kernel == axis.stride == 1 and axis.pad_low == 0 and axis.output_size == axis.size


def _plain(size: int) -> Axis:
    return Axis(size, 1, 1, 1, 0, size)


@lru_cache(maxsize=1024)
def correlation(plan: Plan) -> Plan:
    """Return the gradient by the input as a forward problem: grad_output is its input, and x's gradient its result.

    Input and output channels change places and taps run backwards, so the weights do as well. Each axis with a stride
    becomes one with a step: its input is thinned out instead of its output.
    """
    d, h, w = (_correlation(axis) for axis in plan.axes)
    return replace(
        plan, axes=(d, h, w), in_channels=plan.out_channels, out_channels=plan.in_channels, operation="forward"
    )


def _correlation(axis: Axis) -> Axis:
    one = backwards(exchanged(axis))
    return one if axis.size > 1 else replace(one, step=1)


@lru_cache(maxsize=512)
def kernel_axes(plan: Plan) -> tuple[Axis, Axis, Axis]:
    """The axes as kernels see them: every output of a single input is a phase of its own, up to `MOST_PHASES`.

    With a single input on an axis the stride means nothing, so it is made that long: then no tap is multiplied by the
    zeros around that input, and the batch fills the vectors. In one order zeros are multiplied as anything else.
    """
    if plan.fixed_order:
        return plan.axes
    single = [
        replace(axis, stride=max(axis.stride, axis.output_size)) if axis.size == axis.step == 1 < axis.kernel else axis
        for axis in plan.axes
    ]
    axes = single if math.prod(axis.stride for axis in single) <= MOST_PHASES else plan.axes
    return axes[0], axes[1], axes[2]
