"""How the matrix products of scatter cut a problem; see `gpu_transconv.kernels.cpu.partition`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import Product, by_phase
from ..arguments import Table
from ..gemm.blocking import PANEL_BYTES
from ..gemm.layout import CHANNELS, Layout, Stamps
from ..geometry import Geometry, counted, make_geometry
from ..partition import Partition, PerAxis, count_boxes, even, make_partition, reach_of
from ..runtime.caches import fitted
from ..tiles.gemm_tile import tile_table

#: Multiplications and bytes worth a task of scatter, and the logarithm of how many tasks do. Chosen, not measured.
_WORTH, _LOG_TASKS = 1 << 18, 5
#: Input channels of a panel where every sum has one order (`Plan.fixed_order`). Chosen, not measured.
_FIXED_DEPTH = 128


class StampBoxes(NamedTuple):
    """Scatter in boxes: one plane of sums per phase and channel; distances count elements."""

    pitch: int  # of a row, in panel and planes
    margin: int  # before the first row of a plane
    slack: int  # after the last row
    plane_d: int  # distance of two depths in a plane
    plane: int  # distance of two planes
    panel_plane: int  # distance of two depths in the panel
    place: int  # distance of two places of a source block
    step: PerAxis  # places of a source block on each axis
    panel_step: int  # distance of two channels
    depth: int  # input channels of one panel
    channels: int  # of a full chunk
    panel: int  # elements of the input
    rows: Table  # by row of a set: its distance from the first plane of the set
    last_rows: Table  # the same for chunks with one channel less
    iota: Table
    tile: int  # address of the compiled tiles
    backwards: int  # whether columns are taken from the last to the first


class Scatter(NamedTuple):
    """What the kernel `scatter` unpacks."""

    geometry: Geometry
    layout: Layout
    part: Partition
    cut: StampBoxes
    stamps: Stamps


def cut_stamp_boxes(plan: Plan, layout: Layout, stamps: Stamps, threads: int, coupled: bool) -> Scatter:
    """Cut the output into boxes whose sums and panel fit the second-level cache.

    Where stamps overlap, the order in which they are added depends on the depth of a panel, and where that is not fixed
    on the box, so the threads have no say in it.
    """
    geometry, tiles, plan = make_geometry(plan, coupled), tile_table(plan.accumulate, coupled), counted(plan, coupled)
    cin, item = plan.in_channels // plan.groups, DTYPES[plan.accumulate].size
    product, channels = by_phase(plan), int(layout.chunks[:, CHANNELS].max())
    planes, reach = channels * math.prod(axis.stride for axis in product.axes), reach_of(product.axes)
    low, span = zip(*reach, strict=True)
    box = stamp_box(plan, product, len(layout.chunks), planes)
    pitch, slack, margin = box[2] + span[2], 64 + span[2], span[2]
    plane_d = box[1] * pitch + slack
    plane = margin + box[0] * plane_d
    panel_plane = (box[1] + span[1]) * pitch + slack
    place, steps = (box[0] + span[0]) * panel_plane, [axis.step for axis in product.axes]
    panel_step = math.prod(steps) * place
    room = max(1, min(cin, fitted(PANEL_BYTES) // item // panel_step))
    depth = even(cin, _FIXED_DEPTH) if plan.fixed_order else room
    rows, last_rows = (
        (stamps.phases[:, None] * count + np.arange(count)) * plane - (stamps.shifts[:, None] - low[2])
        for count in (channels, max(1, channels - 1))
    )
    panel = depth * panel_step + slack
    part = make_partition(
        [axis.blocks for axis in product.axes], box, reach, threads, panel + planes * plane + slack + 64
    )
    cut = StampBoxes(
        pitch, margin, slack, plane_d, plane, panel_plane, place, PerAxis(*steps), panel_step, depth, channels,
        panel, rows.reshape(-1), last_rows.reshape(-1), np.zeros(16, np.int64), tiles,
        int(plan.fixed_order),
    )  # fmt: skip
    return Scatter(geometry, layout, part, cut, stamps)


def stamp_box(plan: Plan, product: Product, chunks: int, planes: int) -> tuple[int, int, int]:
    """Blocks of a box on each axis, so that the sums of all its planes and a deep enough panel fit together."""
    cin, item = plan.in_channels // plan.groups, DTYPES[plan.accumulate].size
    blocks, span = [axis.blocks for axis in product.axes], [axis.reach().span for axis in product.axes]
    deep = min(cin, 64) * math.prod(axis.step for axis in product.axes)
    most = fitted(PANEL_BYTES) // item
    room = max(64, min(most // 2 // planes, most // deep))
    box_w = even(blocks[2], max(64, room // min(8, blocks[1] * blocks[0]) - span[2]))
    pitch = box_w + span[2]
    box_h = even(blocks[1], max(1, room // pitch - span[1]))
    box_d = even(blocks[0], max(1, room // (pitch * (box_h + span[1])) - span[0]))
    least = _least_tasks(plan)
    while box_h > 1 and plan.batch * plan.groups * chunks * count_boxes(blocks, (box_d, box_h, box_w)) < least:
        box_h = even(blocks[1], box_h - 1)
    return box_d, box_h, box_w


def _least_tasks(plan: Plan) -> int:
    """A power of two: tasks enough for many threads, none too small to be worth one."""
    worth = (plan.flops // 2 + plan.bytes) // _WORTH
    return 1 << min(worth.bit_length() - 1, _LOG_TASKS) if worth else 1
