"""Launch the CPU kernels: the job of a plan, its scratch memory, and what is left to do element by element."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...arrays.views import Array
from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes, simplify
from ..kernel import Description, Kernel
from . import channel_boxes, depthwise_last
from .blocking import make_blocking, make_boxes, make_direct
from .complexes import apart, result_of, together
from .cost import is_direct, predict
from .depthwise import depthwise
from .direct import gather_boxes
from .gather import gather
from .geometry import make_geometry
from .pairs import saving
from .parallel import run_parts
from .plain import Pieces, plain_gather, plain_scatter
from .prepare import Packed, pack
from .scatter import scatter
from .tables import Arguments, flatten
from .threads import choose_layer, thread_count
from .weight_order import (
    DEPTHWISE,
    DEPTHWISE_LAST,
    ELEMENTWISE,
    STAMPS,
    gather_order,
    rows_layout,
    scatter_order,
    stamps_layout,
    unpaired,
)
from .workspace import SMALL, stored, workspace

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle.
_PIECES = 4
#: How many times longer an operation takes in loops without tiles.
_PLAIN_EFFORT = 16.0
#: What sums and differences leave of the time that pairs of blocks save.
_KEPT = 0.8
# Before anything is compiled: with TBB comes the runtime library that converts half types on CPUs without F16C.
choose_layer()


class Job(NamedTuple):
    """A tiled kernel with all that it needs besides the arrays."""

    kernel: Any
    arguments: Arguments
    work: tuple[int, int]  # threads, elements of scratch memory for each


def pack_gather(plan: Plan, weight: Array, bias: Array | None) -> Packed:
    """Pack weights for all plans with the same `gather_order`."""
    return pack(gather_order(plan), weight, bias)


def launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if plan.batch and packed.weight is not None and _run(plan, _job_of("gather", plan), packed, x, out):
        # Not all results are finite, and in pairs an infinity may have become NaN.
        _run(plan, _job_of("unpaired", plan), pack(unpaired(plan), weight, bias), x, out)
    if plan.batch and packed.elementwise.size:
        pieces = _PIECES * thread_count()
        _run_elementwise(plain_gather, pieces, plan, x, weight, bias, out, Pieces(packed.elementwise, pieces))


def pack_scatter(plan: Plan, weight: Array, bias: Array | None) -> Packed:
    """Pack weights for all plans with the same `scatter_order`."""
    return pack(scatter_order(plan), weight, bias)


def launch_scatter(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Fill `out` by the scatter formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if plan.batch and packed.weight is not None:
        _run(plan, _job_of("scatter", plan), packed, x, out)
    if plan.batch and packed.elementwise.size:
        images = plan.batch * packed.elementwise.size
        pieces = max(1, min(-(-_PIECES * thread_count() // images), max(plan.out_spatial) // 64))
        cut = Pieces(packed.elementwise, pieces)
        _run_elementwise(plain_scatter, images * pieces, plan, x, weight, bias, out, cut)


def _job_of(kind: str, plan: Plan) -> Job:
    """The job of a kind on as many threads as are worth waking: gather, unpaired or scatter."""
    return (_few_jobs if _has_long_tables(plan) else _many_jobs)(kind, plan, _threads(plan))


def _make_job(kind: str, plan: Plan, threads: int) -> Job:
    order, plan = _ORDERS[kind](plan), simplify(plan).plan
    if order.order == DEPTHWISE_LAST:
        parts = depthwise_last.make_parts(plan, threads)
        return _job(depthwise_last.depthwise_last, plan, parts, parts)
    if order.order == DEPTHWISE:
        boxes = channel_boxes.make_channel_boxes(plan, threads)
        return _job(depthwise, plan, boxes, boxes)
    if order.order == STAMPS:
        layout, stamps = stamps_layout(order)
        box = make_boxes(plan, layout, stamps, threads)
        return _job(scatter, plan, box, layout, box, stamps)
    layout = rows_layout(order)
    if not order.paired and is_direct(plan):
        direct = make_direct(plan, layout, threads)
        return _job(gather_boxes, plan, direct, layout, direct)
    blocking = make_blocking(plan, layout, threads)
    return _job(gather, plan, blocking, layout, blocking)


_ORDERS = {"gather": gather_order, "unpaired": unpaired, "scatter": scatter_order}
# Jobs of long kernels have long tables, so only a few are kept.
_many_jobs, _few_jobs = lru_cache(maxsize=512)(_make_job), lru_cache(maxsize=32)(_make_job)


@lru_cache(maxsize=512)
def _has_long_tables(plan: Plan) -> bool:
    return gather_order(plan).has_long_tables


def _job(kernel: Any, plan: Plan, cut: Any, *tables: Any) -> Job:
    return Job(kernel, flatten(make_geometry(plan), *tables), (cut.threads, cut.work))


def _run(plan: Plan, job: Job, packed: Packed, x: Array, out: Array) -> int:
    """Run the job; true if `gpu_transconv.kernels.cpu.gather` found a result that is not finite."""
    assert packed.weight is not None
    assert packed.bias is not None
    work = workspace(job.work, packed.weight.dtype)
    if x.dtype.kind != "c":
        return run_parts(
            job.kernel, job.work[0], stored(x), packed.weight, packed.bias, stored(out), job.arguments.table, work
        )
    parts = result_of(out, plan)
    source, target = stored(apart(x, plan)), parts.reshape(-1)
    found = run_parts(job.kernel, job.work[0], source, packed.weight, packed.bias, target, job.arguments.table, work)
    together(parts, out, plan)
    return found


def _threads(plan: Plan) -> int:
    return 1 if plan.flops // 2 + plan.bytes < SMALL else thread_count()


def _run_elementwise(
    kernel: Any, parts: int, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, cut: Pieces
) -> None:
    """Fill some channels of `out`."""
    dtype = plan.accumulate
    sums = out if plan.dtype == dtype else np.empty(out.shape, dtype)
    x, weight = (array.astype(dtype, copy=False) for array in (x, weight))
    bias = np.zeros(plan.out_channels, dtype) if bias is None else bias.astype(dtype, copy=False)
    arguments, work = flatten(make_geometry(plan), cut), np.empty((1, 1), dtype)
    run_parts(kernel, parts, stored(x), stored(weight), stored(bias), sums.reshape(-1), arguments.table, work)
    if sums is not out:
        axis = -1 if plan.channels_last else 0 if plan.unbatched else 1
        some = (slice(None),) * (axis % out.ndim) + (cut.channels,)
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[some] = sums[some]


@lru_cache(maxsize=512)
def work_ratios(plan: Plan) -> dict[str, float]:
    """Operations of each formulation's kernel, in multiples of the useful ones."""
    order, plan = gather_order(plan), simplify(plan).plan
    if order.order == ELEMENTWISE:
        return {"gather": _PLAIN_EFFORT, "scatter": 2 * _PLAIN_EFFORT}
    costs = predict(plan)
    products = plan.in_channels // plan.groups * (plan.out_channels // plan.groups) * math.prod(plan.kernel)
    gather = min(costs["gather"], costs.get("direct", math.inf))
    if order.order in (DEPTHWISE, DEPTHWISE_LAST):
        gather = float(products)
    else:
        gather *= math.prod(1 - _KEPT * saving(kernel_axes(plan)[i]) for i in order.paired)
    return {"gather": gather / products, "scatter": costs.get("scatter", 1.5 * gather) / products}


