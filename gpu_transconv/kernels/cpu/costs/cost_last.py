"""What gather should cost with the channels last; see `cost` for the unit."""

from __future__ import annotations

import math
from functools import lru_cache

from ....problem.plan import Plan
from ..boxes.box_partition import box_of_plan
from ..few import gather_filters
from ..gemm.zones import choose_zones, reached_of, taps_of
from ..geometry import fits_boxes
from ..runs.in_place import bounds_in_place
from ..tiles.gemm_tile import TILE_ROWS
from . import cost_others
from .cost import PLACES, beyond, count_boxes
from .cost_scatter import FAR_WEIGHT
from .sizes import sizes_of

#: A product; a vector of weights that is loaded for the products of a tile; a vector copied into a panel; a pixel of
#: results, for each run of phases; a vector of results, which tiles write to its place or do not; more beyond the
#: second-level cache; a call.
_PRODUCT, _LOAD, _COPY, _PIXEL, _DIRECT, _RESULT, _OUT, _CALL = 0.669, 4.33, 7.34, 32.0, 4.87, 21.0, 12.0, 4900.0
#: In boxes: a product; a vector loaded for a tile; one that is turned; a row of results; a vector of these; one of sums
#: that the next panel is added to.
_BOX_PRODUCT, _BOX_LOAD, _TURN, _BOX_ROW, _BOX_RESULT, _BOX_ADD = 0.921, 1.83, 7.39, 93.0, 26.0, 28.0
#: By filters: a product; a sum of lanes; a vector of input that is loaded; a row of outputs.
_DOT, _ADD_UP, _FILTER_LOAD, _FILTER_ROW = 0.909, 3.88, 1.21, 480.0
#: Vector operations from which threads share a call. Chosen, not measured.
_SHARED = 1 << 16
#: Rows up to which gather in boxes interleaves results into pixels of channels. Chosen, not measured.
_LAST = 128


@lru_cache(maxsize=1024)
def cost_of_runs(plan: Plan) -> float:
    """Cost of gather in runs of blocks."""
    sizes = sizes_of(plan)
    if cost_others.is_other(plan, sizes):
        return cost_others.cost_of_runs(plan, sizes)
    inside = bounds_in_place(plan)
    meetings, visits = sizes.images, 1
    for axis, bounds in zip(sizes.axes, inside or choose_zones(plan).bounds, strict=True):
        zones = taps_of(axis, bounds, reached_of(axis))
        meetings *= sum(blocks * taps for blocks, taps in zones)
        visits *= sum(taps for _, taps in zones)
    runs = len(sizes.taps[2].runs)
    vectors = -(-sizes.rows // sizes.lanes) * runs  # of a block, with all phases on the innermost axis
    each = sizes.cin * vectors / sizes.axes[2].stride
    cost = each * (_PRODUCT * meetings + _LOAD * (meetings / TILE_ROWS + 0.5 * visits))
    cost += 0.0 if inside else _COPY * sizes.blocks * sizes.slots * -(-sizes.cin // sizes.lanes)
    outputs = sizes.results * sizes.lanes / sizes.cout * -(-sizes.cout // sizes.lanes)
    if inside and sizes.rows % sizes.lanes == 0:
        cost += _DIRECT * outputs
    else:
        cost += _PIXEL * sizes.blocks * sizes.outer * runs + _RESULT * outputs
    cost += _OUT * sizes.results * beyond(plan.output_bytes)
    cost += FAR_WEIGHT * each * sizes.volume * beyond(plan.weight_bytes)
    return (cost + _CALL / sizes.groups) / sizes.vectors


@lru_cache(maxsize=1024)
def cost_of_boxes(plan: Plan) -> float:
    """Cost of gather in boxes, infinite where it does not take the plan."""
    sizes = sizes_of(plan)
    rows = sizes.cout * sizes.axes[2].stride * sizes.axes[1].stride
    if plan.groups > 1 or rows > _LAST or sizes.places > PLACES or not fits_boxes(sizes.axes):
        return math.inf
    if cost_others.is_other(plan, sizes):
        return cost_others.cost_of_boxes(plan, sizes)
    box, depth, _ = box_of_plan(plan)
    boxes, vectors, moved, lines = count_boxes(sizes, box)
    tiles = -(-sizes.rows // TILE_ROWS) * len(sizes.taps[2].runs) / sizes.axes[2].stride
    cost = vectors * sizes.cin * sizes.volume * (_BOX_PRODUCT * sizes.cout + _BOX_LOAD * tiles)
    cost += _TURN * moved * sizes.cin + _BOX_ROW * lines * sizes.outer + _BOX_RESULT * sizes.results
    cost += _BOX_ADD * vectors * sizes.cout * sizes.tapped * (-(-sizes.cin // depth) - 1)
    if cost > _SHARED:  # boxes are not made smaller for threads, so the mean of one thread and of two that may wait
        cost *= 0.5 + -(-boxes // 2) / boxes
    return (cost + _CALL) / sizes.vectors


@lru_cache(maxsize=1024)
def cost_of_filters(plan: Plan) -> float:
    """Cost of gather by filters, infinite where it does not take the plan."""
    if not gather_filters.takes(plan):
        return math.inf
    sizes = sizes_of(plan)
    if cost_others.is_other(plan, sizes):
        return cost_others.cost_of_filters(plan, sizes)
    runs, parts = len(sizes.taps[2].runs), -(-sizes.cin // sizes.lanes)
    cost = sizes.blocks * sizes.volume * parts * (_DOT * sizes.cout + _FILTER_LOAD * runs / sizes.axes[2].stride)
    cost += _ADD_UP * sizes.blocks * sizes.phases * sizes.cout + _FILTER_ROW * sizes.lines * sizes.outer * runs
    return (cost + _CALL) / sizes.vectors
