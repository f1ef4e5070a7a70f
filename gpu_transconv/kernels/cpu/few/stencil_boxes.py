"""How gather of few output channels, which reads its input where it lies, cuts a problem; see `gather_stencil`."""

from __future__ import annotations

import math
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..arguments import Rows, Table
from ..emit.registers import VECTOR_BYTES, has_masks
from ..gemm import layout as at
from ..gemm.blocking import TASKS
from ..gemm.layout import Layout
from ..geometry import Geometry, counted, make_geometry
from ..partition import Partition, even, make_partition, reach_of
from ..tiles.stencil_tile import LINES, VECTORS, most_taps, stencil_table

#: Input channels that are added at a time; and the same where the input comes from memory, so that those that are
#: fetched meanwhile stay in a second-level cache of 8 ways even where channels are a power of two apart. Measured in C,
#: 64 channels of 512x512: 4.9 ms with 4, 6.8 with 8 where they are, 4.5 and 4.6 where they are not.
_DEPTH, _FAR_DEPTH = 16, 4
#: Bytes of the sums of a box, next to which the input comes in. Chosen, not measured.
_SUMS = 128 * 1024
#: Shifts of a tap on the width, each of which has masks. Chosen, not measured.
_SPAN = 64

# Columns of `StencilBoxes.steps`: rows of the set and the first of them, of those of all chunks; weights of a group and
# channel before those of the step; taps on the height, on the width, and the first of these in `StencilBoxes.shifts`;
# shifts on d and h of what is read first; most vectors of a tile.
ROWS, ROW, WEIGHT, TAPS_H, TAPS_W, TAP, SHIFT_D, SHIFT_H, WIDEST = range(9)


class StencilBoxes(NamedTuple):
    """Boxes of blocks of few output channels; distances count elements."""

    pitch: int  # of two lines of the sums; whole vectors
    plane_d: int  # of two depths in the sums
    plane: int  # of the sums of one row of the layout
    lane: int  # elements of a vector
    lines: int  # of a tile
    vectors: int  # of the widest tile
    depth: int  # input channels at a time
    masks: int  # elements for the lanes that exist, by shift on the width and vector
    ahead: int  # whether the next channels of the input are fetched meanwhile
    steps: Rows  # by set, tap on d and part of those on h; columns ROWS ... WIDEST
    shifts: Table  # by tap of a set: shift on the width from the smallest
    tile: int  # address of the compiled tiles


class GatherStencil(NamedTuple):
    """What the kernel `gather_stencil` unpacks."""

    geometry: Geometry
    layout: Layout
    part: Partition
    cut: StencilBoxes


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    axes = by_phase(plan).axes
    if plan.channels_last or plan.fixed_order or plan.out_channels // plan.groups not in VECTORS:
        return False
    if not has_masks(DTYPES[plan.dtype].size):
        return False
    if any(axis.step > 1 for axis in axes) or axes[1].shift_step > 1 or axes[2].reach().span > _SPAN:
        return False
    return all(most_taps(rows) for rows, _ in sets_of(plan))


def sets_of(plan: Plan) -> list[tuple[int, int]]:
    """Rows of the sets of gather, which are phases on the width that read the same inputs, and their taps there."""
    phases = [tuple(shift for _, shift in taps) for taps in by_phase(plan).axes[2].taps_by_phase()]
    return [(len(list(run)) * (plan.out_channels // plan.groups), len(shifts)) for shifts, run in groupby(phases)]


def cut_stencil_boxes(plan: Plan, layout: Layout, threads: int, coupled: bool) -> GatherStencil:
    """Cut the output into boxes of whole lines whose sums stay close to the core."""
    geometry, plan = make_geometry(plan, coupled), counted(plan, coupled)
    axes, item = by_phase(plan).axes, DTYPES[plan.accumulate].size
    blocks, reach, lane = [axis.blocks for axis in axes], reach_of(axes), VECTOR_BYTES // item
    rows, cin = layout.row_channels.size, plan.in_channels // plan.groups
    width = even(blocks[2], max(2 * lane, _SUMS // (item * rows * LINES)))
    pitch = -(-width // lane) * lane
    height = max(LINES, min(-(-blocks[1] // LINES) * LINES, _SUMS // (item * rows * pitch) // LINES * LINES))
    tasks = plan.batch * plan.groups * blocks[0] * math.ceil(blocks[2] / width)
    while height > LINES and tasks * math.ceil(blocks[1] / height) < TASKS * threads:
        height -= LINES
    masks = (reach[2][1] + 1) * (pitch // lane + 1) * 8 // item
    masks = -(-masks // lane) * lane
    part = make_partition(blocks, (1, height, width), reach, threads, masks + rows * height * pitch + 2 * lane)
    shifts = layout.slots[:, : at.SHIFT_W + 1][layout.tap_slots]
    steps = _steps(axes, layout, shifts)
    cut = StencilBoxes(
        pitch, height * pitch, height * pitch, lane, LINES, int(steps[:, WIDEST].max()),
        even(cin, _FAR_DEPTH if geometry.far else _DEPTH), masks, int(geometry.far and width == blocks[2]),
        steps, shifts[:, 2] - reach[2][0], stencil_table(plan.accumulate, geometry.half),
    )  # fmt: skip
    return GatherStencil(geometry, layout, part, cut)


def _steps(axes: tuple[Axis, Axis, Axis], layout: Layout, shifts: Rows) -> Rows:
    """The table of the steps, of all chunks; the sets of a phase on the height follow each other."""
    found = [(1, 0, 0, 1, 0, 0, 0, 0, 1)]  # so that there is one
    taps_d, taps_h, _ = (axis.taps_by_phase() for axis in axes)
    for chunk in layout.chunks:
        first, end = chunk[[at.FIRST_SET, at.END_SET]]
        runs = (end - first) // chunk[at.PHASES_H]
        for s in range(first, end):
            row, rows, tap, taps, weight, _ = layout.sets[s]
            d, h = len(taps_d[chunk[at.PHASE_D]]), len(taps_h[chunk[at.PHASE_H] + (s - first) // runs])
            if taps == 0:
                continue
            w, parts = taps // (d * h), -(-h // most_taps(int(rows)))
            for t_d in range(d):
                for begin, past in ((p * h // parts, (p + 1) * h // parts) for p in range(parts)):
                    low = (t_d * h + past - 1) * w
                    found.append((
                        rows, chunk[at.FIRST_ROW] + row, weight + low * rows, past - begin, w, tap + low,
                        shifts[tap + low, 0], shifts[tap + low, 1], VECTORS[int(rows)],
                    ))  # fmt: skip
    return np.array(found[1:] or found, np.int64)
