"""How the weight gradient is cut where many input channels meet few pixels: from the plan, never by the threads.

A *column* is an output channel with a tap, in the order in which a filter has them. A task computes the sums of some
input channels and some output channels over all pixels, *chunk* after chunk.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry
from ..partition import even
from ..tiles.gemm_tile import TILE_ROWS, tile_table

#: Input channels of a group at least: each element of the panel is copied alone, which so many products must pay for.
_LEAST_CHANNELS = 192
#: Pixels that a sum goes over before it is put down: rows of x of that length stream from the caches, with 256 a layer
#: of 256 channels and 6000 pixels took 1.15 times as long. And pixels of all images at most, as in `partition`.
_CHUNK, _PIXELS = 384, 1 << 16
#: Elements of a panel: as floats 512 KiB, half of a second-level cache.
_PANEL = 1 << 17
#: Taps next to each other that are copied as a row; fewer are picked one by one.
_RUN = 4
#: Tasks that keep several threads busy; each reads all of x, so that 16 took up to 1.1 times as long as 8.
_TASKS = 8
#: Vector operations that it takes to copy an element of the panel: in rows, one by one, and beside the borders.
_COPIES = 0.5, 1.2, 5.0
#: How much longer blocks take than `partition.cost_of_blocks` counts, because their inputs and sums are turned.
TURNED = 1.1
#: Elements of the sums of a task where they cannot go into the filters at once.
_SUMS = 1 << 18


class ColumnBlocks(NamedTuple):
    """Chunks, tasks, and where they are kept; sizes count elements."""

    pixels: int  # of a chunk
    chunks: int
    channels: int  # input channels of a task
    channel_blocks: int  # of a group
    filters: int  # output channels of a task
    filter_blocks: int  # of a group
    wide: int  # columns of a tile
    run: int  # columns whose outputs are next to each other, 0 where they are too few to be copied as rows
    direct: int  # whether tiles add to the filters themselves
    pitch: int  # of a row of sums
    panel: int
    inputs: int  # of the rows of a tile
    sums: int
    tile: int  # address of the compiled tiles
    iota: Table
    columns: Table  # by column of a task: where it reads grad_output, from the first on
    place_d: Table  # and how far its output is from that of the first tap, on each axis
    place_h: Table
    place_w: Table


class WeightColumns(NamedTuple):
    """What the kernel unpacks."""

    geometry: Geometry
    cut: ColumnBlocks
    threads: int
    scratch: int
    sums: int


@lru_cache(maxsize=512)
def cut_columns(plan: Plan) -> ColumnBlocks | None:
    """Cut a problem; None where channels are too few, or pixels or taps too many."""
    item = DTYPES[plan.accumulate].size
    wide = 2 * (VECTOR_BYTES // item)
    cin, cout, volume = plan.in_channels // plan.groups, plan.out_channels // plan.groups, math.prod(plan.kernel)
    all_pixels = plan.batch * math.prod(plan.in_spatial)
    pixels = even(max(1, all_pixels), _CHUNK)
    if cin < _LEAST_CHANNELS or all_pixels > _PIXELS or volume * pixels > _PANEL:
        return None
    filters = even(cout, max(1, _PANEL // (volume * pixels)))
    channels = cin
    while plan.groups * -(-cout // filters) < _TASKS and filters * volume > 4 * wide and filters > 1:
        filters = even(cout, -(-filters // 2))
    while plan.groups * -(-cout // filters) * -(-cin // channels) < _TASKS and channels > 4 * TILE_ROWS:
        channels = even(cin, -(-channels // 2))
    direct = DTYPES[plan.dtype].size == item and filters * volume * 2 % wide == 0 and cout * volume * 2 % wide == 0
    pitch = -(-filters * volume // wide) * wide
    if not direct:
        channels = min(channels, max(1, _SUMS // pitch))
    places, columns = _places(plan, filters, pitch)
    return ColumnBlocks(
        pixels, -(-all_pixels // pixels), channels, -(-cin // channels), filters, -(-cout // filters), wide,
        _run_of(plan), int(direct), pitch, pixels * pitch, TILE_ROWS * pixels, 0 if direct else channels * pitch,
        tile_table(plan.accumulate), np.arange(16, dtype=np.int64), columns, *places,
    )  # fmt: skip


def _run_of(plan: Plan) -> int:
    if plan.channels_last:
        return plan.out_channels // plan.groups if math.prod(plan.kernel) == 1 else 0
    taps = plan.axes[2].kernel if plan.axes[2].dilation == 1 else 1
    return taps if taps >= _RUN else 0


def _places(plan: Plan, filters: int, pitch: int) -> tuple[list[Table], Table]:
    """Of every column its outputs on the three axes, and its element of grad_output; of those added, none."""
    outputs = math.prod(plan.out_spatial)
    pixel, channel = (plan.out_channels, 1) if plan.channels_last else (1, outputs)
    taps = np.meshgrid(*(np.arange(axis.kernel) * axis.dilation for axis in kernel_axes(plan)), indexing="ij")
    d, h, w = (np.tile(tap.reshape(-1), filters) for tap in taps)
    of = np.repeat(np.arange(filters), math.prod(plan.kernel)) * channel
    of += ((d * plan.out_spatial[1] + h) * plan.out_spatial[2] + w) * pixel
    more = pitch - len(of)
    return [np.pad(axis, (0, more), constant_values=1 << 40) for axis in (d, h, w)], np.pad(of, (0, more))


def cost_of_columns(plan: Plan) -> float:
    """Vector operations for each input of a group."""
    cut = cut_columns(plan)
    if cut is None:
        return math.inf
    inside = 1.0
    for axis in plan.axes:
        first, last = axis.inputs_of(0), axis.inputs_of(axis.kernel - 1)
        inside *= max(0, min(first.stop, last.stop) - max(first.start, last.start)) / axis.size
    in_rows, alone, border = _COPIES
    copies = in_rows if cut.run else inside * alone + (1 - inside) * border
    columns = plan.out_channels // plan.groups * math.prod(plan.kernel)
    return columns * (plan.in_channels // plan.groups * 2.0 / cut.wide + copies)
