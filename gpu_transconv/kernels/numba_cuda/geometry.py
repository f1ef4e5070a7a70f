"""All that a kernel knows of a problem: one short vector of integers, read by name.

The vector is data, so that a new shape compiles nothing. It holds a plan as seen from one side
(`gpu_transconv.problem.sides`): ``g[at.NEAR_STEP_W]`` is ``axes[2].near_step``, and so on for every name below; a
problem with fewer than three spatial axes has unit axes in front.

One kernel serves the operator and its gradient by x, of which the one reads what the other writes. So IN, CIN and X
are always of the array that is read, OUT, COUT and Y of the result. (The gradient by the weight reads both sides: there
they are of x and of the gradient of the output.)

Behind the named entries lie the phases, some integers for each phase of each axis, those without taps too:

    number of taps   first tap   its shift   taps of the phases before   first and last block of an owned box
"""

from __future__ import annotations

import math

import numpy as np

from ...arrays.views import HostArray
from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from ...problem.sides import Side, Sides, stamping
from .traits import Box, Cut

# Sizes of the problem; CIN and COUT count inside a group. Elements of the result.
BATCH, GROUPS, CIN, COUT, RESULT = range(5)
# Elements between neighbours in what is read and in the result: next image, next channel, next pixel.
X_BATCH, X_CHANNEL, X_PIXEL, Y_BATCH, Y_CHANNEL, Y_PIXEL = range(5, 11)
# Elements of the weight between neighbouring channels of what is read, and of the result.
W_IN, W_OUT = range(11, 13)
# Taps of the phase that has the most.
MOST_TAPS = 13
# Output channels of an owned box, and how many boxes have those of a group; its sizes are BOX_D, BOX_H, BOX_W.
BOX_CHANNELS, CHANNEL_BOXES = range(14, 16)
# What `Cut` has, for the gradient by the weight: its `elements` are RESULT.
PARTS, PART_PIXELS, FIRST_ROW_TILE, ROW_TILES, RESULT_START = range(16, 21)

#: How many entries there are before those of the axes.
_SCALARS = RESULT_START + 1
_PER_AXIS = (
    "IN", "OUT", "KERNEL", "BLOCKS", "PHASES", "NEAR_STEP", "FAR_STEP", "TAP_STEP", "SHIFT_STEP", "ROUND_STEP",
    "ROUNDS", "TABLE", "BOX", "BOXES",
)  # fmt: skip
#: Where the phases begin.
_SIZE = _SCALARS + 3 * len(_PER_AXIS)


def _places(name: str) -> range:
    start = _SCALARS + 3 * _PER_AXIS.index(name)
    return range(start, start + 3)


# For depth, height and width: sizes of what is read and of the result, kernel size, and what `Side` has.
IN_D, IN_H, IN_W = _places("IN")
OUT_D, OUT_H, OUT_W = _places("OUT")
KERNEL_D, KERNEL_H, KERNEL_W = _places("KERNEL")
BLOCKS_D, BLOCKS_H, BLOCKS_W = _places("BLOCKS")
PHASES_D, PHASES_H, PHASES_W = _places("PHASES")
NEAR_STEP_D, NEAR_STEP_H, NEAR_STEP_W = _places("NEAR_STEP")
FAR_STEP_D, FAR_STEP_H, FAR_STEP_W = _places("FAR_STEP")
TAP_STEP_D, TAP_STEP_H, TAP_STEP_W = _places("TAP_STEP")
SHIFT_STEP_D, SHIFT_STEP_H, SHIFT_STEP_W = _places("SHIFT_STEP")
# So many rounds, of taps that many apart, add the stamps of a tile without two of them meeting.
ROUND_STEP_D, ROUND_STEP_H, ROUND_STEP_W = _places("ROUND_STEP")
ROUNDS_D, ROUNDS_H, ROUNDS_W = _places("ROUNDS")
# Where the axis' phases begin, and what there is of each. A box that begins at f is reached by the blocks
# (f + FIRST_BLOCK) // FAR_STEP to (f + LAST_BLOCK) // FAR_STEP of the phase, as far as there are any.
TABLE_D, TABLE_H, TABLE_W = _places("TABLE")
TAPS, FIRST_TAP, FIRST_SHIFT, TAPS_BEFORE, FIRST_BLOCK, LAST_BLOCK = range(6)
PHASE_SIZE = 6
# Outputs of an owned box on the axis, and how many boxes cover it.
BOX_D, BOX_H, BOX_W = _places("BOX")
BOXES_D, BOXES_H, BOXES_W = _places("BOXES")

