"""Launch the CPU kernels: flat views, one table, workspace, one parallel region."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ...arrays import Array
from ...plan import Axis, Plan
from ...pool import outputs
from . import channel_boxes, depthwise_last
from .blocking import make_blocking, make_boxes, make_direct
from .cost import is_direct, paired_axes, predict
from .depthwise import depthwise, depthwise_part
from .direct import gather_boxes, gather_boxes_part
from .gather import gather, gather_part
from .geometry import MOST_PHASES, kernel_axes, make_geometry
from .layout import Layout, Stamps, make_layout, make_stamps
from .packing import VECTOR_BYTES
from .pairs import saving
from .plain import plain_gather, plain_scatter
from .scatter import scatter, scatter_part
from .simplify import simplify
from .tables import Table, flatten
from .threads import choose_layer, parallel_region
from .weights import pack_weight, pack_weight_part, scratch_size

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle.
_PIECES = 4
#: Multiplications and bytes below which waking a second thread takes longer than it saves.
_SMALL = 1 << 19
#: How many times longer an operation takes in loops without tiles.
_PLAIN_EFFORT = 16.0
#: Inputs around a block, those between dilated taps included, beyond which boxes would not fit into scratch memory:
#: 8 MiB of float64 per channel.
_MOST_SPAN = 1 << 20
#: What sums and differences leave of the time that pairs of blocks save.
_KEPT = 0.8
#: Shapes of scratch memory remembered by a thread.
_MOST_VIEWS = 256
_TILED = ("float16", "bfloat16", "float32", "float64")
_local = threading.local()
# Before anything is compiled: with TBB comes the runtime library that converts half types on CPUs without F16C.
choose_layer()


class Packed(NamedTuple):
    """Weights and bias in the order of the tiles."""

    weight: Array
    bias: Array


class Job(NamedTuple):
    """A tiled kernel with all that it needs besides the arrays."""

    kernel: Any  # for several threads
    part: Any  # the same for one
    table: Table
    work: tuple[int, int]  # threads, elements of scratch memory for each


def pack_gather(plan: Plan, weight: Array, bias: Array | None) -> Packed | None:
    """Pack weights for any input size, or None where the plain kernel is the right one."""
    plan = simplify(plan)
    if not _has_tiles(plan):
        return None
    if depthwise_last.takes(plan):
        return Packed(depthwise_last.pack(plan, weight), _values(plan, bias))
    if channel_boxes.takes(plan):
        ordered = weight.reshape(plan.out_channels, -1)[:, channel_boxes.order(plan)].astype(plan.accumulate)
        return Packed(ordered.reshape(-1), _values(plan, bias)) if np.isfinite(ordered).all() else None
    return _pack_rows(plan, weight, bias, paired_axes(plan))


def launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed | None) -> None:
    """Fill `out` by the gather formulation; the contract is in `gpu_transconv.kernels`."""
    plan = simplify(plan)
    if packed is None:
        _run_plain(plain_gather, plan, x, weight, bias, out, _PIECES * numba.get_num_threads())
    elif plan.batch and _run(_gather_job(plan, _threads(plan), paired_axes(plan)), packed, x, out):
        # Not all results are finite, and in pairs an infinity may have become NaN.
        packed = _pack_rows(plan, weight, bias, ())
        assert packed is not None
        _run(_gather_job(plan, _threads(plan), ()), packed, x, out)


def pack_scatter(plan: Plan, weight: Array, bias: Array | None) -> Packed | None:
    """Pack weights for any input size, or None where the plain kernel is the right one."""
    plan = simplify(plan)
    packed = _pack(plan, _stamps(plan)[0], _scatter_job(plan, _threads(plan)), weight) if _has_tiles(plan) else None
    return None if packed is None else Packed(packed, _values(plan, bias))


def launch_scatter(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed | None) -> None:
    """Fill `out` by the scatter formulation; the contract is in `gpu_transconv.kernels`."""
    plan = simplify(plan)
    if packed is None and plan.batch:
        images = plan.batch * plan.out_channels
        pieces = max(1, min(-(-_PIECES * numba.get_num_threads() // images), max(plan.out_spatial) // 64))
        _run_plain(plain_scatter, plan, x, weight, bias, out, images * pieces, pieces)
    elif packed is not None and plan.batch:
        _run(_scatter_job(plan, _threads(plan)), packed, x, out)


def prefer(plan: Plan) -> str:
    """Return the formulation that should cost less."""
    found = efforts(plan)
    return "scatter" if found["scatter"] < found["gather"] else "gather"


@lru_cache(maxsize=512)
def _gather_job(plan: Plan, threads: int, paired: tuple[int, ...]) -> Job:
    if depthwise_last.takes(plan):
        cut = depthwise_last.make_pixels(plan, threads)
        table = flatten(make_geometry(plan), cut)
        return Job(depthwise_last.depthwise_last, depthwise_last.depthwise_last_part, table, (threads, cut.work))
    if channel_boxes.takes(plan):
        boxes = channel_boxes.make_channel_boxes(plan, threads)
        table = flatten(make_geometry(plan), boxes)
        return Job(depthwise, depthwise_part, table, (threads, boxes.work))
    layout = _gather_layout(plan, paired)
    if not paired and is_direct(plan):
        return _job(gather_boxes, gather_boxes_part, plan, layout, make_direct(plan, layout, threads))
    return _job(gather, gather_part, plan, layout, make_blocking(plan, layout, threads))


@lru_cache(maxsize=512)
def _scatter_job(plan: Plan, threads: int) -> Job:
    layout, stamps = _stamps(plan)
    return _job(scatter, scatter_part, plan, layout, make_boxes(plan, layout, stamps, threads), stamps)


def _job(kernel: Any, part: Any, plan: Plan, layout: Layout, cut: Any, *rest: Any) -> Job:
    return Job(kernel, part, flatten(make_geometry(plan), layout, cut, *rest), (cut.threads, cut.work))


def _run(job: Job, packed: Packed, x: Array, out: Array) -> Any:
    """Run the job; true if `gpu_transconv.kernels.cpu.gather` found a result that is not finite."""
    work = _workspace(job.work, packed.weight.dtype)
    if job.work[0] == 1:
        return job.part(_stored(x), packed.weight, packed.bias, _stored(out), job.table, work, 0)
    with parallel_region():
        return job.kernel(_stored(x), packed.weight, packed.bias, _stored(out), job.table, work)


def _threads(plan: Plan) -> int:
    return 1 if plan.flops // 2 + plan.bytes < _SMALL else numba.get_num_threads()


@lru_cache(maxsize=1024)
def _has_tiles(plan: Plan) -> bool:
    axes = kernel_axes(plan)
    phases = math.prod(axis.stride for axis in axes)
    return plan.dtype in _TILED and phases <= MOST_PHASES and math.prod(map(_span, axes)) <= _MOST_SPAN


def _span(axis: Axis) -> int:
    """Inputs from the first to the last that reach a block."""
    ends = axis.shift_of(0), axis.shift_of(axis.kernel - 1)
    return 1 + abs(ends[1] - ends[0])


def _pack_rows(plan: Plan, weight: Array, bias: Array | None, paired: tuple[int, ...]) -> Packed | None:
    """Weights and bias by the rows of the gather formulation."""
    layout = _gather_layout(plan, paired)
    packed = _pack(plan, layout, _gather_job(plan, _threads(plan), paired), weight)
    if packed is None:
        return None
    values = np.zeros((plan.groups, plan.out_channels // plan.groups + 1), plan.accumulate)  # row channel -1: zero
    values[:, :-1] = _values(plan, bias).reshape(plan.groups, -1)
    rows = values[:, layout.row_channels].reshape(-1)
    return Packed(packed, np.concatenate([rows, np.zeros(VECTOR_BYTES, values.dtype)]))


def _pack(plan: Plan, layout: Layout, job: Job, weight: Array) -> Array | None:
    """Weights in the order of `layout`, or None if some are not finite: times a zero they make NaN."""
    size, dtype = layout.weights * plan.in_channels, np.dtype(plan.accumulate)
    packed = outputs.empty((size,), dtype, size * dtype.itemsize)
    threads = 1 if weight.nbytes < _SMALL else numba.get_num_threads()
    work = _workspace((threads, scratch_size(layout, math.prod(plan.kernel))), dtype)
    if threads == 1:
        return packed if pack_weight_part(_stored(weight), packed, job.table, work, 0) == 0 else None
    with parallel_region():
        return packed if pack_weight(_stored(weight), packed, job.table, work) else None


def _values(plan: Plan, bias: Array | None) -> Array:
    if bias is None:
        return np.zeros(plan.out_channels, plan.accumulate)
    return bias.astype(plan.accumulate).repeat(plan.out_channels // bias.size)


def _run_plain(kernel: Any, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, *pieces: int) -> None:
    if plan.batch == 0:
        return
    sums = out if plan.dtype == plan.accumulate else np.empty(out.shape, plan.accumulate)
    x, weight = (array.astype(plan.accumulate, copy=False) for array in (x, weight))
    table = flatten(make_geometry(plan))
    with parallel_region():
        kernel(_stored(x), _stored(weight), _values(plan, bias), sums.reshape(-1), table, *pieces)
    if sums is not out:
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[...] = sums


class _Writeable:
    """Gives a view without the read-only flag, which to Numba would be another type and another compilation."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def _stored(array: Array) -> Array:
    """Flat view of the stored words."""
    flat = array.reshape(-1)
    flat = flat.view(np.uint16) if flat.itemsize == 2 else flat
    return flat if flat.flags.writeable else np.asarray(_Writeable(flat))


