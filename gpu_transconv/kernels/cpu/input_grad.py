"""Launch the CPU kernels of the input gradient, an ordinary strided correlation of grad_output with the weight."""

from __future__ import annotations

import numpy as np

from ...arrays.views import Array
from ...problem.plan import Plan
from ..kernel import Kernel
from .arguments import Table, flatten
from .elementwise import Elementwise
from .elementwise_input_grad import elementwise_input_gather, elementwise_input_scatter
from .geometry import make_geometry
from .runtime.compiled import CompiledKernel
from .runtime.parallel import run_parts
from .runtime.threads import thread_count
from .runtime.workspace import stored

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle. Chosen, not measured.
_PIECES = 4


def _launch_gather(plan: Plan, grad: Array, weight: Array, bias: None, out: Array, packed: object) -> None:
    channels = np.arange(plan.in_channels)
    pieces = _PIECES * thread_count()
    _run_elementwise(elementwise_input_gather, pieces, plan, grad, weight, out, channels, pieces)


def _launch_scatter(plan: Plan, grad: Array, weight: Array, bias: None, out: Array, packed: object) -> None:
    channels = np.arange(plan.in_channels)
    _run_elementwise(elementwise_input_scatter, plan.batch * channels.size, plan, grad, weight, out, channels, 1)


def _run_elementwise(
    function: CompiledKernel, parts: int, plan: Plan, grad: Array, weight: Array, out: Array, channels: Table,
    pieces: int,
) -> None:  # fmt: skip
    """Fill some input channels of `out`."""
    if not plan.batch:
        return
    dtype = plan.accumulate
    sums = out if plan.dtype == dtype else np.empty(out.shape, dtype)
    grad, weight = (array.astype(dtype, copy=False) for array in (grad, weight))
    arguments, work = flatten(Elementwise(make_geometry(plan), channels, pieces)), np.empty((1, 1), dtype)
    nothing = np.zeros(1, dtype)
    run_parts(function, parts, stored(grad), stored(weight), nothing, sums.reshape(-1), arguments.table, work)
    if sums is not out:
        axis = -1 if plan.channels_last else 0 if plan.unbatched else 1
        some = (slice(None),) * (axis % out.ndim) + (channels,)
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[some] = sums[some]


KERNELS = (
    Kernel("cpu", "gather", _launch_gather, operation="input_grad"),
    Kernel("cpu", "scatter", _launch_scatter, operation="input_grad"),
)
