"""All that a kernel knows of a problem: one short vector of integers, read by name.

The vector is data, so that a new shape compiles nothing. ``g[at.IN_W]`` is ``axes[2].size`` of a product
(`gpu_transconv.problem.product`), and so on for every name below; a problem with fewer than three spatial axes has
unit axes in front.

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

from ...arrays.views import HostArray
from ...problem.axis import Axis
from ...problem.plan import Plan
from ...problem.product import Product, by_phase, stamps
from .traits import Box

# Sizes of the problem; CIN and COUT count inside a group.
BATCH, GROUPS, CIN, COUT = range(4)
# Elements between neighbours in x and in the result: next image, next channel, next pixel.
X_BATCH, X_CHANNEL, X_PIXEL, Y_BATCH, Y_CHANNEL, Y_PIXEL = range(4, 10)
# Output channels of an owned box, and how many boxes have those of a group; its sizes are BOX_D, BOX_H, BOX_W.
BOX_CHANNELS, CHANNEL_BOXES = range(10, 12)

#: How many entries there are before those of the axes.
_SCALARS = CHANNEL_BOXES + 1
_PER_AXIS = (
    "IN", "OUT", "KERNEL", "STRIDE", "DILATION", "PAD", "BLOCKS", "PHASES", "TAP_STEP", "SHIFT_STEP", "ROUNDS",
    "TABLE", "BOX", "BOXES", "FIRST_INPUT", "LAST_INPUT",
)  # fmt: skip
#: Where the phases begin.
_SIZE = _SCALARS + 3 * len(_PER_AXIS)


def _places(name: str) -> range:
    start = _SCALARS + 3 * _PER_AXIS.index(name)
    return range(start, start + 3)


# What `Axis` has, for depth, height and width.
IN_D, IN_H, IN_W = _places("IN")
OUT_D, OUT_H, OUT_W = _places("OUT")
KERNEL_D, KERNEL_H, KERNEL_W = _places("KERNEL")
STRIDE_D, STRIDE_H, STRIDE_W = _places("STRIDE")
DILATION_D, DILATION_H, DILATION_W = _places("DILATION")
PAD_D, PAD_H, PAD_W = _places("PAD")
BLOCKS_D, BLOCKS_H, BLOCKS_W = _places("BLOCKS")
PHASES_D, PHASES_H, PHASES_W = _places("PHASES")
TAP_STEP_D, TAP_STEP_H, TAP_STEP_W = _places("TAP_STEP")
SHIFT_STEP_D, SHIFT_STEP_H, SHIFT_STEP_W = _places("SHIFT_STEP")
# Most taps of a phase: so many rounds add the stamps of a tile without two of them meeting.
ROUNDS_D, ROUNDS_H, ROUNDS_W = _places("ROUNDS")
# Where the axis' phases begin; of a phase, its number of taps, its first tap and that one's shift.
TABLE_D, TABLE_H, TABLE_W = _places("TABLE")
TAPS, FIRST_TAP, FIRST_SHIFT = range(3)
PHASE_SIZE = 3
# Outputs of an owned box on the axis, and how many boxes cover it. A box that begins at output o is reached by
# the inputs (o + FIRST_INPUT) // STRIDE to (o + LAST_INPUT) // STRIDE, as far as there are any.
BOX_D, BOX_H, BOX_W = _places("BOX")
BOXES_D, BOXES_H, BOXES_W = _places("BOXES")
FIRST_INPUT_D, FIRST_INPUT_H, FIRST_INPUT_W = _places("FIRST_INPUT")
LAST_INPUT_D, LAST_INPUT_H, LAST_INPUT_W = _places("LAST_INPUT")

# Rows of the tables that a block keeps in shared memory: a position on each axis, and the image of a column, or
# the channel of a row and the round in which it is added.
D, H, W = range(3)
IMAGE = 3
CHANNEL, ROUND = 3, 4
COLUMN_WORDS, ROW_WORDS = 4, 5


def index_type(plan: Plan) -> str:
    """Name of the narrower integer type that holds every offset and every position."""
    far = max(axis.extent for axis in (*plan.axes, *by_phase(plan).axes))
    product = stamps(plan)
    many = plan.groups * product.rows * product.columns  # counted in tiles
    return "int32" if plan.index_bits == 32 and far < 2**31 and many < 2**36 else "int64"


def make_geometry(product: Product, box: Box) -> HostArray:
    """Fill the vector for the plan of `product`, on its axes; `box` is the channels and the sizes of an owned box."""
    plan, axes = product.plan, product.axes
    inner, outer = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    columns = [_axis_entries(axis, size) for axis, size in zip(axes, box[1:], strict=True)]
    tables = [_phases(axis) for axis in axes]
    starts = [_SIZE + sum(map(len, tables[:number])) for number in range(3)]
    for entries, start in zip(columns, starts, strict=True):
        entries["TABLE"] = start
    cout = plan.out_channels // plan.groups
    head = [plan.batch, plan.groups, plan.in_channels // plan.groups, cout]
    head += _strides(plan.channels_last, plan.in_channels, inner)
    head += [*_strides(plan.channels_last, plan.out_channels, outer), box[0], -(-cout // box[0])]
    head += [entries[name] for name in _PER_AXIS for entries in columns]
    return np.array(head + [value for table in tables for value in table], index_type(plan))


def _strides(channels_last: bool, channels: int, pixels: int) -> list[int]:
    return [channels * pixels, *((1, channels) if channels_last else (pixels, 1))]


def _axis_entries(axis: Axis, box: int) -> dict[str, int]:
    first, last = axis.inputs_of_box(box)
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
        "ROUNDS": axis.most_taps,
        "BOX": box,
        "BOXES": -(-axis.output_size // box),
        "FIRST_INPUT": first,
        "LAST_INPUT": last,
    }


def _phases(axis: Axis) -> list[int]:
    """Taps, first tap and first shift of every phase, zeros where no tap reaches it."""
    table = []
    for taps in axis.taps_by_phase(axis.phase_count):
        table += [len(taps), *(taps[0] if taps else (0, 0))]
    return table
