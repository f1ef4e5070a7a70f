"""What gather should cost, counted in vector operations for each vector of blocks, with no measuring.

A cost is a sum of what a kernel does, each thing as often as it does it, times what that takes: products, loads of what
is multiplied, sums that are put down and read again, vectors that are moved, rows of memory that begin and end
anywhere, and what comes from beyond the second-level cache or goes there. The constants were fitted to the times of
all kernels together on one machine (decision 0023); only ratios between kernels matter. No kernel imports this module
nor the others that count costs, so that what they say changes no machine code.
"""

from __future__ import annotations

import math
from functools import lru_cache

from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..boxes.box_partition import box_of_plan
from ..emit.row_ir import LONG
from ..few import stencil_boxes
from ..gemm.zones import choose_zones
from ..geometry import STREAMED, fits_boxes
from ..partition import even
from ..runs.run_partition import MOVED_BYTES, MOVED_DEPTH, PIXELS
from ..runtime.caches import second_level
from ..tiles.gemm_tile import TILE_ROWS
from ..tiles.stencil_tile import LINES
from . import cost_others
from .sizes import Sizes, sizes_of

#: A product; a vector that is loaded for the products of a tile, in runs and where it lies across cache lines.
PRODUCT, _LOAD, LOAD = 0.823, 1.47, 1.24
#: A vector of sums, put down and read again; one that is moved; a row of blocks that is found, for each slot.
SUM, MOVE, LINE = 4.79, 5.44, 29.0
#: A row of results, whatever its length; more for one that is not whole lines and is written past the caches; and for
#: a vector of such rows, which runs put together first, and boxes do not.
ROW, _RAGGED, _TOGETHER, _APART = 34.0, 39.0, 12.0, 4.36
#: A vector of results that goes beyond the second-level cache; one of phases in turns that are no power of two.
OUT, MIX = 7.05, 2.95
#: A vector of input from beyond that cache, in runs and in boxes; a slab of runs; a panel of boxes; a call.
_ARRIVAL_OF_RUNS, _ARRIVAL, _SLAB, _PANEL, CALL = 3.3, 1.03, 1700.0, 470.0, 3900.0
#: A vector of sums of boxes that the next panel is added to; more for one whose sums outgrow the cache.
_ADD, _FAR_SUM = 8.9, 12.0
#: A product of stencils; a vector of sums and of results beyond the cache; of input, each time that it is read, and
#: from memory; a row of results.
_STENCIL, _STENCIL_SUM, _STENCIL_OUT, _READ, _MEMORY, _STENCIL_ROW = 1.21, 21.0, 37.0, 1.71, 3.39, 56.0
#: Places of a source block up to which boxes have a panel for each: with 1,024, fcn32s_up32 took 120 ms in boxes, and
#: 63 in runs.
PLACES = 64
#: Share of the second-level cache that sums have to themselves.
_SUMS = 0.6
#: Bytes of an input above which it comes from memory.
_FAR = 8 << 20