def packing_gather(plan: Plan) -> tuple[int, ...]:
    """Tell apart the orders in which `pack_gather` packs weights, for inputs of different sizes."""
    plan = simplify(plan)
    return paired_axes(plan) if _has_tiles(plan) else ()


def _sizeless(plan: Plan) -> tuple[Axis, Axis, Axis]:
    """The axes without the sizes of input and output, on which no layout depends."""
    d, h, w = (replace(axis, size=1, output_size=1) for axis in kernel_axes(plan))
    return d, h, w


@lru_cache(maxsize=256)
def _gather_layout(plan: Plan, paired: tuple[int, ...]) -> Layout:
    lane = VECTOR_BYTES // np.dtype(plan.accumulate).itemsize if plan.channels_last and not is_direct(plan) else 1
    return make_layout(_sizeless(plan), plan.out_channels // plan.groups, lane, paired)


@lru_cache(maxsize=256)
def _stamps(plan: Plan) -> tuple[Layout, Stamps]:
    return make_stamps(_sizeless(plan), plan.out_channels // plan.groups)


def _workspace(shape: tuple[int, int], dtype: Any) -> Array:
    """Scratch memory of the calling thread, kept between calls."""
    needed = shape[0] * shape[1] * dtype.itemsize
    kept: dict[Any, Array] = _local.__dict__
    found = kept.get((shape, dtype))
    if found is None:
        if len(kept) > _MOST_VIEWS or getattr(_local, "bytes", np.empty(0, np.uint8)).size < needed + 64:
            kept.clear()
            _local.bytes = np.empty(needed + 64, np.uint8)
        start = -_local.bytes.ctypes.data % 64
        found = _local.bytes[start : start + needed].view(dtype).reshape(shape)
        kept[shape, dtype] = found
    return found


@lru_cache(maxsize=512)
def efforts(plan: Plan) -> dict[str, float]:
    """Operations of each formulation's kernel, in multiples of the useful ones."""
    plan = simplify(plan)
    if not _has_tiles(plan):
        return {"gather": _PLAIN_EFFORT, "scatter": 2 * _PLAIN_EFFORT}
    costs = predict(plan)
    products = plan.in_channels // plan.groups * (plan.out_channels // plan.groups) * math.prod(plan.kernel)
    gather = min(costs["gather"], costs.get("direct", math.inf))
    if channel_boxes.takes(plan) or depthwise_last.takes(plan):
        gather = float(products)
    else:
        gather *= math.prod(1 - _KEPT * saving(kernel_axes(plan)[i]) for i in paired_axes(plan))
    return {"gather": gather / products, "scatter": costs.get("scatter", 1.5 * gather) / products}


def details_gather(plan: Plan) -> dict[str, Any]:
    """Tell which kernel gather runs on finite weights, its scratch memory in bytes, and the products that it saves."""
    plan = simplify(plan)
    if not _has_tiles(plan):
        return _details(plan, None)
    paired = paired_axes(plan)
    job = _gather_job(plan, _threads(plan), paired)
    if not paired or job.kernel is not gather:
        return _details(plan, job)
    axes = "two axes" if len(paired) == 2 else "one axis"
    saved = 1 - math.prod(1 - saving(kernel_axes(plan)[i]) for i in paired)
    return _details(plan, job) | {
        "kernel": f"gather (matrix products in tiles, blocks in pairs on {axes})",
        "saved": saved,
    }


def details_scatter(plan: Plan) -> dict[str, Any]:
    """Tell which kernel scatter runs on finite weights, and its scratch memory in bytes."""
    plan = simplify(plan)
    return _details(plan, _scatter_job(plan, _threads(plan)) if _has_tiles(plan) else None)


#: Name of a kernel's function -> what it is.
_WORDS = {
    "gather": "matrix products in tiles",
    "gather_boxes": "direct, boxes of the output",
    "depthwise": "depthwise, boxes of a channel",
    "depthwise_last": "depthwise, channels last",
    "scatter": "matrix products in tiles, added into boxes of the output",
}


def _details(plan: Plan, job: Job | None) -> dict[str, Any]:
    if job is None:
        sums = 0 if plan.dtype == plan.accumulate else math.prod(plan.output_shape)
        return {"kernel": "plain (loops without tiles)", "workspace_bytes": sums * np.dtype(plan.accumulate).itemsize}
    name = job.kernel.__name__
    kernel = f"{name} ({_WORDS[name]})" if name in _WORDS else name
    return {"kernel": kernel, "workspace_bytes": math.prod(job.work) * np.dtype(plan.accumulate).itemsize}
