"""The CPU's kernels, in the order in which they are asked: the first that takes a plan computes it, or the cheapest.

There are two such orders, `GATHER` and `SCATTER`, one for each formulation; what a kernel's value says is told in
`cpu_kernel`. The plan that a kernel is asked about is a simplified one (`gpu_transconv.problem.rewrites.simplify`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.rewrites import MOST_PHASES, Problem, kernel_axes, simplify
from .boxes import box_partition, stamp_boxes
from .boxes.gather_boxes import gather_boxes
from .boxes.scatter import scatter
from .choice import Choice
from .costs import cost, cost_last, cost_lists, cost_scatter
from .costs.cost import useful_products
from .costs.sizes import sizes_of
from .cpu_kernel import CpuKernel, Tiles
from .depthwise import channel_boxes, channel_rows, last_boxes, thinned
from .depthwise.channels_first import depthwise
from .depthwise.channels_last import depthwise_last
from .depthwise.last_boxes import depthwise_last_boxes
from .elementwise import elementwise_gather, elementwise_scatter
from .elementwise_input_grad import elementwise_input_gather, elementwise_input_scatter
from .emit.registers import VECTOR_BYTES, has_couples
from .few import stencil_boxes
from .few.gather_filters import cut_filters, gather_filters
from .few.gather_stencil import gather_stencil
from .few.scatter_pixels import cost_of_pixels, cut_pixels, scatter_pixels, takes_pixels
from .gemm.pairs import paired_axes
from .gemm.winograd import saving
from .geometry import counted, fits_boxes
from .lines import line_partition, stamp_lines
from .lines.gather_lines import gather_lines
from .lines.scatter_lines import scatter_lines
from .pack import (
    pack_as_it_is,
    pack_channels_last,
    pack_dots,
    pack_filters,
    pack_lines,
    pack_phases,
    pack_pixels,
    pack_points,
    pack_rows,
    pack_stamps,
    pack_taps,
)
from .partition import HasPartition
from .points import point_lists, point_strips
from .points.gather_points import gather_points
from .points.scatter_points import scatter_points
from .runs import run_partition
from .runs.gather import gather
from .weight_order import TILED, WeightOrder, make_order, rows_layout, stamps_layout

#: How many times longer an operation takes in loops without tiles, and in those that scatter. Chosen, not measured:
#: such loops are the last resort of either formulation.
_LOOPS, _SCATTERED_LOOPS = 16.0, 32.0
#: What sums and differences leave of the time that pairs of blocks save; 1.16 to 1.29 times faster in most layers of
#: docs/speed/performance.md, where the products alone would make it 1.33.
_KEPT = 0.8
#: Cost of scatter, in multiples of gather's, where it has no estimate of its own. Chosen, not measured.
_SCATTERED = 1.5
#: How much longer layers of few output channels take than their products, sums and results alone, which is all that the
#: cost of stamps of pixels counts: 1.12 to 1.22 in five layers.
_UNCOUNTED = 1.2
#: Vector operations for a weight that is packed, as it has to be for stamps in boxes; see `choice`.
_PACKED = 40.0


@lru_cache(maxsize=1024)
def _has_tiles(plan: Plan) -> bool:
    return plan.dtype in TILED and math.prod(axis.stride for axis in kernel_axes(plan)) <= MOST_PHASES


@lru_cache(maxsize=1024)
def _is_coupled(plan: Plan) -> bool:
    """Whether gather multiplies two input channels at a time; of a channel alone the other half of a word is zero."""
    alone = plan.groups == 1 and plan.in_channels > 1 and not plan.channels_last
    able = plan.dtype == "bfloat16" and has_couples() and all(axis.step == 1 for axis in plan.axes)
    return able and (_is_even(plan) or alone)


def _is_even(plan: Plan) -> bool:
    return plan.in_channels // plan.groups % 2 == 0


def _is_coupled_in_place(plan: Plan) -> bool:
    """The same where the input is read where it lies."""
    return _is_coupled(plan) and _is_even(plan)


def _is_coupled_scatter(plan: Plan) -> bool:
    return _is_coupled_in_place(plan) and not plan.channels_last


def _compares(plan: Plan) -> bool:
    """No kernel that is compared with others takes a plan before the others are asked."""
    return False


def _cost_of_loops(plan: Plan) -> float:
    return _LOOPS * useful_products(plan)


def _cost_of_runs(plan: Plan) -> float:
    plan = counted(plan, _is_coupled(plan))
    return cost_last.cost_of_runs(plan) if plan.channels_last else cost.cost_of_runs(plan)


def _cost_of_boxes(plan: Plan) -> float:
    plan = counted(plan, _is_coupled(plan))
    return cost_last.cost_of_boxes(plan) if plan.channels_last else cost.cost_of_boxes(plan)


def _cost_of_filters(plan: Plan) -> float:
    # Couples are as fast in boxes, or faster: adding up lanes and outputs takes as long as their products.
    return math.inf if _is_coupled(plan) else cost_last.cost_of_filters(plan)


def _cost_of_stencils(plan: Plan) -> float:
    return cost.cost_of_stencils(counted(plan, _is_coupled_in_place(plan)))


def _cost_of_pairs(plan: Plan) -> float:
    """Cost of runs of pairs, infinite where there are none: they save a share of what gather takes without."""
    if not _has_pairs(plan):
        return math.inf
    axes, others = kernel_axes(plan), (_cost_of_runs(plan), _cost_of_boxes(plan), _cost_of_stencils(plan))
    return min(others) * math.prod(1 - _KEPT * saving(axes[i]) for i in paired_axes(plan))


def _cost_of_stamps(plan: Plan) -> float:
    own = cost_scatter.cost_of_stamps(counted(plan, _is_coupled_scatter(plan)))
    return own if own < math.inf else _SCATTERED * min(_cost_of_runs(plan), _cost_of_boxes(plan))


def _cost_of_pixels(plan: Plan) -> float:
    return _UNCOUNTED * cost_of_pixels(plan)


def _cost_of_stamp_lines(plan: Plan) -> float:
    return cost_scatter.cost_of_lines(plan) if stamp_lines.takes(plan) else math.inf


def _cost_of_scattered_loops(plan: Plan) -> float:
    return _SCATTERED_LOOPS * useful_products(plan)


def _is_strips(plan: Plan) -> bool:
    """Whether lists of what meets are the best for weights as they lie."""
    packed = _PACKED * useful_products(plan) / sizes_of(plan).blocks
    return cost_lists.cost_of_strips(plan) < min(_cost_of_stamp_lines(plan), _cost_of_stamps(plan) + packed)


def _vector(plan: Plan) -> int:
    return VECTOR_BYTES // DTYPES[plan.accumulate].size


def _lanes(plan: Plan) -> int:
    """Channels last, the rows of a set are whole vectors."""
    return _vector(plan) if plan.channels_last else 1


def _is_loops(plan: Plan) -> bool:
    return not _has_tiles(plan)


def _is_scattered_loops(plan: Plan) -> bool:
    return not (_has_tiles(plan) and fits_boxes(kernel_axes(plan)))


def _has_pairs(plan: Plan) -> bool:
    return bool(paired_axes(plan)) and not _is_coupled(plan)


def _paired(plan: Plan) -> tuple[int, ...]:
    return paired_axes(plan)


def _by_plan(cut: Callable[[Plan, int], HasPartition]) -> Callable[[Plan, WeightOrder, int], HasPartition]:
    """The same for a kernel that is cut alike whatever the order of its weights."""
    return lambda plan, _, threads: cut(plan, threads)


def _cut_runs(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return run_partition.cut_runs(plan, rows_layout(order), threads, order.coupled)


def _cut_panel_boxes(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return box_partition.cut_panel_boxes(plan, rows_layout(order), threads, order.coupled)


def _cut_stencil_boxes(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return stencil_boxes.cut_stencil_boxes(plan, rows_layout(order), threads, order.coupled)


def _cut_stamp_boxes(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return stamp_boxes.cut_stamp_boxes(plan, *stamps_layout(order), threads, order.coupled)


LOOPS = CpuKernel("plain", "loops without tiles", _is_loops, _cost_of_loops)
LAST_BOXES = CpuKernel(
    "depthwise_last_boxes", "depthwise, channels last, boxes of a vector of channels", last_boxes.takes,
    useful_products, Tiles(depthwise_last_boxes, pack_channels_last, _by_plan(last_boxes.cut_last_boxes)),
)  # fmt: skip
DEPTHWISE_LAST = CpuKernel(
    "depthwise_last", "depthwise, channels last", channel_rows.takes, useful_products,
    Tiles(depthwise_last, pack_channels_last, _by_plan(channel_rows.cut_rows)),
)  # fmt: skip
DEPTHWISE = CpuKernel(
    "depthwise", "depthwise, boxes of a channel", channel_boxes.takes, useful_products,
    Tiles(depthwise, pack_filters, _by_plan(channel_boxes.cut_channel_boxes)),
)  # fmt: skip
THINNED = CpuKernel(
    "depthwise_thinned", "depthwise, with a step", thinned.takes, useful_products,
    Tiles(thinned.depthwise_thinned, pack_taps, _by_plan(thinned.cut_thinned)),
)  # fmt: skip
LINES = CpuKernel(
    "gather_lines", "sums along lines of memory, weights as they are", line_partition.takes, useful_products,
    Tiles(gather_lines, pack_lines, _by_plan(line_partition.cut_lines)),
)  # fmt: skip
WINOGRAD = CpuKernel(
    "gather", "matrix products in tiles, blocks in pairs", _compares, _cost_of_pairs,
    Tiles(gather, pack_rows, _cut_runs, paired=_paired),
)  # fmt: skip
FILTERS = CpuKernel(
    "gather_filters", "filters times pixels, lanes along the channels", _compares, _cost_of_filters,
    Tiles(gather_filters, pack_dots, _by_plan(cut_filters)),
)  # fmt: skip
BOXES = CpuKernel(
    "gather_boxes", "direct, boxes of the output", _compares, _cost_of_boxes,
    Tiles(gather_boxes, pack_rows, _cut_panel_boxes, coupled=_is_coupled),
)  # fmt: skip
STENCIL = CpuKernel(
    "gather_stencil", "direct, lines of blocks that share their input", _compares, _cost_of_stencils,
    Tiles(gather_stencil, pack_rows, _cut_stencil_boxes, coupled=_is_coupled_in_place),
)  # fmt: skip
RUNS = CpuKernel(
    "gather", "matrix products in tiles", _compares, _cost_of_runs,
    Tiles(gather, pack_rows, _cut_runs, lanes=_lanes, coupled=_is_coupled),
)  # fmt: skip
POINTS = CpuKernel(
    "gather_points", "matrix products in tiles, tap by tap of what exists", _compares, cost_lists.cost_of_points,
    Tiles(gather_points, pack_points, _by_plan(point_lists.cut_points), lanes=point_lists.half_strip),
)  # fmt: skip
SCATTERED_LOOPS = CpuKernel("plain", "loops without tiles", _is_scattered_loops, _cost_of_scattered_loops)
PHASES = CpuKernel(
    "scatter_phases", "stamps of whole strides, phases as channels, weights as they are", point_strips.takes_phases,
    cost_lists.cost_of_phases, Tiles(scatter_points, pack_phases, _by_plan(point_strips.cut_phases)),
)  # fmt: skip
PIXELS = CpuKernel(
    "scatter_pixels", "stamps of pixels as they lie, added to rows of outputs", takes_pixels, _cost_of_pixels,
    Tiles(scatter_pixels, pack_pixels, _by_plan(cut_pixels)),
)  # fmt: skip
STRIPS = CpuKernel(
    "scatter_points", "stamps tap by tap of what exists, weights turned when needed", _is_strips,
    cost_lists.cost_of_strips, Tiles(scatter_points, pack_as_it_is, _by_plan(point_strips.cut_strips)),
)  # fmt: skip
STAMP_LINES = CpuKernel(
    "scatter_lines", "stamps along lines of memory, weights as they are", _compares, _cost_of_stamp_lines,
    Tiles(scatter_lines, pack_as_it_is, _by_plan(stamp_lines.cut_lines)),
)  # fmt: skip
STAMPS = CpuKernel(
    "scatter", "matrix products in tiles, added into boxes of the output", _compares, _cost_of_stamps,
    Tiles(scatter, pack_stamps, _cut_stamp_boxes, coupled=_is_coupled_scatter),
)  # fmt: skip

#: The kernels of each formulation, in the order in which they are asked; those that are compared are asked together.
GATHER = (LOOPS, LAST_BOXES, DEPTHWISE_LAST, DEPTHWISE, THINNED, POINTS, WINOGRAD, FILTERS, STENCIL, BOXES, RUNS)
SCATTER = (SCATTERED_LOOPS, PIXELS, PHASES, STRIPS, STAMP_LINES, STAMPS)
#: The same for the gradient by the input.
INPUT_GATHER = (*GATHER[:5], LINES, *GATHER[5:])
INPUT_SCATTER = (SCATTERED_LOOPS, STAMPS)
#: Those of gather that round as the definition does: what `precision` "fast" adds left out.
EXACT = tuple(kernel for kernel in GATHER if kernel is not WINOGRAD)
#: The compiled loops of both formulations, for arrays in the type of their sums.
ELEMENTWISE = (elementwise_gather, elementwise_scatter, elementwise_input_gather, elementwise_input_scatter)


def _best(kernels: tuple[CpuKernel, ...], plan: Plan) -> CpuKernel:
    """The first that takes the plan, or else the one that costs least."""
    first = next((kernel for kernel in kernels if kernel.takes(plan)), None)
    return first or min(kernels, key=lambda kernel: kernel.cost(plan) if kernel.takes is _compares else math.inf)


def _choose(kernels: tuple[CpuKernel, ...], plan: Plan) -> Choice:
    problem = simplify(plan)
    kernel = _best(kernels, problem.plan)
    return Choice(kernel, problem.plan, _order_for(kernel, problem))


def _order_for(kernel: CpuKernel, problem: Problem) -> WeightOrder:
    if kernel.tiles is None:
        return make_order(None, problem)
    tiles, plan = kernel.tiles, problem.plan
    return make_order(tiles.pack, problem, tiles.lanes(plan), tiles.paired(plan), tiles.coupled(plan))


@lru_cache(maxsize=512)
def choose_gather(plan: Plan) -> Choice:
    """Kernel of the gather formulation for a plan."""
    return _choose(GATHER, plan)


@lru_cache(maxsize=64)
def choose_exact(plan: Plan) -> Choice:
    """The same without pairs of blocks, where an infinity may become NaN."""
    return _choose(EXACT, plan)


@lru_cache(maxsize=512)
def choose_input_gather(plan: Plan) -> Choice:
    """The same for the gradient by the input, of which `plan` is the correlation."""
    return _swapped(_choose(INPUT_GATHER, plan))


def choose_input_exact(plan: Plan) -> Choice:
    """The same by a kernel in which no result depends on what it does not read."""
    return _swapped(choose_exact(plan))


def _swapped(choice: Choice) -> Choice:
    return choice._replace(order=choice.order._replace(swapped=True))


@lru_cache(maxsize=512)
def choose_scatter(plan: Plan) -> Choice:
    """Kernel of the scatter formulation for a plan."""
    return _choose(SCATTER, plan)


@lru_cache(maxsize=512)
def choose_input_scatter(plan: Plan) -> Choice:
    """The same for the gradient by the input, of which `plan` is the correlation."""
    return _swapped(_choose(INPUT_SCATTER, plan))