def useful_products(plan: Plan) -> float:
    """Products per block of outputs of a group, none saved and none wasted; strides of any size count nothing here."""
    channels = (plan.in_channels // plan.groups) * (plan.out_channels // plan.groups)
    return float(channels * math.prod(axis.kernel for axis in kernel_axes(plan)))


def beyond(size: float, share: float = 1.0) -> float:
    """Share of so many bytes that is beyond a share of the second-level cache."""
    return max(0.0, 1.0 - share * second_level() / max(size, 1.0))


@lru_cache(maxsize=1024)
def cost_of_runs(plan: Plan) -> float:
    """Cost of gather in runs of blocks, channels first."""
    sizes = sizes_of(plan)
    if cost_others.is_other(plan, sizes):
        return cost_others.cost_of_runs(plan, sizes)
    cin, slots = sizes.cin, sizes.slots
    depth = even(cin, max(1, MOVED_DEPTH // slots))
    pixels = max(2 * sizes.lanes, min(PIXELS, MOVED_BYTES // 4 // (slots * depth)))
    slabs, runs = -(-cin // depth), max(1.0, sizes.blocks / pixels)
    whole = slots == 1 and sizes.counts == plan.in_spatial
    vectors, rows = _full(sizes), sizes.lines * -(-sizes.counts[2] // sizes.lanes)
    fills = _fills(sizes)
    cost = choose_zones(plan).share * vectors * cin * _products(sizes, _LOAD)
    cost += SUM * vectors * sizes.cout * (sizes.tapped if fills else sizes.phases)
    cost += slots * (MOVE * cin * (vectors if whole else rows) + LINE * sizes.lines * slabs) + _SLAB * slabs * runs
    cost += _ARRIVAL_OF_RUNS * beyond(plan.input_bytes) * _arrivals(sizes, pixels)
    lines = 0.0 if fills else sizes.images * max(1.0, sizes.blocks / sizes.images / PIXELS)
    cost += cost_of_results(plan, sizes, lines if fills or sizes.phases == 1 else sizes.lines, _TOGETHER)
    return (cost + CALL / sizes.groups) / sizes.vectors


def _full(sizes: Sizes) -> int:
    """Vectors that hold all blocks."""
    return -(-sizes.blocks // sizes.lanes)


def _products(sizes: Sizes, load: float) -> float:
    """Products of a channel with a vector, and loads of that for each tile."""
    tiles = -(-sizes.rows // TILE_ROWS) * len(sizes.taps[2].runs) / sizes.axes[2].stride
    return sizes.volume * (PRODUCT * sizes.cout + load * tiles)


def _fills(sizes: Sizes) -> bool:
    """Whether at most one phase of those that are stored together has taps, as `fill.can_fill` has it."""
    _, h, w = sizes.axes
    one = len(sizes.taps[1].counts) == len(sizes.taps[2].counts) == 1 < h.stride * w.stride
    long = w.output_size >= sizes.lanes + w.stride and h.stride * w.output_size % w.stride == 0
    return one and long and sizes.lanes % w.stride == 0


def _arrivals(sizes: Sizes, pixels: int) -> float:
    """Vectors of input that all runs read, those around their blocks included."""
    span_d, span_h = sizes.taps[0].span, sizes.taps[1].span
    lines = pixels / sizes.counts[2]
    if lines < sizes.counts[1]:
        around = (1 + span_h / max(lines, 1.0)) * (1 + span_d)
    else:
        around = min(1 + span_d * sizes.counts[1] / lines, float((1 + span_h) * (1 + span_d)))
    return around * sizes.in_pixels * sizes.cin / sizes.lanes


def cost_of_results(plan: Plan, sizes: Sizes, lines: float, ragged: float) -> float:
    """Channels first, what so many rows of blocks take from their sums to memory."""
    w = sizes.axes[2]
    rows = lines * sizes.cout * sizes.outer
    cost = sizes.results * (OUT * beyond(plan.output_bytes) + (MIX if w.stride & (w.stride - 1) else 0.0)) + ROW * rows
    if plan.output_bytes > STREAMED and w.output_size % sizes.lanes and w.output_size < LONG:
        cost += _RAGGED * rows + ragged * sizes.results
    return cost


@lru_cache(maxsize=1024)
def cost_of_boxes(plan: Plan) -> float:
    """Cost of gather in boxes, channels first; infinite where it does not take the plan."""
    sizes = sizes_of(plan)
    if not fits_boxes(sizes.axes) or sizes.places > PLACES:
        return math.inf
    if cost_others.is_other(plan, sizes):
        return cost_others.cost_of_boxes(plan, sizes)
    box, depth, rows = box_of_plan(plan)
    boxes, vectors, moved, lines = count_boxes(sizes, box)
    panels = -(-sizes.cin // depth)
    sums = rows * 4 * box[0] * box[1] * (box[2] + sizes.taps[2].span)
    cost = vectors * sizes.cin * _products(sizes, LOAD)
    cost += vectors * sizes.cout * (SUM + _FAR_SUM * beyond(sums, _SUMS)) * sizes.phases
    cost += _ADD * vectors * sizes.cout * sizes.tapped * (panels - 1)
    cost += (MOVE + _ARRIVAL * beyond(plan.input_bytes)) * moved * sizes.cin + _PANEL * boxes * (panels + 1)
    return (cost + cost_of_results(plan, sizes, lines, _APART) + CALL / sizes.groups) / sizes.vectors


def count_boxes(sizes: Sizes, box: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Boxes of all images, vectors of their blocks and of a channel of their input, and rows of blocks."""
    (d, h, w), (box_d, box_h, box_w), lanes = sizes.counts, box, sizes.lanes
    span_d, span_h, span_w = (taps.span for taps in sizes.taps)
    pitch, across, down = box_w + span_w, -(-w // box_w), h // box_h
    vectors = d * across * (down * -(-box_h * pitch // lanes) + -(-(h - down * box_h) * pitch // lanes))
    boxes = across * -(-h // box_h) * -(-d // box_d)
    moved = boxes * (box_d + span_d) * (box_h + span_h) * -(-pitch // lanes)
    images = sizes.images
    return boxes * images, vectors * images, moved * images, sizes.lines * across


@lru_cache(maxsize=1024)
def cost_of_stencils(plan: Plan) -> float:
    """Cost of gather by lines that share their input, infinite where it does not take the plan."""
    if not stencil_boxes.takes(plan):
        return math.inf
    sizes = sizes_of(plan)
    if cost_others.is_other(plan, sizes):
        return cost_others.cost_of_stencils(sizes)
    count_d, count_h, count_w = sizes.counts
    taps_d, taps_h = sizes.axes[0].kernel, sizes.taps[1].counts
    reads, rows, products = 0, 0, 0.0
    for phases, taps_w in sizes.taps[2].runs:
        rows += phases * sizes.cout
        reads += len(taps_h) if taps_w else 0
        # A tile waits for its products, or for lines that lie across cache lines.
        for taps in taps_h:
            lines = 2 * (min(LINES, count_h) + taps - 1) / LINES
            products += taps_w * max(phases * sizes.cout * taps, lines)
    planes = sizes.images * count_d * -(-count_w // sizes.lanes)
    cost = _STENCIL * sizes.cin * taps_d * products + _STENCIL_SUM * rows * sizes.axes[0].stride * len(taps_h)
    cost *= planes * max(count_h, LINES)
    cost += _READ * planes * count_h * sizes.cin * taps_d * reads
    cost += _MEMORY * sizes.in_pixels * sizes.cin / sizes.lanes * taps_d * (plan.input_bytes > _FAR)
    cost += _STENCIL_OUT * sizes.results * beyond(plan.output_bytes)
    cost += _STENCIL_ROW * sizes.lines * sizes.cout * sizes.outer
    return (cost + CALL / sizes.groups) / sizes.vectors
