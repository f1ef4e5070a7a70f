"""Launch the CPU kernels: flat views, tables, workspace, one parallel region."""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ...arrays import Array
from ...plan import Plan
from .blocking import Blocking, Boxes, Direct, make_blocking, make_boxes, make_direct
from .cost import predict
from .direct import gather_boxes
from .gather import gather
from .geometry import MOST_PHASES, kernel_axes, make_geometry
from .layout import Layout, Stamps, make_layout, make_stamps
from .packing import VECTOR_BYTES, pack_weight
from .plain import plain_gather, plain_scatter
from .scatter import scatter
from .threads import parallel_region

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle.
_PIECES = 4
_TILED = ("float16", "bfloat16", "float32", "float64")
_local = threading.local()


class Packed(NamedTuple):
    """Weights and bias in the order of the tiles."""

    layout: Layout
    weight: Array
    bias: Array


def pack_gather(plan: Plan, weight: Array, bias: Array | None) -> Packed | None:
    """Pack weights for any input size, or None where the plain kernel is the right one."""
    layout = _gather_layout(plan) if _has_tiles(plan) else None
    packed = None if layout is None else _pack(plan, layout, weight)
    if layout is None or packed is None:
        return None
    rows = _values(plan, bias).reshape(plan.groups, -1)[:, layout.row_channels]
    return Packed(layout, packed, np.append(rows, np.zeros(VECTOR_BYTES, rows.dtype)))


def launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed | None) -> None:
    """Fill `out` by the gather formulation; the contract is in `gpu_transconv.kernels`."""
    threads = numba.get_num_threads()
    if packed is None:
        _launch_plain(plain_gather, plan, x, weight, bias, out, _PIECES * threads)
    elif plan.batch and _is_direct(plan):
        _launch_tiled(gather_boxes, plan, packed, x, out, _direct(plan, threads))
    elif plan.batch:
        _launch_tiled(gather, plan, packed, x, out, _blocking(plan, threads))


def pack_scatter(plan: Plan, weight: Array, bias: Array | None) -> Packed | None:
    """Pack weights for any input size, or None where the plain kernel is the right one."""
    layout = _stamps(plan)[0] if _has_tiles(plan) else None
    packed = None if layout is None else _pack(plan, layout, weight)
    return None if layout is None or packed is None else Packed(layout, packed, _values(plan, bias))


def launch_scatter(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed | None) -> None:
    """Fill `out` by the scatter formulation; the contract is in `gpu_transconv.kernels`."""
    threads = numba.get_num_threads()
    if packed is None and plan.batch:
        pieces = -(-_PIECES * threads // (plan.batch * plan.out_channels))
        _launch_plain(plain_scatter, plan, x, weight, bias, out, max(1, min(pieces, max(plan.out_spatial) // 64)))
    elif packed is not None and plan.batch:
        _launch_tiled(scatter, plan, packed, x, out, _boxes(plan, threads), _stamps(plan)[1])


def _launch_tiled(kernel: Any, plan: Plan, packed: Packed, x: Array, out: Array, cut: Any, *tables: Any) -> None:
    """Enter a tiled kernel; `cut` says how it cuts the problem, and how much scratch memory each thread needs."""
    work = _workspace((cut.threads, cut.work), packed.weight.dtype)
    tables = (make_geometry(plan), packed.layout, *tables, cut)
    with parallel_region():
        kernel(_stored(x), packed.weight, packed.bias, _stored(out), *tables, work)


def _has_tiles(plan: Plan) -> bool:
    return plan.dtype in _TILED and math.prod(axis.stride for axis in kernel_axes(plan)) <= MOST_PHASES


def _pack(plan: Plan, layout: Layout, weight: Array) -> Array | None:
    """Weights in the order of `layout`, or None if some are not finite: times a zero they make NaN."""
    geometry = make_geometry(plan)
    packed = np.empty(plan.groups * layout.weights * geometry.cin, plan.accumulate)
    with parallel_region():
        finite = pack_weight(_stored(weight), packed, geometry, layout, numba.get_num_threads())
    return packed if finite else None


def _values(plan: Plan, bias: Array | None) -> Array:
    return np.zeros(plan.out_channels, plan.accumulate) if bias is None else bias.astype(plan.accumulate)


def _launch_plain(
    kernel: Any, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, pieces: int
) -> None:
    if plan.batch == 0:
        return
    sums = out if plan.dtype == plan.accumulate else np.empty(out.shape, plan.accumulate)
    if bias is None:
        bias = np.zeros(plan.out_channels, x.dtype)
    x, weight, bias = (array.astype(plan.accumulate, copy=False) for array in (x, weight, bias))
    with parallel_region():
        kernel(_stored(x), _stored(weight), _stored(bias), sums.reshape(-1), make_geometry(plan), pieces)
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


def _gather_layout(plan: Plan) -> Layout:
    lane = VECTOR_BYTES // np.dtype(plan.accumulate).itemsize if plan.channels_last else 1
    return make_layout(kernel_axes(plan), plan.out_channels // plan.groups, lane)


@lru_cache(maxsize=256)
def _blocking(plan: Plan, threads: int) -> Blocking:
    return make_blocking(plan, _gather_layout(plan), threads)


def prefer(plan: Plan) -> str:
    """Return the formulation that should cost less."""
    costs = predict(plan) if _has_tiles(plan) else {"gather": 0.0}
    return "scatter" if min(costs, key=lambda kernel: costs[kernel]) == "scatter" else "gather"


def _is_direct(plan: Plan) -> bool:
    costs = predict(plan)
    return costs.get("direct", math.inf) < costs["gather"]


@lru_cache(maxsize=256)
def _direct(plan: Plan, threads: int) -> Direct:
    return make_direct(plan, _gather_layout(plan), threads)


def _stamps(plan: Plan) -> tuple[Layout, Stamps]:
    return make_stamps(kernel_axes(plan), plan.out_channels // plan.groups)


@lru_cache(maxsize=256)
def _boxes(plan: Plan, threads: int) -> Boxes:
    return make_boxes(plan, *_stamps(plan), threads)


def _workspace(shape: tuple[int, int], dtype: Any) -> Array:
    """Scratch memory of the calling thread, kept between calls."""
    needed = shape[0] * shape[1] * dtype.itemsize
    if getattr(_local, "bytes", np.empty(0, np.uint8)).size < needed + 64:
        _local.bytes = np.empty(needed + 64, np.uint8)
    start = -_local.bytes.ctypes.data % 64
    found: Array = _local.bytes[start : start + needed].view(dtype).reshape(shape)
    return found
