"""Launch the kernels of the weight gradient."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ....arrays.views import Array
from ....problem.plan import Plan
from ...kernel import Kernel
from ..arguments import Arguments, flatten
from ..geometry import make_geometry
from ..runtime.compiled import CompiledKernel
from ..runtime.parallel import run_parts
from ..runtime.threads import thread_count
from ..runtime.workspace import SMALL, stored
from .elementwise import Filters, elementwise_filters, elementwise_stamps

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle. Chosen, not measured.
_PIECES = 4


def _launch_gather(plan: Plan, x: Array, grad_output: Array, _bias: None, out: Array, _packed: None) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    run_elementwise(elementwise_filters, plan, x, grad_output, out)


def _launch_scatter(plan: Plan, x: Array, grad_output: Array, _bias: None, out: Array, _packed: None) -> None:
    """Fill `out` by the scatter formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    run_elementwise(elementwise_stamps, plan, x, grad_output, out)


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


KERNELS = (
    Kernel("cpu", "gather", _launch_gather, operation="weight_grad"),
    Kernel("cpu", "scatter", _launch_scatter, operation="weight_grad", work_ratio=lambda _: 2.0),
)
