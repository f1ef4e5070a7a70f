"""Launch the kernels of the weight gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import simplify
from ...kernel import Description, Kernel
from ..arguments import Arguments, flatten
from ..complexes import apart
from ..emit.gemm_tile import TILE_ROWS
from ..emit.registers import VECTOR_BYTES
from ..geometry import make_geometry
from ..runtime.compiled import CompiledKernel
from ..runtime.parallel import run_parts
from ..runtime.threads import thread_count
from ..runtime.workspace import SMALL, stored, workspace
from .elementwise import Filters, elementwise_filters
from .partition import WeightGrad, cost_of_blocks, cut_blocks
from .products import weight_products
from .row_partition import WeightRows, cost_of_rows, cut_rows
from .rows import weight_row_pieces, weight_rows
from .store import weight_pieces

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle. Chosen, not measured.
_PIECES = 4
#: How much longer the formulation takes that fits a plan less well: 1.04 to 1.4 times in layers of 10^4 pixels.
_OTHER = 1.1
_REAL = {"complex64": "float32", "complex128": "float64"}
COMPLEX = tuple(_REAL)


class Job(NamedTuple):
    """The kernel for a problem, and that which adds the sums of its pieces, with all that they need."""

    function: CompiledKernel
    adding: CompiledKernel | None
    arguments: Arguments
    work: tuple[int, int]
    threads: int


def _launch_gather(plan: Plan, x: Array, grad_output: Array, _bias: None, out: Array, _packed: None) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    _run_products(plan, x, grad_output, out, by_pixels=False)


def _launch_scatter(plan: Plan, x: Array, grad_output: Array, _bias: None, out: Array, _packed: None) -> None:
    """Fill `out` by the scatter formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    _run_products(plan, x, grad_output, out, by_pixels=True)


