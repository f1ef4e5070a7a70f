"""The CPU's kernels, in the order in which they are asked: the first that takes a plan computes it.

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
from .choice import Choice
from .cpu_kernel import CpuKernel, Tiles
from .depthwise import channel_boxes, channel_rows, thinned
from .depthwise.channels_first import depthwise
from .depthwise.channels_last import depthwise_last
from .elementwise import elementwise_gather, elementwise_scatter
from .elementwise_input_grad import elementwise_input_gather, elementwise_input_scatter
from .emit.registers import VECTOR_BYTES, has_couples
from .gemm import (
    box_partition,
    line_partition,
    partitions,
    point_lists,
    point_strips,
    stamp_boxes,
    stamp_lines,
    stencil_boxes,
)
from .gemm.cost import cost_of_boxes, cost_of_lines, cost_of_runs, cost_of_stamps, paired_axes, useful_products
from .gemm.gather import gather
from .gemm.gather_boxes import gather_boxes
from .gemm.gather_filters import cost_of_filters, cut_filters, gather_filters
from .gemm.gather_lines import gather_lines
from .gemm.gather_points import gather_points
from .gemm.gather_stencil import gather_stencil
from .gemm.point_lists import cost_of_points
from .gemm.point_strips import cost_of_strips
from .gemm.scatter import scatter
from .gemm.scatter_lines import scatter_lines
from .gemm.scatter_points import scatter_points
from .gemm.stencil_boxes import cost_of_stencils
from .gemm.winograd import saving
from .geometry import counted, fits_boxes
from .pack import (
    pack_as_it_is,
    pack_channels_last,
    pack_dots,
    pack_filters,
    pack_lines,
    pack_phases,
    pack_points,
    pack_rows,
    pack_stamps,
    pack_taps,
)
from .partition import HasPartition
from .weight_order import TILED, WeightOrder, make_order, rows_layout, stamps_layout

#: How many times longer an operation takes in loops without tiles, and in those that scatter. Chosen, not measured:
#: such loops are the last resort of either formulation.
_LOOPS, _SCATTERED_LOOPS = 16.0, 32.0
#: What sums and differences leave of the time that pairs of blocks save; 1.16 to 1.29 times faster in most layers of
#: docs/speed/performance.md, where the products alone would make it 1.33.
_KEPT = 0.8
#: Cost of scatter, in multiples of gather's, where it has no estimate of its own. Chosen, not measured.
_SCATTERED = 1.5


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


def _takes_all(plan: Plan) -> bool:
    return True


def _cost_of_loops(plan: Plan) -> float:
    return _LOOPS * useful_products(plan)


def _cost_of_gather(plan: Plan) -> float:
    filters = math.inf if _is_coupled(plan) else cost_of_filters(plan)
    plan = counted(plan, _is_coupled(plan))
    return min(cost_of_runs(plan), cost_of_boxes(plan), cost_of_stencils(plan), filters)


def _cost_of_pairs(plan: Plan) -> float:
    axes = kernel_axes(plan)
    return _cost_of_gather(plan) * math.prod(1 - _KEPT * saving(axes[i]) for i in paired_axes(plan))


def _cost_of_scatter(plan: Plan) -> float:
    own = cost_of_stamps(counted(plan, _is_coupled_scatter(plan)))
    return _SCATTERED * _first(GATHER, plan).cost(plan) if own is None else own


def _cost_of_scattered_loops(plan: Plan) -> float:
    return _cost_of_scatter(plan) if _has_tiles(plan) else _SCATTERED_LOOPS * useful_products(plan)


def _is_points(plan: Plan) -> bool:
    return cost_of_points(plan) < (_cost_of_pairs(plan) if _has_pairs(plan) else _cost_of_gather(plan))


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


def _is_boxes(plan: Plan) -> bool:
    plan = counted(plan, _is_coupled(plan))
    return cost_of_boxes(plan) < cost_of_runs(plan)


def _is_filters(plan: Plan) -> bool:
    # Couples are as fast in boxes, or faster: adding up lanes and outputs takes as long as their products.
    return not _is_coupled(plan) and cost_of_filters(plan) < min(cost_of_runs(plan), cost_of_boxes(plan))


def _is_stencil(plan: Plan) -> bool:
    own = cost_of_stencils(counted(plan, _is_coupled_in_place(plan)))
    plan = counted(plan, _is_coupled(plan))
    return own < min(cost_of_runs(plan), cost_of_boxes(plan))


def _paired(plan: Plan) -> tuple[int, ...]:
    return paired_axes(plan)


def _by_plan(cut: Callable[[Plan, int], HasPartition]) -> Callable[[Plan, WeightOrder, int], HasPartition]:
    """The same for a kernel that is cut alike whatever the order of its weights."""
    return lambda plan, _, threads: cut(plan, threads)


def _cut_runs(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return partitions.cut_runs(plan, rows_layout(order), threads, order.coupled)


def _cut_panel_boxes(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return box_partition.cut_panel_boxes(plan, rows_layout(order), threads, order.coupled)


def _cut_stencil_boxes(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return stencil_boxes.cut_stencil_boxes(plan, rows_layout(order), threads, order.coupled)


def _cut_stamp_boxes(plan: Plan, order: WeightOrder, threads: int) -> HasPartition:
    return stamp_boxes.cut_stamp_boxes(plan, *stamps_layout(order), threads, order.coupled)


LOOPS = CpuKernel("plain", "loops without tiles", _is_loops, _cost_of_loops)
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
    "gather", "matrix products in tiles, blocks in pairs", _has_pairs, _cost_of_pairs,
    Tiles(gather, pack_rows, _cut_runs, paired=_paired),
)  # fmt: skip
FILTERS = CpuKernel(
    "gather_filters", "filters times pixels, lanes along the channels", _is_filters, _cost_of_gather,
    Tiles(gather_filters, pack_dots, _by_plan(cut_filters)),
)  # fmt: skip
BOXES = CpuKernel(
    "gather_boxes", "direct, boxes of the output", _is_boxes, _cost_of_gather,
    Tiles(gather_boxes, pack_rows, _cut_panel_boxes, coupled=_is_coupled),
)  # fmt: skip
STENCIL = CpuKernel(
    "gather_stencil", "direct, lines of blocks that share their input", _is_stencil, _cost_of_gather,
    Tiles(gather_stencil, pack_rows, _cut_stencil_boxes, coupled=_is_coupled_in_place),
)  # fmt: skip
RUNS = CpuKernel(
    "gather", "matrix products in tiles", _takes_all, _cost_of_gather,
    Tiles(gather, pack_rows, _cut_runs, lanes=_lanes, coupled=_is_coupled),
)  # fmt: skip
POINTS = CpuKernel(
    "gather_points", "matrix products in tiles, tap by tap of what exists", _is_points, cost_of_points,
    Tiles(gather_points, pack_points, _by_plan(point_lists.cut_points), lanes=point_lists.half_strip),
)  # fmt: skip
SCATTERED_LOOPS = CpuKernel("plain", "loops without tiles", _is_scattered_loops, _cost_of_scattered_loops)
PHASES = CpuKernel(
    "scatter_phases", "stamps of whole strides, phases as channels, weights as they are", point_strips.takes_phases,
    point_strips.cost_of_phases, Tiles(scatter_points, pack_phases, _by_plan(point_strips.cut_phases)),
)  # fmt: skip
STRIPS = CpuKernel(
    "scatter_points", "stamps tap by tap of what exists, weights turned when needed", point_strips.takes,
    cost_of_strips, Tiles(scatter_points, pack_as_it_is, _by_plan(point_strips.cut_strips)),
)  # fmt: skip
STAMP_LINES = CpuKernel(
    "scatter_lines", "stamps along lines of memory, weights as they are", stamp_lines.takes, cost_of_lines,
    Tiles(scatter_lines, pack_as_it_is, _by_plan(stamp_lines.cut_lines)),
)  # fmt: skip
STAMPS = CpuKernel(
    "scatter", "matrix products in tiles, added into boxes of the output", _takes_all, _cost_of_scatter,
    Tiles(scatter, pack_stamps, _cut_stamp_boxes, coupled=_is_coupled_scatter),
)  # fmt: skip

#: The kernels of each formulation, in the order in which they are asked.
GATHER = (LOOPS, DEPTHWISE_LAST, DEPTHWISE, THINNED, POINTS, WINOGRAD, FILTERS, STENCIL, BOXES, RUNS)
SCATTER = (SCATTERED_LOOPS, PHASES, STRIPS, STAMP_LINES, STAMPS)
#: The same for the gradient by the input.
INPUT_GATHER = (*GATHER[:4], LINES, *GATHER[4:])
INPUT_SCATTER = (SCATTERED_LOOPS, STAMPS)
#: Those of gather that round as the definition does: what `precision` "fast" adds left out.
EXACT = tuple(kernel for kernel in GATHER if kernel is not WINOGRAD)
#: The compiled loops of both formulations, for arrays in the type of their sums.
ELEMENTWISE = (elementwise_gather, elementwise_scatter, elementwise_input_gather, elementwise_input_scatter)


def _first(kernels: tuple[CpuKernel, ...], plan: Plan) -> CpuKernel:
    return next(kernel for kernel in kernels if kernel.takes(plan))


def _choose(kernels: tuple[CpuKernel, ...], plan: Plan) -> Choice:
    problem = simplify(plan)
    kernel = _first(kernels, problem.plan)
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
