"""Launch the CPU kernels: flat views, tables, workspace, one parallel region."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ...arrays import Array
from ...plan import Plan
from .blocking import make_blocking
from .gather import gather
from .geometry import Geometry, make_geometry
from .layout import Layout, make_layout
from .packing import VECTOR_BYTES, pack_weight
from .plain import plain_gather, plain_scatter
from .threads import parallel_region

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle.
_PIECES = 4
#: With more phases than this the tables cost more than they save.
_MOST_PHASES = 4096

_TILED = ("float16", "bfloat16", "float32", "float64")
_local = threading.local()


class Packed(NamedTuple):
    """Weights and bias in the order of the tiles."""

    layout: Layout
    weight: Array
    bias: Array


def pack_gather(plan: Plan, weight: Array, bias: Array | None) -> Packed | None:
    """Pack weights for any input size, or None where the plain kernel is the right one."""
    if plan.dtype not in _TILED or np.prod([axis.stride for axis in plan.axes]) > _MOST_PHASES:
        return None
    geometry, layout = make_geometry(plan), _layout(plan)
    packed = np.empty(plan.groups * layout.weights * geometry.cin, plan.accumulate)
    with parallel_region():
        finite = pack_weight(_stored(weight), packed, geometry, layout, numba.get_num_threads())
    if not finite:
        return None
    values = np.zeros(plan.out_channels, plan.accumulate) if bias is None else bias.astype(plan.accumulate)
    rows = values.reshape(plan.groups, -1)[:, layout.row_channels]
    return Packed(layout, packed, np.append(rows, np.zeros(VECTOR_BYTES, rows.dtype)))


def launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed | None = None) -> None:
    """Fill `out` by the gather formulation; the contract is in `gpu_transconv.kernels`."""
    packed = packed or pack_gather(plan, weight, bias)
    if packed is None:
        _launch_plain(plain_gather, plan, x, weight, bias, out, _PIECES * numba.get_num_threads())
    elif plan.batch:
        geometry, blocking = make_geometry(plan), _blocking(plan, numba.get_num_threads())
        work = _workspace((blocking.threads, blocking.work), packed.weight.dtype)
        with parallel_region():
            gather(_stored(x), packed.weight, packed.bias, _stored(out), geometry, packed.layout, blocking, work)


def launch_scatter(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array) -> None:
    """Fill `out` by the scatter formulation; the contract is in `gpu_transconv.kernels`."""
    if plan.batch:
        pieces = -(-_PIECES * numba.get_num_threads() // (plan.batch * plan.out_channels))
        _launch_plain(plain_scatter, plan, x, weight, bias, out, max(1, min(pieces, max(plan.out_spatial) // 64)))


def _launch_plain(kernel: Any, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, pieces: int) -> None:
    if plan.batch == 0:
        return
    sums = out if plan.dtype == plan.accumulate else np.empty(out.shape, plan.accumulate)
    if bias is None:
        bias = np.zeros(plan.out_channels, x.dtype)
    x, weight, bias = (array.astype(plan.accumulate, copy=False) for array in (x, weight, bias))
    with parallel_region():
        kernel(x.reshape(-1), weight.reshape(-1), bias, sums.reshape(-1), make_geometry(plan), pieces)
    if sums is not out:
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[...] = sums


def _stored(array: Array) -> Array:
    """Flat view of the stored words."""
    flat = array.reshape(-1)
    return flat.view(np.uint16) if flat.itemsize == 2 else flat


def _layout(plan: Plan) -> Layout:
    lane = VECTOR_BYTES // np.dtype(plan.accumulate).itemsize if plan.channels_last else 1
    return make_layout(plan.axes, plan.out_channels // plan.groups, lane)


@lru_cache(maxsize=256)
def _blocking(plan: Plan, threads: int) -> Any:
    return make_blocking(plan, _layout(plan), threads)


def _workspace(shape: tuple[int, int], dtype: Any) -> Array:
    """Scratch memory of the calling thread, kept between calls."""
    needed = shape[0] * shape[1] * dtype.itemsize
    if getattr(_local, "bytes", np.empty(0, np.uint8)).size < needed + 64:
        _local.bytes = np.empty(needed + 64, np.uint8)
    start = -_local.bytes.ctypes.data % 64
    found: Array = _local.bytes[start : start + needed].view(dtype).reshape(shape)
    return found


__all__ = ["Geometry", "Packed", "launch_gather", "launch_scatter", "pack_gather"]
