"""Launch the CPU kernels of the input gradient, an ordinary strided correlation of grad_output with the weight.

It runs on the tiles of the forward direction, as the problem that `gpu_transconv.problem.rewrites.correlation` makes of
it; here stands only what differs: whose plan it is, and what is left to do element by element.
"""

from __future__ import annotations

from ...arrays.views import Array
from ...problem.plan import Plan
from ...problem.rewrites import correlation
from .choose import choose_input_exact, choose_input_gather, choose_input_scatter
from .elementwise_input_grad import elementwise_input_gather, elementwise_input_scatter
from .launch import LEAST_PIECE, PIECES, job_of, run_elementwise, run_tiles, tiled_kernel
from .pack import Packed, pack
from .runtime.threads import thread_count
from .weight_order import WeightOrder


def _launch_gather(plan: Plan, grad: Array, weight: Array, bias: None, out: Array, packed: Packed) -> None:
    """Fill `out`, the gradient by the input, by the gather formulation."""
    if not plan.batch:
        return
    if packed.tiles is not None:
        problem = correlation(plan)
        if run_tiles(problem, job_of(choose_input_gather, problem), packed.tiles, grad, out):
            # Something is not finite: pairs may have made NaN of an infinity, and zeros around grad_output of a weight.
            packed = pack(choose_input_exact(problem).order, weight, bias)
            if packed.tiles is not None:
                run_tiles(problem, job_of(choose_input_exact, problem), packed.tiles, grad, out)
    if packed.elementwise.size:
        pieces = PIECES * thread_count()
        run_elementwise(elementwise_input_gather, pieces, plan, grad, weight, None, out, packed.elementwise, pieces)


def _launch_scatter(plan: Plan, grad: Array, weight: Array, bias: None, out: Array, packed: Packed) -> None:
    """Fill `out`, the gradient by the input, by the scatter formulation."""
    if not plan.batch:
        return
    if packed.tiles is not None:
        problem = correlation(plan)
        run_tiles(problem, job_of(choose_input_scatter, problem), packed.tiles, grad, out)
    if packed.elementwise.size:
        images = plan.batch * packed.elementwise.size
        pieces = max(1, min(-(-PIECES * thread_count() // images), max(plan.in_spatial) // LEAST_PIECE))
        parts = images * pieces
        run_elementwise(elementwise_input_scatter, parts, plan, grad, weight, None, out, packed.elementwise, pieces)


def _whole(order: WeightOrder) -> WeightOrder:
    return order


KERNELS = (
    tiled_kernel("gather", _launch_gather, choose_input_gather, _whole, correlation, operation="input_grad"),
    tiled_kernel("scatter", _launch_scatter, choose_input_scatter, _whole, correlation, operation="input_grad"),
)
