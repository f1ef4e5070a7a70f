"""All that a kernel knows of a problem: one short vector of integers, read by name.

The vector is data, so that a new shape compiles nothing. ``g[at.IN_W]`` is a plan's ``axes[2].size``, and so on
for every name below; a problem with fewer than three spatial axes has unit axes in front.

Behind the named entries lie the phases, three integers for each phase of each axis, in the order of
``Axis.taps_by_phase``, those without taps too:

    number of taps      first tap      input shift of the first tap

The taps of a phase are evenly spaced, ``TAP_STEP = stride / gcd(stride, dilation)`` apart, and so are their
shifts, ``SHIFT_STEP = -dilation / gcd(stride, dilation)``. Two taps belong to the same phase exactly if they are
a multiple of TAP_STEP apart.
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.views import Array
from ...problem.axis import Axis
from ...problem.plan import Plan

_PER_AXIS = (
    "IN", "OUT", "KERNEL", "STRIDE", "DILATION", "PAD", "BLOCKS", "PHASES", "TAP_STEP", "SHIFT_STEP", "TABLE", "BOX",
)  # fmt: skip

# Sizes of the problem; CIN and COUT count inside a group.
BATCH, GROUPS, CIN, COUT = range(4)
# Elements between neighbours in x and in the result: next image, next channel, next pixel.
X_BATCH, X_CHANNEL, X_PIXEL, Y_BATCH, Y_CHANNEL, Y_PIXEL = range(4, 10)
# Output channels of an owned tile; its sizes are BOX_D, BOX_H, BOX_W.
BOX_CHANNELS = 10
# What `Axis` has, for depth, height and width; TABLE is where the axis' phases begin.
IN_D, IN_H, IN_W = range(11, 14)
OUT_D, OUT_H, OUT_W = range(14, 17)
KERNEL_D, KERNEL_H, KERNEL_W = range(17, 20)
STRIDE_D, STRIDE_H, STRIDE_W = range(20, 23)
DILATION_D, DILATION_H, DILATION_W = range(23, 26)
PAD_D, PAD_H, PAD_W = range(26, 29)
BLOCKS_D, BLOCKS_H, BLOCKS_W = range(29, 32)
PHASES_D, PHASES_H, PHASES_W = range(32, 35)
TAP_STEP_D, TAP_STEP_H, TAP_STEP_W = range(35, 38)
SHIFT_STEP_D, SHIFT_STEP_H, SHIFT_STEP_W = range(38, 41)
TABLE_D, TABLE_H, TABLE_W = range(41, 44)
BOX_D, BOX_H, BOX_W = range(44, 47)
_SIZE = 47


def index_type(plan: Plan) -> str:
    """Name of the narrower integer type that holds every offset and every position."""
    reach = max(axis.extent for axis in plan.axes)
    stamps = plan.batch * math.prod(plan.in_spatial) * plan.out_channels * math.prod(plan.kernel)  # counted in tiles
    return "int32" if plan.index_bits == 32 and reach < 2**31 and stamps < 2**36 else "int64"


def make_geometry(plan: Plan, box: tuple[int, int, int, int]) -> Array:
    """Fill the vector for `plan`; `box` is the channels and the sizes of an owned tile."""
    inner, outer = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    columns = [_axis_entries(axis, size) for axis, size in zip(plan.axes, box[1:], strict=True)]
    tables = [_phases(axis) for axis in plan.axes]
    starts = [_SIZE + sum(map(len, tables[:number])) for number in range(3)]
    for entries, start in zip(columns, starts, strict=True):
        entries["TABLE"] = start
    head = [plan.batch, plan.groups, plan.in_channels // plan.groups, plan.out_channels // plan.groups]
    head += _strides(plan.channels_last, plan.in_channels, inner)
    head += [*_strides(plan.channels_last, plan.out_channels, outer), box[0]]
    head += [entries[name] for name in _PER_AXIS for entries in columns]
    return np.array(head + [value for table in tables for value in table], index_type(plan))


def _strides(channels_last: bool, channels: int, pixels: int) -> list[int]:
    return [channels * pixels, *((1, channels) if channels_last else (pixels, 1))]


def _axis_entries(axis: Axis, box: int) -> dict[str, int]:
    return {
        "IN": axis.size,
        "OUT": axis.output_size,
        "KERNEL": axis.kernel,
        "STRIDE": axis.stride,
        "DILATION": axis.dilation,
        "PAD": axis.pad_low,
        "BLOCKS": axis.blocks,
        "PHASES": axis.phase_count,
        "TAP_STEP": axis.tap_step,
        "SHIFT_STEP": -axis.shift_step,
        "BOX": box,
    }


def _phases(axis: Axis) -> list[int]:
    """Taps, first tap and first shift of every phase, zeros where no tap reaches it."""
    table = []
    for taps in axis.taps_by_phase(axis.phase_count):
        table += [len(taps), *(taps[0] if taps else (0, 0))]
    return table
