"""Where results go: whether the caller's array can take one, and memory for one where there is none."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..problem.dtypes import dtype_name
from ..problem.plan import Plan
from ..problem.shapes import check_bytes
from .pool import outputs
from .views import HostArray, View, numpy_dtype


def check_out(out: View, plan: Plan) -> None:
    """Raise unless `out` can take the result of `plan`."""
    if dtype_name(out.dtype) != plan.dtype:
        raise TypeError(f"out must have x's dtype {plan.dtype}, got {out.dtype}")
    if out.shape != plan.result_shape:
        raise ValueError(f"out must have the output's shape {plan.result_shape}, got {out.shape}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    if isinstance(out, np.ndarray) and not out.flags.c_contiguous and _overlaps_itself(out):
        raise ValueError(f"out must have memory of its own for every element, got strides {out.strides}")


def _overlaps_itself(array: HostArray) -> bool:
    """Whether two elements share memory: an axis, from the shortest stride up, steps less than those below it span."""
    reach = array.itemsize
    for step, size in sorted((abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and step < reach:
            return True
        reach += step * (size - 1)
    return False


def empty_output(plan: Plan) -> HostArray:
    """Allocate the result of `plan`, or raise `MemoryError` before trying what cannot be had."""
    if plan.result_bytes > memory_bytes():
        check_memory("output", plan.result_shape, plan.dtype)
    return outputs.empty(plan.result_shape, numpy_dtype(plan.dtype), plan.result_bytes)


def check_memory(name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Raise `MemoryError` where an array is larger than this machine's memory; an empty one never is."""
    if 0 not in shape:
        check_bytes(name, shape, dtype, memory_bytes(), "this machine has")


@lru_cache(maxsize=1)
def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the control group's limit where that is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX: let the allocator decide
        return 2**63 - 1
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
