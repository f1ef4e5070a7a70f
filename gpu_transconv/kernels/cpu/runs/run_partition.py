"""How the matrix products of gather cut a problem: from plan, layout and machine, with no measuring and no search.

Each kernel has a class of what it needs besides the `Partition`, and one of all that it unpacks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..arguments import Table
from ..emit.numbers import COUPLED
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import LONG
from ..gemm.blocking import PANEL_BYTES, TASKS, WORK_BYTES, can_move, fixed_depth, iota_of, rows_of_sums, tile_half
from ..gemm.fill import can_fill
from ..gemm.layout import TAPS, Layout, facts_of
from ..gemm.store import LINE
from ..gemm.zones import Zones, choose_zones, make_zones
from ..geometry import Geometry, counted, make_geometry
from ..partition import Partition, PerAxis, even, make_partition, reach_of
from ..runtime.caches import fitted
from ..tiles.box_tile import MOVE_WORDS, box_table
from ..tiles.gemm_tile import tile_table
from .in_place import ALIASED, Places, bounds_in_place, make_places
from .shares import bounds_of_parts, share_of_waiting, shares_of, sizes_of_parts

#: Bytes of each of two panels of input, of which one comes in while the other is multiplied. Measured: 384 and
#: 512 KiB take 0.99 to 1.04 times as long on ten layers.
MOVED_BYTES = PANEL_BYTES // 2
#: Moves in the list of what brings in a panel, about: as many as fit of whole channels, and one channel at least.
_LISTED = 64
#: Products added before a partial sum is put down, which bounds the panel and the error of a long float32 sum (chosen,
#: not measured); and the same where blocks are computed in pairs (measured, see the log in docs/speed/performance.md).
_DEPTH, _PAIRED_DEPTH = 2048, 8 * 2048
#: The same where the next panel comes in meanwhile. Measured: 512 and 2048 take 0.98 to 1.06 times as long.
MOVED_DEPTH = 1024
#: Blocks up to which one run takes all of them, with a panel that is less deep. Chosen, not measured.
_FEW = 128
#: Blocks of a run at most (chosen, not measured), and where most of what is stored are phases without taps: then longer
#: runs are longer pieces of memory. Measured: mednext_res_t takes 29.5 ms with 256, 24.0 with 1024, 22.8 with 2048.
PIXELS, _FILLED_PIXELS = 256, 2048
#: Vector operations for a vector copied into a panel: a read, a write, and its share of the row's ends.
_COPY = 3.0
#: Elements for a row that is put together before it is stored, with room for its misalignment.
LINE_ROOM = LINE + 64


class Runs(NamedTuple):
    """Gather in runs of blocks that follow each other, whatever box they make."""

    pixels: int  # blocks of one run
    runs: int
    depth: int  # input channels of one panel
    pitch: int  # elements from one of its channels to the next, or with channels last from a block
    splits: int  # parts of the chunks that run as tasks of their own
    moves: int  # elements for a list of what brings in channels of a panel, see `box_tile`
    listed: int  # moves in that list, about
    line: int  # elements for a row that is put together
    panel: int  # elements of the input
    panels: int  # two where one comes in while the other is multiplied
    lanes: int  # elements of a vector
    flat: int  # whether block and input pixel are the same number
    fills: int  # whether at most one phase of a chunk has taps; of the others' sums one vector is written then
    joined: int  # whether taps and channels of a set follow each other in the panel, as one sum
    step: PerAxis  # inputs from one block to the next: 2 with pairs, the axis' step in the gradient by the input
    bounds: Table  # by part of the chunks: its first chunk
    shares: Table  # by thread: its first task
    iota: Table
    before: Table  # by tap of a set: weights of a row before it
    places: Table  # and where in the panel it reads
    zone_before: Table  # the same of the taps that are listed for zones
    zone_places: Table
    tile: int  # address of the compiled tiles


class Gather(NamedTuple):
    """What the kernel `gather` unpacks; blocks are pairs of them on an axis that has pairs."""

    geometry: Geometry
    layout: Layout
    part: Partition
    runs: Runs
    zones: Zones
    places: Places


class _Blocks(NamedTuple):
    """The columns of the product, before they are cut into runs."""

    axes: tuple[int, int, int]  # blocks on each, of pairs on an axis that has pairs
    zones: Zones
    paired: bool
    in_place: bool  # whether input is read where it lies, not from a panel
    moving: bool  # whether tiles bring in the next panel
    fills: bool  # see `Runs`


class _Size(NamedTuple):
    """Of one run."""

    depth: int
    pixels: int
    runs: int


def cut_runs(plan: Plan, layout: Layout, threads: int, coupled: bool) -> Gather:
    """Cut the problem for `threads` threads; the order of every sum does not depend on their number."""
    geometry, plan = make_geometry(plan, coupled), counted(plan, coupled)
    product, facts, itemsize = by_phase(plan), facts_of(layout), DTYPES[plan.accumulate].size
    cin, lane = plan.in_channels // plan.groups, VECTOR_BYTES // itemsize
    blocks = _count_blocks(plan, layout, geometry, coupled)
    zones = blocks.zones
    slots = 1 if blocks.in_place else len(layout.slots)
    depth, pixels, runs = _size_of_runs(plan, layout, blocks, slots, threads)
    splits = _splits(plan, layout, zones.blocks, pixels, threads)
    panels = 2 if blocks.moving and runs * plan.groups * splits * math.ceil(cin / depth) > threads else 1
    pitch, place = _distances(plan, depth, pixels, panels)
    panel = 2 * pixels * 8 // itemsize if blocks.in_place else slots * place  # or two lists
    moves = math.ceil(max(slots * pixels, _LISTED) * MOVE_WORDS * 8 / VECTOR_BYTES) * lane if panels > 1 else 0
    places = make_places(plan, geometry, layout, zones, blocks.in_place, depth == cin)
    # A tile may read and write whole vectors past the last block.
    sums = (1 + places.later) * rows_of_sums(layout, depth < cin) * pixels
    work = moves + LINE_ROOM + panels * panel + sums + 256
    part = make_partition(blocks.axes, blocks.axes, reach_of(product.axes), threads, work)
    steps = [axis.step * pair for axis, pair in zip(product.axes, (1, layout.paired_h, layout.paired_w), strict=True)]
    first_chunks = bounds_of_parts(layout, splits)
    parts = np.tile(sizes_of_parts(layout, first_chunks), plan.groups)
    cut = Runs(
        pixels, runs, depth, pitch, splits, moves, _LISTED, LINE_ROOM, panel, panels, lane,
        int(facts.reads_blocks and tuple(axis.blocks for axis in product.axes) == plan.in_spatial), int(blocks.fills),
        int(depth == cin and len(zones.boxes) == 2 and facts.follows), PerAxis(*steps),
        first_chunks, shares_of(zones, pixels, runs, parts, threads), iota_of(layout), iota_of(layout) * geometry.cin,
        layout.tap_slots * place, zones.taps * geometry.cin, zones.slots * place,
        _tiles(plan, geometry, panels),
    )  # fmt: skip
    return Gather(geometry, layout, part, cut, zones, places)


def _count_blocks(plan: Plan, layout: Layout, geometry: Geometry, coupled: bool) -> _Blocks:
    axes = by_phase(plan).axes
    depth, height, width = (axis.blocks for axis in axes)
    sizes = depth, math.ceil(height / layout.paired_h), math.ceil(width / layout.paired_w)
    paired = layout.paired_h * layout.paired_w > 1
    bounds = tuple((0, count) for count in sizes) if paired else choose_zones(plan).bounds
    in_place = bounds_in_place(plan) if coupled or not geometry.half else None
    zones = make_zones(plan, layout, in_place or bounds)
    moving = zones.blocks > _FEW and not paired and can_move(geometry, axes)
    fills = len(zones.boxes) == 2 and can_fill(plan, layout)
    return _Blocks(sizes, zones, paired, in_place is not None, moving, fills)


def _size_of_runs(plan: Plan, layout: Layout, blocks: _Blocks, slots: int, threads: int) -> _Size:
    """Choose the depth of a panel and the blocks of a run; where input is read in place, it has one slot."""
    itemsize, total, axes = DTYPES[plan.accumulate].size, blocks.zones.blocks, by_phase(plan).axes
    cin, lane = plan.in_channels // plan.groups, VECTOR_BYTES // itemsize
    deep, room = _room(blocks.paired, blocks.moving)
    # With few blocks, a shallower panel of all of them, so that the weights are read once.
    limit = deep if total > _FEW or blocks.in_place else min(deep, room // (itemsize * total))
    if blocks.in_place:  # nothing is copied, so only the taps of a sum bound its panels
        limit //= max(1, int(layout.sets[:, TAPS].max()))
    depth = fixed_depth(plan) if plan.fixed_order else even(cin, max(1, limit // slots))
    sums = rows_of_sums(layout, depth < cin)
    most = min(room // (slots * depth), WORK_BYTES // (sums + (1 + blocks.moving) * slots * depth)) // itemsize
    runs = math.ceil(total / max(2 * lane, min(most, _FILLED_PIXELS if blocks.fills else _most_pixels(axes[2], lane))))
    # As much for every thread: either more runs, which all read the weights, or parts of the chunks, which all copy
    # the input.
    more = math.ceil(runs * plan.groups / threads) * threads // plan.groups
    if 2 * slots * total < layout.weights and len(layout.chunks) > 1:
        more = runs
    pixels = max(2 * lane, math.ceil(math.ceil(total / max(runs, more)) / lane) * lane)
    return _Size(depth, pixels, math.ceil(total / pixels))


def _splits(plan: Plan, layout: Layout, total: int, pixels: int, threads: int) -> int:
    """Parts of the chunks that run as tasks of their own."""
    tasks = math.ceil(total / pixels) * plan.groups
    splits = min(len(layout.chunks), threads // math.gcd(threads, tasks))
    waits = share_of_waiting(total, pixels, plan.groups, threads)
    if tasks > TASKS * threads and waits < (splits - 1) * _share_of_copies(plan):
        return 1  # threads wait for each other less than they would copy twice
    return splits


def _room(paired: bool, moving: bool) -> tuple[int, int]:
    """Products of a partial sum, and bytes of a panel, at most."""
    # A pair's differences have slots of their own, each for one tap, and there are fewer blocks to fill the vectors.
    deep, room = (_PAIRED_DEPTH, 2 * PANEL_BYTES) if paired else (_DEPTH, PANEL_BYTES)
    if moving:
        deep, room = MOVED_DEPTH, MOVED_BYTES
    return fitted(deep), fitted(room)


def _tiles(plan: Plan, geometry: Geometry, panels: int) -> int:
    """Address of the compiled tiles."""
    if plan.channels_last:
        return tile_table(plan.accumulate, geometry.half == COUPLED)
    return box_table(plan.accumulate, tile_half(geometry, panels))


def _most_pixels(axis: Axis, lane: int) -> int:
    """Blocks of a run at most: more where rows are long and begin anywhere, so that what is stored is `LONG` too."""
    if axis.output_size < LONG or axis.output_size % lane == 0:
        return PIXELS
    return max(PIXELS, LONG // axis.stride)


def _distances(plan: Plan, depth: int, pixels: int, panels: int) -> tuple[int, int]:
    """Elements of a panel from one channel, or with channels last block, to the next, and from one slot to the next."""
    item = DTYPES[plan.accumulate].size
    lane = VECTOR_BYTES // item
    if plan.channels_last:
        pitch = depth + (0 if depth * item % ALIASED else lane)
        return pitch, pixels * pitch
    pitch = pixels + (lane if panels > 1 else 0)  # the last vector that is moved may reach further
    return pitch, depth * pitch


def _share_of_copies(plan: Plan) -> float:
    """Time in which gather in runs copies its input, over that of its products."""
    product = by_phase(plan)
    return _COPY * math.prod(len(axis.shifts()) for axis in product.axes) / (product.rows * product.taps)