# Rows of the tables that a block keeps in shared memory: a position on each axis, and the image of a pixel, or the
# channel of a stamp's element and the round in which it is added, or its place in the weights of an input channel.
D, H, W = range(3)
IMAGE = 3
CHANNEL, ROUND = 3, 4
PLACE = ROUND
COLUMN_WORDS, ROW_WORDS = 4, 5


def index_type(plan: Plan) -> str:
    """Name of the narrower integer type that holds every offset and every position."""
    far = max(axis.extent for axis in (*plan.axes, *kernel_axes(plan)))
    sides = stamping(plan)
    many = plan.groups * sides.rows * sides.columns * sides.count  # counted in tiles
    return "int32" if plan.index_bits == 32 and far < 2**31 and many < 2**36 else "int64"


def make_geometry(sides: Sides, box: Box = (1, 1, 1, 1), cut: Cut | None = None) -> HostArray:
    """Fill the vector for a plan as seen from one side.

    `box` is the channels and the sizes of an owned box.
    """
    plan, taps = sides.plan, math.prod(sides.plan.kernel)
    cut = cut or Cut(1, 1, 0, 0, 0, math.prod(plan.result_shape))
    columns = [_axis_entries(sides, number, box[1 + number]) for number in range(3)]
    tables = [_phases(side, size) for side, size in zip(sides.axes, box[1:], strict=True)]
    starts = [_SIZE + sum(map(len, tables[:number])) for number in range(3)]
    for entries, start in zip(columns, starts, strict=True):
        entries["TABLE"] = start
    cin, cout = sides.source_channels, sides.result_channels
    strides = [_strides(plan.channels_last, plan.groups * cin, [entries["IN"] for entries in columns]),
               _strides(plan.channels_last, plan.groups * cout, [entries["OUT"] for entries in columns])]  # fmt: skip
    steps = (taps, cin * taps) if plan.operation == "input_grad" else (cout * taps, taps)
    head = [plan.batch, plan.groups, cin, cout, cut.elements, *strides[0], *strides[1], *steps]
    head += [math.prod(side.most_taps for side in sides.axes), box[0], -(-cout // box[0]), *cut[:5]]
    head += [entries[name] for name in _PER_AXIS for entries in columns]
    return np.array(head + [value for table in tables for value in table], index_type(plan))


def _strides(channels_last: bool, channels: int, sizes: list[int]) -> list[int]:
    pixels = math.prod(sizes)
    return [channels * pixels, *((1, channels) if channels_last else (pixels, 1))]


def _axis_entries(sides: Sides, number: int, box: int) -> dict[str, int]:
    side = sides.axes[number]
    source, result = (side.far, side.near) if sides.collects else (side.near, side.far)
    return {
        "IN": source,
        "OUT": result,
        "KERNEL": sides.plan.kernel[number],
        "BLOCKS": side.blocks,
        "PHASES": len(side.phases),
        "NEAR_STEP": side.near_step,
        "FAR_STEP": side.far_step,
        "TAP_STEP": side.tap_step,
        "SHIFT_STEP": side.shift_step,
        "ROUND_STEP": side.round_step,
        "ROUNDS": side.rounds,
        "BOX": box,
        "BOXES": -(-result // box),
    }


def _phases(side: Side, box: int) -> list[int]:
    """What the table has of every phase, one after another."""
    table, before = [], 0
    for phase in side.phases:
        table += [phase.taps, phase.first_tap, phase.first_shift, before, *side.blocks_of_box(phase, box)]
        before += phase.taps
    return table
