"""Which kernel computes a weight gradient, how it is cut, and the memory that it takes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import is_plain, simplify
from ..arguments import Arguments, flatten
from ..emit.registers import VECTOR_BYTES
from ..geometry import make_geometry
from ..runtime.compiled import CompiledKernel
from .column_partition import TURNED, WeightColumns, cost_of_columns, cut_columns
from .columns import weight_columns
from .depthwise import weight_depthwise
from .last import weight_last, weight_last_pieces
from .last_partition import WeightLast, cost_of_last, cut_last
from .partition import WeightGrad, cost_of_blocks, cut_blocks
from .products import weight_products
from .row_partition import WeightRows, cost_of_rows, cut_rows
from .rows import weight_row_pieces, weight_rows
from .store import weight_pieces
from .tasks import ROOM

#: Bytes of all scratch memory, of which the sums of several pieces take at most 18 MiB and a thread at most 10: where
#: the rest is not enough for all threads, fewer run. The launcher takes 4 MiB more for complex filters.
_MOST_BYTES = 28 << 20
#: How much longer the formulation takes that fits a plan less well: 1.04 to 1.4 times in layers of 10^4 pixels.
_OTHER = 1.1
_REAL = {"complex64": "float32", "complex128": "float64"}
_WORDS = {
    weight_columns: "matrix products in tiles, filters as they lie",
    weight_depthwise: "depthwise, along lines of pixels",
    weight_last: "depthwise, channels last",
    weight_products: "matrix products in tiles",
    weight_rows: "along lines of pixels",
}


class Cut(NamedTuple):
    """A kernel, the partition that it takes, and the elements of memory that it needs."""

    kernel: CompiledKernel
    adding: CompiledKernel | None  # what adds the sums of several pieces
    arguments: type  # the named tuple that the kernels unpack
    partition: NamedTuple
    cost: float  # vector operations for each input of a group
    pieces: int
    tasks: int
    scratch: int  # of a thread
    sums: int  # of a task, in the memory of its thread where there is one piece


class Job(NamedTuple):
    """The kernel for a problem, and that which adds the sums of its pieces, with all that they need."""

    function: CompiledKernel
    adding: CompiledKernel | None
    arguments: Arguments
    work: tuple[int, int]
    threads: int

    @property
    def words(self) -> str:
        """What the kernel is."""
        return f"{self.function.__name__} ({_WORDS[self.function]})"


@lru_cache(maxsize=256)
def make_job(plan: Plan, by_pixels: bool, threads: int) -> Job:
    """The job of a plan."""
    problem = simplify_filters(plan)
    cut = choose_cut(problem, by_pixels)
    item = DTYPES[problem.accumulate].size
    lanes = 64 // item  # of a cache line
    sums = -(-(cut.sums + lanes) // lanes) * lanes
    scratch = cut.scratch + ROOM + lanes + (sums if cut.pieces == 1 else 0)
    scratch = -(-scratch // lanes) * lanes
    kept = cut.pieces * cut.tasks * sums if cut.pieces > 1 else 0
    threads = max(1, min(threads, (_MOST_BYTES // item - kept) // scratch))
    values = flatten(cut.arguments(make_geometry(problem), cut.partition, threads, scratch, sums))
    return Job(cut.kernel, cut.adding if cut.pieces > 1 else None, values, (1, threads * scratch + kept), threads)


@lru_cache(maxsize=512)
def choose_cut(problem: Plan, by_pixels: bool) -> Cut:
    """The kernel that takes the fewest vector operations; cut by its filters or `by_pixels`."""
    cuts = [_by_blocks(problem, by_pixels), _by_rows(problem, by_pixels), _by_last(problem, by_pixels)]
    if not by_pixels:
        cuts.append(_by_columns(problem))
    return min((cut for cut in cuts if cut is not None), key=lambda cut: cut.cost)


def _by_blocks(problem: Plan, by_pixels: bool) -> Cut:
    cut = cut_blocks(problem, by_pixels)
    tasks = problem.groups * cut.channel_blocks * cut.filter_blocks * cut.plane_blocks * cut.tap_blocks
    scratch, cost = cut.panel + cut.strips, cost_of_blocks(problem)
    return Cut(weight_products, weight_pieces, WeightGrad, cut, cost, cut.pieces, tasks, scratch, cut.sums)


def _by_rows(problem: Plan, by_pixels: bool) -> Cut | None:
    cut = cut_rows(problem, by_pixels)
    if cut is None:
        return None
    kernel, tasks = weight_depthwise if cut.together else weight_rows, problem.groups * cut.channel_blocks
    scratch, cost = cut.strip + cut.panel + cut.height * cut.inputs, cost_of_rows(problem)
    return Cut(kernel, weight_row_pieces, WeightRows, cut, cost, cut.pieces, tasks, scratch, cut.sums)


def _by_last(problem: Plan, by_pixels: bool) -> Cut | None:
    cut = cut_last(problem, by_pixels)
    if cut is None:
        return None
    tasks, scratch, cost = cut.channel_blocks, cut.line + cut.inputs, cost_of_last(problem)
    return Cut(weight_last, weight_last_pieces, WeightLast, cut, cost, cut.pieces, tasks, scratch, cut.sums)


def _by_columns(problem: Plan) -> Cut | None:
    cut = cut_columns(problem)
    if cut is None:
        return None
    scratch, cost = cut.panel + cut.inputs, cost_of_columns(problem) / TURNED
    return Cut(weight_columns, None, WeightColumns, cut, cost, 1, 1, scratch, cut.sums)


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
    if plan.batch and all(axis.size == 1 and is_plain(axis) for axis in simple.axes):
        unit = simple.axes[0]
        simple = replace(
            simple,
            batch=1,
            axes=(unit, unit, replace(unit, size=plan.batch, output_size=plan.batch)),
            channels_last=True,
        )
    return simple


@lru_cache(maxsize=512)
def work_ratio(plan: Plan, by_pixels: bool) -> float:
    """Vector operations over useful ones; where a problem can be cut by pixels, that reads grad_output less often."""
    problem = simplify_filters(plan)
    cin, cout = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    lanes = VECTOR_BYTES // DTYPES[problem.accumulate].size
    cut = choose_cut(problem, by_pixels)
    fits = cut.kernel is weight_columns or by_pixels == (choose_cut(problem, by_pixels=True).pieces > 1)
    return cut.cost * lanes / (cin * cout * math.prod(problem.kernel)) * (1.0 if fits else _OTHER)
