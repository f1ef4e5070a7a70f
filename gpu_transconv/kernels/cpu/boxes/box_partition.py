"""How gather in boxes cuts a problem; see `gpu_transconv.kernels.cpu.partition`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ....problem.rewrites import kernel_axes
from ..arguments import Table
from ..emit.registers import CACHE_LINE, VECTOR_BYTES
from ..gemm.blocking import PANEL_BYTES, TASKS, WORK_BYTES, can_move, fixed_depth, iota_of, rows_of_sums, tile_half
from ..gemm.layout import CHUNK_ROWS, SHIFT_W, Layout
from ..geometry import Geometry, counted, make_geometry
from ..partition import Partition, PerAxis, even, make_partition, reach_of
from ..runtime.caches import fitted
from ..tiles.box_tile import MOVE_WORDS, box_table
from ..tiles.flat_tile import flat_table

#: Elements of one channel of a box that gather copies: 8 KiB of floats. Chosen, not measured.
_BOX = 2048
#: Input channels of a panel where the input has no step: half a second-level cache with the panel that comes next.
#: Measured against 64: vqvae2_rgb takes 10.2 ms and not 11.1, fsrcnn_x3 2.0 and not 2.4.
_CHANNELS = 32
#: The same where one panel comes in while another is multiplied, and then elements of a channel of a box. Measured:
#: 8 and 32 channels take 0.99 to 1.08 times as long on seven layers, 2048 elements 0.99 to 1.04 times.
_MOVED_CHANNELS, _MOVED_BOX = 16, 4096
#: The same where the input has a step, or channels are last. Chosen, not measured.
PANEL_CHANNELS = 64
#: Channels of an input with a step up to which boxes sum over taps and channels in one loop. Measured: with one channel
#: espcn_equiv_x3 takes 14.9 ms and not 17.1, with two monai_unet_t 6.0 and not 7.1; three make no difference.
_FLAT = 8


class PanelBoxes(NamedTuple):
    """Gather in boxes whose input, with the margin around it, is copied once; distances count elements."""

    pitch: int  # of a row, in panel and sums
    plane_d: int  # distance of two depths in the sums; whole vectors
    plane: int  # of the sums of one row of the layout
    channel: int  # distance of two channels in the panel
    place: int  # distance of two places of a source block in the panel
    step: PerAxis  # places of a source block on each axis
    depth: int  # input channels of one panel
    moves: int  # elements for a list of what brings in a channel of a panel, see `box_tile`, and a vector
    panel: int  # elements of the input
    panels: int  # two where one comes in while the other is multiplied
    fetched: int  # cache lines of a channel that are only fetched meanwhile, where there is one panel
    lanes: int  # elements of a vector
    offsets: Table  # by tap of a set: where in the panel it reads
    places: Table  # the same by tap and channel, where those are summed in one loop
    before: Table  # by tap of a set: weights of a row before it
    flat: int  # address of the compiled tiles that do so, or 0
    tile: int  # address of the compiled tiles


class GatherBoxes(NamedTuple):
    """What the kernel `gather_boxes` unpacks."""

    geometry: Geometry
    layout: Layout
    part: Partition
    cut: PanelBoxes


def cut_panel_boxes(plan: Plan, layout: Layout, threads: int, coupled: bool) -> GatherBoxes:
    """Cut the output into boxes whose panel stays close to the core."""
    geometry, plan = make_geometry(plan, coupled), counted(plan, coupled)
    axes, cin = by_phase(plan).axes, plan.in_channels // plan.groups
    blocks, reach = [axis.blocks for axis in axes], reach_of(axes)
    low, span = zip(*reach, strict=True)
    steps = [axis.step for axis in axes]
    panels = 2 if can_move(geometry, axes) else 1
    depth = _depth(plan, panels)
    sums = rows_of_sums(layout, depth < cin)
    box = _box(plan, blocks, span, (depth, sums, panels), threads)
    pitch, height = box[2] + span[2], box[1] + span[1]
    place = (box[0] + span[0]) * height * pitch
    channel = math.prod(steps) * place
    source, places = np.divmod(layout.slots[:, : SHIFT_W + 1], steps)
    shifts = source - low
    where = (shifts[:, 0] * height + shifts[:, 1]) * pitch + shifts[:, 2]
    where += ((places[:, 0] * steps[1] + places[:, 1]) * steps[2] + places[:, 2]) * place
    lane = VECTOR_BYTES // DTYPES[plan.accumulate].size

    def whole(elements: int) -> int:
        """Elements of whole vectors."""
        return math.ceil(elements / lane) * lane

    plane_d = whole(box[1] * pitch)
    plane = box[0] * plane_d
    panel = whole(depth * channel + pitch + lane)  # whole vectors are read past the last row
    fetched = 0 if panels > 1 else _fetched(plan, geometry, box, span, blocks)
    listed = (box[0] + span[0]) * height * math.ceil(pitch / lane) if panels > 1 else fetched
    moves = whole(listed * MOVE_WORDS * 8 // DTYPES[plan.accumulate].size + lane)
    work = moves + panels * panel + sums * plane + 2 * lane
    part = make_partition(blocks, box, reach, threads, work)
    offsets, flat = where[layout.tap_slots], flat_channels(axes, cin)
    each = (offsets[:, None] + np.arange(cin) * channel).reshape(-1) if flat else offsets[:1]
    cut = PanelBoxes(
        pitch, plane_d, plane, channel, place, PerAxis(*steps), depth, moves, panel, panels, fetched, lane,
        offsets, each, iota_of(layout) * geometry.cin, flat_table(plan.accumulate) if flat else 0,
        box_table(plan.accumulate, tile_half(geometry, panels)),
    )  # fmt: skip
    return GatherBoxes(geometry, layout, part, cut)


def _fetched(
    plan: Plan, geometry: Geometry, box: tuple[int, int, int], span: tuple[int, ...], blocks: list[int]
) -> int:
    """Cache lines of a channel that a box reads, where its rows follow each other and come from memory."""
    axes = by_phase(plan).axes
    if geometry.last or not geometry.far or flat_channels(axes, plan.in_channels // plan.groups):
        return 0
    if box[0] == 1:
        rows = (box[1] + span[1]) * axes[1].step
    else:
        rows = box[0] * axes[0].step * geometry.in_h if box[1] == blocks[1] else 0
    elements = (rows - 1) * geometry.in_w + min(geometry.in_w, (box[2] + span[2]) * axes[2].step)
    return max(0, elements * DTYPES[plan.dtype].size // CACHE_LINE)


def flat_channels(axes: tuple[Axis, Axis, Axis], cin: int) -> bool:
    """Whether boxes of an input with a step sum over its channels and taps in one loop: where channels are few."""
    return cin <= _FLAT and any(axis.step > 1 for axis in axes)


def _rows_of_chunks(axes: tuple[Axis, Axis, Axis], cout: int) -> int:
    """Most rows of a chunk of a layout, where no blocks are computed in pairs."""
    most = axes[1].stride * axes[2].stride
    most = most if most <= CHUNK_ROWS else axes[2].stride
    return -(-cout // -(-cout // max(1, CHUNK_ROWS // most))) * most


class Box(NamedTuple):
    """What costs depend on of the boxes of a plan."""

    blocks: tuple[int, int, int]
    depth: int  # input channels of a panel
    sums: int  # rows of sums that are kept at a time


def box_of_plan(plan: Plan) -> Box:
    """Boxes of a plan on one thread, without a layout."""
    axes, cin, cout = kernel_axes(plan), plan.in_channels // plan.groups, plan.out_channels // plan.groups
    moves = not plan.channels_last and plan.dtype == plan.accumulate and all(axis.step == 1 for axis in axes)
    panels = 2 if moves else 1
    depth = _depth(plan, panels)
    sums = cout * math.prod(axis.stride for axis in axes) if depth < cin else _rows_of_chunks(axes, cout)
    span = [axis.reach().span for axis in axes]
    return Box(_box(plan, [axis.blocks for axis in axes], span, (depth, sums, panels), 1), depth, sums)


def _depth(plan: Plan, panels: int) -> int:
    """Input channels of a panel."""
    cin = plan.in_channels // plan.groups
    if plan.fixed_order:
        return fixed_depth(plan)
    if panels > 1:
        return even(cin, _MOVED_CHANNELS)
    # Channels last, those of a pixel lie together.
    some = not plan.channels_last and all(axis.step == 1 for axis in by_phase(plan).axes)
    return min(cin, _CHANNELS if some else PANEL_CHANNELS)


def _box(
    plan: Plan, blocks: list[int], span: Sequence[int], kept: tuple[int, int, int], threads: int
) -> tuple[int, int, int]:
    """Blocks of a box on each axis; `kept` is the depth of a panel, the rows of sums, and how many panels there are."""
    axes, cin, item = by_phase(plan).axes, plan.in_channels // plan.groups, DTYPES[plan.accumulate].size
    (depth, sums, panels), lane, steps = kept, VECTOR_BYTES // item, math.prod(axis.step for axis in axes)
    channels = depth * steps
    most = _BOX if panels == 1 else _MOVED_BOX
    room = min(most, fitted(PANEL_BYTES) // (panels * item * channels), max(lane, WORK_BYTES // (item * sums)))
    if flat_channels(axes, cin):  # sums of many channels and a panel of few, which stay close together
        room = max(lane, min(room, fitted(PANEL_BYTES) // (item * (channels + sums))))
    box_w = even(blocks[2], min(room, 256) if blocks[0] * blocks[1] > 1 else room)
    rows = max(1, room // (box_w + span[2]))
    box_d = even(blocks[0], max(1, round(math.sqrt(rows)) - span[0]))
    box_h = even(blocks[1], max(1, rows // (box_d + span[0]) - span[1]))
    if steps > 1 or panels > 1:
        box_d, box_h, box_w = _shared_out(blocks, [box_d, box_h, box_w], plan.batch * plan.groups, threads)
    return box_d, box_h, box_w


def _shared_out(blocks: list[int], box: list[int], images: int, threads: int) -> list[int]:
    """Make boxes smaller, on the axis that has most of them, so that few of them are as many for every thread."""
    counts = [math.ceil(size / part) for size, part in zip(blocks, box, strict=True)]
    if images * math.prod(counts) > 2 * TASKS * threads or images * math.prod(counts) % threads == 0:
        return box
    axis = max(range(3), key=lambda i: (counts[i], min(blocks[i], 2)))
    more = math.ceil(counts[axis] / threads) * threads
    return [math.ceil(blocks[i] / more) if i == axis else box[i] for i in range(3)]
