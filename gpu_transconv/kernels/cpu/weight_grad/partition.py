"""How the matrix products of the weight gradient are cut: from the plan and the machine, never by the threads.

A *row* is the inputs of one line of an image, a *segment* a part of it, and a *chunk* the same segment of some rows
that follow each other. A *block* of filters is some input channels of a group times some of its output channels times
some taps; a *piece* is some of the chunks. A task adds the products of one piece to one block.
"""

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
from ..tiles.gemm_tile import TILE_ROWS, tile_shapes, tile_table

#: Outputs of a chunk in one line, for all rows of a tile: as floats 28 KiB, which leaves the first-level cache room.
_OUTPUTS = 512
#: Inputs of a chunk: at least so many, or the sums are put down too often, and at most.
_LEAST, _MOST = 32, 256
#: Bytes of the sums of a block, so that they stay in the second-level cache.
_BLOCK_BYTES = 1 << 20
#: Input channels of a block at most: the panel of a chunk has so many columns.
_CHANNELS = 128
#: Tasks that keep many threads busy.
_TASKS = 16
#: Inputs worth a piece of its own, pieces at most, and the bytes of all their sums.
_PIECE, _PIECES, _PIECES_BYTES = 2048, 16, 14 << 20
#: Elements of the strips of a tile, at most: as floats 2 MiB. Only strides and dilations of thousands reach it.
_STRIPS = 1 << 19
#: Inputs that a sum may go over in chunks one after the other.
_LONGEST = 1 << 16


class Blocks(NamedTuple):
    """Chunks, blocks of filters, and where they are kept; distances and sizes count elements."""

    segment: int  # inputs of a segment
    segments: int  # of a row
    rows: int  # of a chunk
    chunks: int
    pieces: int
    channels: int  # input channels of a block
    channel_blocks: int  # of a group
    filters: int  # output channels of a block
    filter_blocks: int  # of a group
    planes: int  # taps of the outer axes of a block
    plane_blocks: int
    taps: int  # taps of the innermost axis of a block
    tap_blocks: int
    vectors: int  # of input channels in a tile
    by_tap: int  # whether the rows of a tile are the taps of one output channel, instead of the other way round
    reach: int  # outputs of a segment and the taps of a block
    strip: int  # outputs of one output channel of a chunk, in the copy that a tile reads
    strips: int  # of all output channels of a tile
    panel: int  # all inputs of a chunk
    pitch: int  # of a row of sums
    sums: int  # of a block
    tile: int  # address of the compiled tiles
    iota: Table


class WeightGrad(NamedTuple):
    """What the kernels unpack."""

    geometry: Geometry
    cut: Blocks
    threads: int
    scratch: int
    sums: int


@lru_cache(maxsize=512)
def cut_blocks(plan: Plan, by_pixels: bool) -> Blocks:
    """Cut a problem first by its filters, or `by_pixels`."""
    item = DTYPES[plan.accumulate].size
    lane = VECTOR_BYTES // item
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    planes, taps, axis = math.prod(plan.kernel[:2]), plan.kernel[2], plan.axes[2]
    by_tap, vectors, height = _tile_of(plan, lane)
    # Blocks
    channels = even(cin, _CHANNELS)
    plane_block, filters = planes, cout
    pitch = -(-channels // lane) * lane
    room = max(1, _BLOCK_BYTES // (item * pitch))
    across = TILE_ROWS if plan.channels_last else min(TILE_ROWS, cout)
    most_reach = _STRIPS // across - 2 * lane
    tap_block = even(taps, min(room, 1 + most_reach // 2 // axis.dilation))
    # Chunks
    most = max(_LEAST, min(_MOST, _OUTPUTS * TILE_ROWS // (height * axis.stride)))
    segment = even(axis.size, min(most, 1 + (most_reach - (tap_block - 1) * axis.dilation - 1) // axis.stride))
    reach = (segment - 1) * axis.stride + (tap_block - 1) * axis.dilation + 1
    lines = plan.batch * plan.in_spatial[0] * plan.in_spatial[1]
    rows = max(1, min(lines, most // segment, most_reach // reach))
    segments = -(-axis.size // segment)
    chunks = segments * -(-lines // rows)
    if planes * tap_block > room:
        plane_block = even(planes, max(1, room // tap_block))
    filters = even(cout, max(1, room // (plane_block * tap_block)))

    def tasks() -> int:
        parts = (cin, channels), (cout, filters), (planes, plane_block), (taps, tap_block)
        return plan.groups * math.prod(-(-all_ // some) for all_, some in parts)

    inputs = lines * axis.size
    padded = plan.groups * -(-cin // channels) * pitch * cout * planes * taps * item
    able = max(1, min(_PIECES, inputs // _PIECE, chunks, _PIECES_BYTES // padded))
    pieces = able if by_pixels else min(able, -(-inputs // _LONGEST))
    while not by_pixels and tasks() * pieces < _TASKS and filters > 2 * TILE_ROWS:
        filters = even(cout, -(-filters // 2))
    while not by_pixels and tasks() * pieces < _TASKS and channels > 4 * lane:
        half = -(-channels // 2)
        channels = even(cin, -(-half // (2 * lane)) * 2 * lane)
    if tasks() * pieces < _TASKS:
        pieces = max(pieces, min(able, -(-_TASKS // tasks())))
    pitch = -(-channels // lane) * lane
    strip = -(-reach * rows // lane) * lane + lane
    return Blocks(
        segment, segments, rows, chunks, pieces,
        channels, -(-cin // channels), filters, -(-cout // filters),
        plane_block, -(-planes // plane_block), tap_block, -(-taps // tap_block),
        vectors, int(by_tap), reach, strip, across * strip, segment * rows * pitch, pitch,
        filters * plane_block * tap_block * pitch,
        tile_table(plan.accumulate), np.arange(16, dtype=np.int64),
    )  # fmt: skip


def _tile_of(plan: Plan, lane: int) -> tuple[bool, int, int]:
    """Whether the rows of a tile are taps, its vectors, and its rows."""
    cin, cout, axis = plan.in_channels // plan.groups, plan.out_channels // plan.groups, plan.axes[2]
    far = not plan.channels_last and axis.stride >= lane and axis.kernel >= 4
    by_tap = far or (cout < 8 and axis.kernel > cout)
    height = min(TILE_ROWS, axis.kernel if by_tap else cout)
    wide = height <= tile_shapes().get(4, 0) and cin > 2 * lane
    return by_tap, 4 if wide else 2, height


def cost_of_blocks(plan: Plan) -> float:
    """Vector operations for each input of a group."""
    lane = VECTOR_BYTES // DTYPES[plan.accumulate].size
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    _, vectors, height = _tile_of(plan, lane)
    filters, columns = cout * math.prod(plan.kernel), -(-cin // lane)
    high = height / -(-height // TILE_ROWS)
    wide = min(vectors, columns)
    return filters * columns * max(1.0, (0.6 * high + wide) / (high * wide), 4 / (high * wide)) + 8.0 * columns
