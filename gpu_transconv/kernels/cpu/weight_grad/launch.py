"""Launch the kernels of the weight gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ....arrays.views import Array
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ...kernel import Description, Kernel
from ..arguments import Arguments, flatten
from ..complexes import apart
from ..geometry import make_geometry
from ..runtime.compiled import CompiledKernel
from ..runtime.parallel import run_parts
from ..runtime.threads import thread_count
from ..runtime.workspace import SMALL, stored, workspace
from .elementwise import Filters, elementwise_filters
from .jobs import make_job, work_ratio

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle. Chosen, not measured.
_PIECES = 4
COMPLEX = ("complex64", "complex128")
#: Bytes of the real filters that complex ones are made of, at most: what has more is computed channels by channels.
_REAL_FILTERS = 4 << 20


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
    if plan.in_channels > 1 and _real_filters(plan) > _REAL_FILTERS:
        for part, inputs, outputs in _halves(plan):
            near, far = _channels(x, plan, inputs), _channels(grad_output, plan, outputs)
            _run_products(part, near, far, out[inputs], by_pixels)
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


def _real_filters(plan: Plan) -> int:
    """Bytes of the real filters of a complex problem, 0 of a real one."""
    filters = plan.in_channels * (plan.out_channels // plan.groups) * math.prod(plan.kernel)
    return 2 * filters * DTYPES[plan.dtype].size if plan.dtype in COMPLEX else 0


def _halves(plan: Plan) -> list[tuple[Plan, slice, slice]]:
    """Two problems with some of the groups or input channels each; their input and output channels."""
    parts = plan.groups if plan.groups > 1 else plan.in_channels
    cin, cout = plan.in_channels // parts, plan.out_channels // plan.groups
    found = []
    for first, last in ((0, parts // 2), (parts // 2, parts)):
        inputs, outputs, groups = slice(first * cin, last * cin), slice(0, cout), 1
        if plan.groups > 1:
            outputs, groups = slice(first * cout, last * cout), last - first
        channels = inputs.stop - inputs.start, outputs.stop - outputs.start
        found.append((replace(plan, in_channels=channels[0], out_channels=channels[1], groups=groups), inputs, outputs))
    return found


def _channels(array: Array, plan: Plan, some: slice) -> Array:
    """Some of the channels of an array."""
    rest = () if plan.channels_last else (slice(None),) * plan.ndim
    return np.ascontiguousarray(array[(..., some, *rest)])


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


def run_elementwise(function: CompiledKernel, plan: Plan, x: Array, grad_output: Array, out: Array) -> None:
    """Fill `out` without tiles; half types are widened as a whole."""
    if not plan.batch:
        out[...] = 0
        return
    dtype = np.dtype(plan.accumulate)
    sums = out if out.dtype == dtype else np.empty(out.shape, dtype)
    x, grad_output = (array.astype(dtype, copy=False) for array in (x, grad_output))
    pieces = 1 if plan.flops // 2 + plan.bytes < SMALL else _PIECES * thread_count()
    arguments, nothing = _arguments(plan, pieces), np.empty((1, 1), dtype)
    run_parts(function, pieces, stored(x), stored(grad_output), nothing[0], sums.reshape(-1), arguments.table, nothing)
    if sums is not out:
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[...] = sums


@lru_cache(maxsize=64)
def _arguments(plan: Plan, pieces: int) -> Arguments:
    return flatten(Filters(make_geometry(plan), pieces))


def _gather_ratio(plan: Plan) -> float:
    return work_ratio(plan, by_pixels=False)


def _scatter_ratio(plan: Plan) -> float:
    return work_ratio(plan, by_pixels=True)


def _describe(plan: Plan, by_pixels: bool) -> Description:
    job = make_job(plan, by_pixels, threads_for(plan))
    words, real = math.prod(job.work), np.dtype(plan.accumulate).type(0).real.itemsize
    return Description(job.words, words * real + min(_real_filters(plan), _REAL_FILTERS))


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
