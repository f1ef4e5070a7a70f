"""How the weight gradient is cut where few columns meet: from the plan and the machine, never by the threads."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ..arguments import Table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry
from ..partition import even
from ..tiles.dot_tile import dot_shapes, dot_table

#: Inputs of a chunk, of one channel: as floats 4 KiB, so that a tile's rows and columns fit the first-level cache.
_INPUTS = 1024
#: Bytes of the lines of grad_output that a chunk meets, at most; else the formulation in blocks takes the plan.
_PANEL_BYTES = 1 << 19
#: Columns of one line of taps, at most: they have tables. Sums of a task, at most.
_COLUMNS, _SUMS = 1024, 1 << 20
#: Elements of the lines of grad_output that some depthwise channels are taken apart for at once: so many calls are for
#: several channels where lines are short, and as floats both copies still fit the first-level cache.
_TOGETHER = 2048
#: Tasks that keep many threads busy; inputs worth a piece of its own; and the bytes of the sums of all pieces.
_TASKS, _PIECE, _PIECES_BYTES = 16, 4096, 8 << 20


class RowBlocks(NamedTuple):
    """Chunks, tasks, and where they are kept; distances and sizes count elements.

    A chunk is a segment of some neighbouring lines of one plane of an image.
    """

    segment: int
    segments: int  # of a line
    rows: int  # lines of a chunk
    row_groups: int  # of a plane
    pieces: int
    channels: int  # input channels of a task
    channel_blocks: int
    together: int  # groups of one channel each whose lines are taken apart at once, 0 where a group has more channels
    blocks: int  # elements of a phase of a line of grad_output
    lines: int  # of grad_output that a chunk meets
    most_shift: int
    height: int  # rows of a tile
    parts: int  # in which the columns of a line of taps are cut
    strip: int
    panel: int
    inputs: int  # copied inputs of a chunk, where they must be widened
    sums: int
    tile: int  # address of the compiled tiles
    columns: Table  # by output channel and tap of the innermost axis: where in the panel it reads
    places: Table  # and where its sums are


class WeightRows(NamedTuple):
    """What the kernels unpack."""

    geometry: Geometry
    cut: RowBlocks
    threads: int
    scratch: int
    sums: int


@lru_cache(maxsize=512)
def cut_rows(plan: Plan, by_pixels: bool) -> RowBlocks | None:
    """Cut a problem; None where its lines of grad_output are too many to keep."""
    item = DTYPES[plan.accumulate].size
    lane = VECTOR_BYTES // item
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    depth, height, width = plan.axes
    columns = cout * width.kernel
    volume = math.prod(plan.kernel)
    if plan.channels_last or columns > _COLUMNS or cout * volume > _SUMS:
        return None
    segment = even(width.size, _INPUTS)
    rows = min(height.size, max(1, _INPUTS // segment))
    low, span = width.reach()
    blocks = segment + span
    lines = (rows - 1) * height.stride + height.stamp_size
    panel = cout * lines * width.stride * blocks
    if max(panel, lane * width.stride) * item > _PANEL_BYTES:
        return None
    segments, row_groups = -(-width.size // segment), -(-height.size // rows)
    chunks = segments * row_groups * depth.size * plan.batch
    tile_rows, parts = _shape(cin, columns)
    inputs = plan.batch * math.prod(plan.in_spatial)
    channels = even(cin, _SUMS // (cout * volume))
    if not by_pixels and plan.groups < _TASKS:
        share = -(-cin * plan.groups // _TASKS)
        channels = min(channels, even(cin, max(4 * tile_rows, -(-share // tile_rows) * tile_rows)))
    tasks = plan.groups * -(-cin // channels)
    all_sums = tasks * (channels * cout * volume + 2 * lane) * item
    able = max(1, min(_TASKS, chunks, inputs // _PIECE, _PIECES_BYTES // all_sums))
    pieces = able if by_pixels or tasks < _TASKS else 1
    together = min(plan.groups, max(1, _TOGETHER // panel)) if cin == cout == pieces == 1 else 0
    many = max(1, together)
    taps = width.tap_tables()
    starts = taps.phase * (many * lines * blocks) + low + span - taps.shift
    return RowBlocks(
        segment, segments, rows, row_groups, pieces, channels, -(-cin // channels), together, blocks, lines, low + span,
        tile_rows, parts,
        (many * lines * blocks + lane) * width.stride + lane, many * panel + lane, many * rows * segment,
        many * channels * cout * volume, dot_table(plan.accumulate),
        (np.arange(cout)[:, None] * (lines * width.stride * blocks) + starts).reshape(-1),
        (np.arange(cout)[:, None] * volume + np.arange(width.kernel)).reshape(-1),
    )  # fmt: skip


def _shape(cin: int, columns: int) -> tuple[int, int]:
    """Rows of a tile, and in how many parts the columns go, so that the tiles take the least time."""

    def time(rows: int) -> float:
        parts = -(-columns // dot_shapes()[rows])
        return -(-cin // rows) * parts * max(rows * columns / parts, 2 * (rows + columns / parts), 4)

    rows = min((rows for rows in dot_shapes() if rows <= cin), key=time)
    return rows, -(-columns // dot_shapes()[rows])


def cost_of_rows(plan: Plan) -> float:
    """Vector operations for each input of a group."""
    cut = cut_rows(plan, by_pixels=False)
    if cut is None:
        return math.inf
    lane = VECTOR_BYTES // DTYPES[plan.accumulate].size
    cin, cout, width = plan.in_channels // plan.groups, plan.out_channels // plan.groups, plan.axes[2]
    part = cout * width.kernel / cut.parts
    tiles = -(-cin // cut.height) * cut.parts * max(cut.height * part, 2 * (cut.height + part), 4)
    filled = width.size / (cut.segments * (-(-cut.segment // lane) + 0.25) * lane)
    copies = 2.0 * cout * cut.lines / cut.rows * width.stride * plan.axes[0].kernel
    return (tiles * plan.kernel[0] * plan.kernel[1] / filled + copies) / lane