def describe_gather(plan: Plan) -> Description:
    """Tell which kernel gather runs on finite weights, its scratch memory in bytes, and the products that it saves."""
    order = gather_order(plan)
    if order.order == ELEMENTWISE:
        return _describe(plan, None)
    description = _describe(plan, _job_of("gather", plan))
    if not order.paired:
        return description
    axes = "two axes" if len(order.paired) == 2 else "one axis"
    saved = 1 - math.prod(1 - saving(kernel_axes(simplify(plan).plan)[i]) for i in order.paired)
    words = f"gather (matrix products in tiles, blocks in pairs on {axes})"
    return replace(description, kernel=words, saved=saved)


def describe_scatter(plan: Plan) -> Description:
    """Tell which kernel scatter runs on finite weights, and its scratch memory in bytes."""
    order = scatter_order(plan)
    return _describe(plan, None if order.order == ELEMENTWISE else _job_of("scatter", plan))


#: Name of a kernel's function -> what it is.
_WORDS = {
    "gather": "matrix products in tiles",
    "gather_boxes": "direct, boxes of the output",
    "depthwise": "depthwise, boxes of a channel",
    "depthwise_last": "depthwise, channels last",
    "scatter": "matrix products in tiles, added into boxes of the output",
}


def _describe(plan: Plan, job: Job | None) -> Description:
    item = DTYPES[plan.accumulate].size
    if job is None:
        sums = 0 if plan.dtype == plan.accumulate else math.prod(plan.output_shape)
        return Description("plain (loops without tiles)", sums * item)
    name = job.kernel.__name__
    kernel = f"{name} ({_WORDS[name]})" if name in _WORDS else name
    return Description(kernel, math.prod(job.work) * item)


KERNELS = (
    Kernel(
        "cpu", "gather", launch_gather, pack=pack_gather, weight_key=gather_order, describe=describe_gather,
        work_ratio=lambda plan: work_ratios(plan)["gather"],
    ),
    Kernel(
        "cpu", "scatter", launch_scatter, pack=pack_scatter, weight_key=scatter_order, describe=describe_scatter,
        work_ratio=lambda plan: work_ratios(plan)["scatter"],
    ),
)  # fmt: skip