def _run_products(plan: Plan, x: Array, grad_output: Array, out: Array, by_pixels: bool) -> None:
    """Fill `out` by tiles; where a sum is not finite, which zeros beside the borders may have caused, by loops."""
    if not plan.batch:
        out[...] = 0
        return
    job = make_job(plan, by_pixels, threads_for(plan))
    target, given = out, (x, grad_output)
    if plan.dtype in COMPLEX:
        x, grad_output = apart(x, plan), outputs_apart(grad_output, plan)
        target = np.empty(4 * out.size, x.dtype)
    work = workspace(job.work, np.dtype(plan.accumulate).type(0).real.dtype)
    arrays = stored(x), stored(grad_output), work_zeros(work.dtype), stored(target)
    not_finite = run_parts(job.function, job.threads, *arrays, job.arguments.table, work)
    if job.adding is not None:
        not_finite = run_parts(job.adding, job.threads, *arrays, job.arguments.table, work)
    if not_finite:  # zeros around grad_output may have made NaN of an infinity
        run_elementwise(elementwise_filters, plan, *given, out)
        return
    if target is not out:
        parts = target.reshape(plan.in_channels, 2, plan.out_channels // plan.groups, 2, -1)
        together = out.reshape(plan.in_channels, plan.out_channels // plan.groups, -1)
        together.real = parts[:, 0, :, 0] - parts[:, 1, :, 1]
        together.imag = parts[:, 0, :, 1] + parts[:, 1, :, 0]


def outputs_apart(grad_output: Array, plan: Plan) -> Array:
    """Real and imaginary parts of grad_output, as `apart` has those of x."""
    return apart(grad_output, replace(plan, in_channels=plan.out_channels))


@lru_cache(maxsize=4)
def work_zeros(dtype: np.dtype[np.generic]) -> Array:
    """As many zeros as a tile has rows."""
    return np.zeros(16, dtype)


def threads_for(plan: Plan) -> int:
    """On how many threads a problem is worth running."""
    return 1 if plan.flops // 2 + plan.bytes < SMALL else thread_count()


@lru_cache(maxsize=256)
def make_job(plan: Plan, by_pixels: bool, threads: int) -> Job:
    """The job of a plan."""
    problem = simplify_filters(plan)
    rows = cut_rows(problem, by_pixels)
    if rows is not None and cost_of_rows(problem) < cost_of_blocks(problem):
        tasks, scratch = problem.groups * rows.channel_blocks, rows.strip + rows.panel + rows.height * rows.inputs
        function, adding = weight_rows, weight_row_pieces
        values = flatten(WeightRows(make_geometry(problem), rows, threads))
        pieces, sums = rows.pieces, rows.sums + 64
    else:
        cut = cut_blocks(problem, by_pixels)
        tasks = problem.groups * cut.channel_blocks * cut.filter_blocks * cut.plane_blocks * cut.tap_blocks
        scratch = cut.panel + TILE_ROWS * cut.strip
        function, adding = weight_products, weight_pieces
        values = flatten(WeightGrad(make_geometry(problem), cut, threads))
        pieces, sums = cut.pieces, cut.sums
    work = (threads, scratch + sums) if pieces == 1 else (threads + pieces * tasks, max(scratch, sums))
    return Job(function, adding if pieces > 1 else None, values, work, threads)


def simplify_filters(plan: Plan) -> Plan:
    """The same gradient as a simpler one on the same memory: real, on fewer axes, the batch as pixels where it can."""
    problem = simplify(plan)
    if problem.taps is not None:  # the filters have taps that nothing meets
        real = _REAL.get(plan.dtype)
        if real is None:
            return plan
        return replace(
            plan, in_channels=2 * plan.in_channels, out_channels=2 * plan.out_channels, dtype=real, accumulate=real
        )
    simple = problem.plan
    if math.prod(simple.in_spatial) * math.prod(simple.out_spatial) == 1:
        unit = simple.axes[0]
        simple = replace(
            simple,
            batch=1,
            axes=(unit, unit, replace(unit, size=plan.batch, output_size=plan.batch)),
            channels_last=True,
        )
    return simple


def run_elementwise(function: CompiledKernel, plan: Plan, x: Array, grad_output: Array, out: Array) -> None:
    """Fill `out` without tiles; half types are widened as a whole."""
    if not plan.batch:
        out[...] = 0
        return
    dtype = np.dtype(plan.accumulate)
    sums = out if out.dtype == dtype else np.empty(out.shape, dtype)
    x, grad_output = (array.astype(dtype, copy=False) for array in (x, grad_output))
    pieces = 1 if plan.flops // 2 + plan.bytes < SMALL else _PIECES * thread_count()
    table, nothing = _arguments(plan, pieces).table, np.empty((1, 1), dtype)
    run_parts(function, pieces, stored(x), stored(grad_output), nothing[0], sums.reshape(-1), table, nothing)
    if sums is not out:
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[...] = sums


@lru_cache(maxsize=64)
def _arguments(plan: Plan, pieces: int) -> Arguments:
    return flatten(Filters(make_geometry(plan), pieces))


@lru_cache(maxsize=512)
def _ratio(plan: Plan, by_pixels: bool) -> float:
    """Vector operations over useful ones; where a problem can be cut by pixels, that reads grad_output less often."""
    problem = simplify_filters(plan)
    useful = (
        problem.in_channels // problem.groups * (problem.out_channels // problem.groups) * math.prod(problem.kernel)
    )
    lanes = VECTOR_BYTES // DTYPES[problem.accumulate].size
    rows = cut_rows(problem, by_pixels=True)
    by_rows = rows is not None and cost_of_rows(problem) < cost_of_blocks(problem)
    cost = min(cost_of_rows(problem), cost_of_blocks(problem))
    pieces = rows.pieces if by_rows and rows is not None else cut_blocks(problem, by_pixels=True).pieces
    return cost * lanes / useful * (1.0 if by_pixels == (pieces > 1) else _OTHER)


def _gather_ratio(plan: Plan) -> float:
    return _ratio(plan, by_pixels=False)


def _scatter_ratio(plan: Plan) -> float:
    return _ratio(plan, by_pixels=True)


def _describe(plan: Plan, by_pixels: bool) -> Description:
    job = make_job(plan, by_pixels, threads_for(plan))
    words = "along lines of pixels" if job.function is weight_rows else "matrix products in tiles"
    return Description(f"{job.function.__name__} ({words})", math.prod(job.work) * DTYPES[plan.accumulate].size)


def _describe_gather(plan: Plan) -> Description:
    return _describe(plan, by_pixels=False)


def _describe_scatter(plan: Plan) -> Description:
    return _describe(plan, by_pixels=True)


KERNELS = (
    Kernel(
        "cpu", "gather", _launch_gather, operation="weight_grad", work_ratio=_gather_ratio, describe=_describe_gather
    ),
    Kernel(
        "cpu", "scatter", _launch_scatter, operation="weight_grad", work_ratio=_scatter_ratio,
        describe=_describe_scatter,
    ),
)  # fmt: skip
