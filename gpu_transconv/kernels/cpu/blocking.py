"""How the tiled kernels cut a problem: from plan, layout and machine, with no measuring and no search."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from .layout import CUT, Layout, Stamps
from .microkernel import tile_table
from .packing import VECTOR_BYTES
from .store import LINE
from .tables import Table, words

#: A panel of input should stay in the second-level cache, next to the sums and a tile of weights.
_PANEL_BYTES = 512 * 1024
#: Products added before a partial sum is put down: bounds both the panel and the error of a long float32 sum.
_DEPTH = 2048
#: The same where blocks are computed in pairs.
_PAIRED_DEPTH = 8 * _DEPTH
#: So few blocks are worth a run of their own.
_FEW = 128
#: So many tasks per thread need not be a multiple of the threads.
_TASKS = 6
#: Multiplications and bytes that are worth a task of scatter, and the logarithm of how many tasks are enough.
_WORTH, _LOG_TASKS = 1 << 18, 5
#: Blocks of a run at most.
_PIXELS = 256
#: Workspace of one thread.
_WORK_BYTES = 4 * 1024 * 1024


_LINE = LINE + 64


class Blocking(NamedTuple):
    """Block counts per axis (of pairs, on a paired one), and how many of them one run takes."""

    blocks_d: int
    blocks_h: int
    blocks_w: int
    pixels: int  # blocks of one run
    runs: int
    depth: int  # input channels of one panel
    splits: int  # parts of the chunks that run as tasks of their own
    threads: int
    line: int  # elements for a row that is put together
    panel: int  # elements of the input
    work: int  # elements of all scratch memory, per thread
    flat: int  # whether block and input pixel are the same number
    iota: Table
    tile: int  # address of the compiled tiles


def make_blocking(plan: Plan, layout: Layout, threads: int) -> Blocking:
    """Cut the problem for `threads` threads; the order of every sum does not depend on their number."""
    cin, slots = plan.in_channels // plan.groups, len(layout.slots)
    itemsize = 8 if plan.accumulate == "float64" else 4
    blocks = [axis.blocks for axis in kernel_axes(plan)]
    flat = not layout.slots.any() and blocks == list(plan.in_spatial)
    blocks = [blocks[0], -(-blocks[1] // layout.paired_h), -(-blocks[2] // layout.paired_w)]
    total = max(plan.batch, 1) * math.prod(blocks)  # weights may be packed for an empty batch
    # A pair's differences have slots of their own, each for one tap, and there are fewer blocks to fill the vectors.
    many = layout.paired_h * layout.paired_w > 1
    deep, room = (_PAIRED_DEPTH, 2 * _PANEL_BYTES) if many else (_DEPTH, _PANEL_BYTES)
    # With few blocks, a shallower panel of all of them, so that the weights are read once.
    limit = deep if total > _FEW else min(deep, room // (itemsize * total))
    depth = even(cin, max(1, limit // slots))
    bases = np.append(layout.chunks[:, 6], layout.row_channels.size)
    rows = layout.row_channels.size if depth < cin else int(np.diff(bases).max())
    lane = VECTOR_BYTES // itemsize
    most = min(room // (slots * depth), _WORK_BYTES // (rows + slots * depth)) // itemsize
    runs = math.ceil(total / max(2 * lane, min(most, _PIXELS)))
    # As much for every thread: either more runs, which all read the weights, or parts of the chunks, which all copy
    # the input.
    more = math.ceil(runs * plan.groups / threads) * threads // plan.groups
    if 2 * slots * total < layout.weights and len(layout.chunks) > 1:
        more = runs
    pixels = max(2 * lane, math.ceil(math.ceil(total / max(runs, more)) / lane) * lane)
    runs = math.ceil(total / pixels)
    tasks = runs * plan.groups
    splits = 1 if tasks > _TASKS * threads else min(len(layout.chunks), threads // math.gcd(threads, tasks))
    panel = slots * depth * pixels
    # A tile may read and write whole vectors past the last block.
    work = _LINE + panel + rows * pixels + 256
    return Blocking(
        **per_axis(blocks=blocks), pixels=pixels, runs=runs, depth=depth, splits=splits, threads=threads,
        line=_LINE, panel=panel, work=work, flat=int(flat),
        iota=_iota(layout), tile=tile_table(plan.accumulate),
    )  # fmt: skip


class Boxes(NamedTuple):
    """The boxes of the scatter formulation: sizes count blocks, offsets and distances elements."""

    blocks_d: int
    blocks_h: int
    blocks_w: int
    box_d: int
    box_h: int
    box_w: int
    boxes_d: int
    boxes_h: int
    boxes_w: int
    low_d: int  # smallest shift
    low_h: int
    low_w: int
    span_d: int  # largest shift minus smallest
    span_h: int
    span_w: int
    pitch: int  # of a row, in panel and planes
    margin: int  # before the first row of a plane
    slack: int  # after the last row
    plane_d: int  # distance of two depths in a plane
    plane: int  # distance of two planes
    panel_plane: int  # distance of two depths in the panel
    panel_step: int  # distance of two channels
    depth: int  # input channels of one panel
    channels: int  # of a full chunk
    threads: int
    line: int  # elements for a row that is put together
    panel: int  # elements of the input
    work: int  # elements of all scratch memory, per thread
    rows: Table  # by row of a set: its distance from the first plane of the set
    last_rows: Table  # the same for chunks with one channel less
    iota: Table
    tile: int


#: Where the stamps begin in the table of the scatter kernel, after its boxes.
STAMPS = CUT + words(Boxes)


def make_boxes(plan: Plan, layout: Layout, stamps: Stamps, threads: int) -> Boxes:
    """Cut the output into boxes whose sums and panel fit the second-level cache.

    Where stamps overlap, the order in which they are added depends on the box, so the threads have no say in it.
    """
    cin = plan.in_channels // plan.groups
    channels = int(layout.chunks[:, 3].max())
    planes = channels * math.prod(axis.stride for axis in kernel_axes(plan))
    blocks = [axis.blocks for axis in kernel_axes(plan)]
    low, span = zip(*(axis.reach() for axis in kernel_axes(plan)), strict=True)
    item = 4 if plan.accumulate == "float32" else 8

    # Elements of a plane: the sums of all planes and a deep enough panel fit together.
    room = max(64, min(_PANEL_BYTES // item // 2 // planes, _PANEL_BYTES // item // min(cin, 64)))
    box_w = even(blocks[2], max(64, room // min(8, blocks[1] * blocks[0]) - span[2]))
    pitch = box_w + span[2]
    box_h = even(blocks[1], max(1, room // pitch - span[1]))
    box_d = even(blocks[0], max(1, room // (pitch * (box_h + span[1])) - span[0]))
    least = _least_tasks(plan)
    while box_h > 1 and plan.batch * plan.groups * len(layout.chunks) * _count(blocks, (box_d, box_h, box_w)) < least:
        box_h = even(blocks[1], box_h - 1)
    slack = 64 + span[2]
    margin = span[2]
    plane_d = box_h * pitch + slack
    plane = margin + box_d * plane_d
    panel_plane = (box_h + span[1]) * pitch + slack
    panel_step = (box_d + span[0]) * panel_plane
    depth = max(1, min(cin, _PANEL_BYTES // item // panel_step))
    boxes = [-(-n // box) for n, box in zip(blocks, (box_d, box_h, box_w), strict=True)]
    tables = [
        (stamps.phases[:, None] * count + np.arange(count)) * plane - (stamps.shifts[:, None] - low[2])
        for count in (channels, max(1, channels - 1))
    ]
    panel = depth * panel_step + slack
    return Boxes(
        **per_axis(blocks=blocks, box=(box_d, box_h, box_w), boxes=boxes, low=low, span=span),
        pitch=pitch, margin=margin, slack=slack, plane_d=plane_d, plane=plane,
        panel_plane=panel_plane, panel_step=panel_step, depth=depth, channels=channels, threads=threads,
        line=_LINE, panel=panel, work=_LINE + panel + planes * plane + slack,
        rows=tables[0].reshape(-1), last_rows=tables[1].reshape(-1),
        iota=np.zeros(16, np.int64), tile=tile_table(plan.accumulate),
    )  # fmt: skip


def _least_tasks(plan: Plan) -> int:
    """A power of two: tasks enough for many threads, but none so small that it is not worth one."""
    worth = (plan.flops // 2 + plan.bytes) // _WORTH
    return 1 << min(worth.bit_length() - 1, _LOG_TASKS) if worth else 1


#: Elements of one channel of a direct box that keep a depthwise panel in the first-level cache.
_BOX = 2048


class Direct(NamedTuple):
    """The boxes of the direct gather: sizes count blocks, distances elements."""

    blocks_d: int
    blocks_h: int
    blocks_w: int
    box_d: int
    box_h: int
    box_w: int
    boxes_d: int
    boxes_h: int
    boxes_w: int
    low_d: int  # smallest shift
    low_h: int
    low_w: int
    span_d: int  # largest shift minus smallest
    span_h: int
    span_w: int
    pitch: int  # of a row, in panel and sums
    plane_d: int  # distance of two depths in the sums; whole vectors
    plane: int  # of the sums of one row of the layout
    channel: int  # distance of two channels in the panel
    depth: int  # input channels of one panel
    threads: int
    line: int  # elements for a row that is put together
    panel: int  # elements of the input
    work: int  # elements of all scratch memory, per thread
    offsets: Table  # by tap of a set: where in the panel it reads
    iota: Table
    tile: int


def make_direct(plan: Plan, layout: Layout, threads: int) -> Direct:
    """Cut the output into boxes whose panel stays close to the core."""
    cin = plan.in_channels // plan.groups
    item = 4 if plan.accumulate == "float32" else 8
    lane = VECTOR_BYTES // item
    blocks = [axis.blocks for axis in kernel_axes(plan)]
    low, span = zip(*(axis.reach() for axis in kernel_axes(plan)), strict=True)
    depth = min(cin, 64)
    bases = np.append(layout.chunks[:, 6], layout.row_channels.size)
    sums = layout.row_channels.size if depth < cin else int(np.diff(bases).max())
    room = min(_BOX, _PANEL_BYTES // (item * depth), max(lane, _WORK_BYTES // (item * sums)))
    box_w = even(blocks[2], min(room, 256) if blocks[0] * blocks[1] > 1 else room)
    pitch = box_w + span[2]
    rows = max(1, room // pitch)
    box_d = even(blocks[0], max(1, round(math.sqrt(rows)) - span[0]))
    box_h = even(blocks[1], max(1, rows // (box_d + span[0]) - span[1]))
    boxes = [-(-n // box) for n, box in zip(blocks, (box_d, box_h, box_w), strict=True)]
    height = box_h + span[1]
    channel = (box_d + span[0]) * height * pitch
    shifts = layout.slots[:, :3] - low
    where = (shifts[:, 0] * height + shifts[:, 1]) * pitch + shifts[:, 2]
    offsets = where[layout.tap_slots]
    plane_d = -(-box_h * pitch // lane) * lane
    plane = box_d * plane_d
    panel = depth * channel + pitch + lane  # whole vectors are read past the last row
    return Direct(
        **per_axis(blocks=blocks, box=(box_d, box_h, box_w), boxes=boxes, low=low, span=span),
        pitch=pitch, plane_d=plane_d, plane=plane, channel=channel, depth=depth, threads=threads,
        line=_LINE, panel=panel, work=_LINE + panel + sums * plane, offsets=offsets,
        iota=_iota(layout), tile=tile_table(plan.accumulate),
    )  # fmt: skip


def per_axis(**sizes: Any) -> dict[str, int]:
    """One field per name and axis: blocks_d, blocks_h, ..."""
    return {f"{name}_{axis}": int(v) for name, values in sizes.items() for axis, v in zip("dhw", values, strict=False)}


def _iota(layout: Layout) -> Table:
    """The table 0, 1, 2, ... for everything that a tile finds at even distances: its rows, and the taps of a set."""
    return _count_to(max(int(layout.sets[:, 3].max()), 64))


@lru_cache(maxsize=16)
def _count_to(end: int) -> Table:
    return np.arange(end, dtype=np.int64)


def even(size: int, most: int) -> int:
    """Largest part when `size` is cut into equal parts of at most `most`."""
    return math.ceil(size / math.ceil(size / max(most, 1)))


def _count(sizes: list[int], boxes: tuple[int, ...]) -> int:
    return math.prod(math.ceil(size / box) for size, box in zip(sizes, boxes, strict=True))
