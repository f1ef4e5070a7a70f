"""What the package needs to know about arrays: dtype, contiguous views, overlap, fresh outputs."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .pool import outputs
from .problem.dtypes import dtype_name
from .problem.plan import Plan
from .problem.shapes import check_bytes

#: What the public functions take and return: an array of any library.
Array: TypeAlias = Any
#: An array in host memory, as the CPU kernels take it.
HostArray: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class CudaArray:
    """An array on a CUDA device: `array` has ``__cuda_array_interface__`` or is one of Numba's simulator.

    `dtype` is the name of the elements' dtype, which the array itself need not know (bfloat16 as 16 bits).
    Work on it has to follow what is on `stream`; None where nothing has to be waited for. `index` counts
    devices, None where that is not known. Its allocator reuses its memory in the order of the stream `home`, where
    that is known. It is `lent` where its library may reuse the memory in the order of a stream that is not known.
    """

    array: Any
    shape: tuple[int, ...]
    dtype: str
    index: int | None = None
    stream: int | None = None
    home: int | None = None
    lent: bool = False


View: TypeAlias = HostArray | CudaArray


def check_out(out: View, plan: Plan) -> None:
    """Raise unless `out` can take the result of `plan`."""
    if dtype_name(out.dtype) != plan.dtype:
        raise TypeError(f"out must have x's dtype {plan.dtype}, got {out.dtype}")
    if out.shape != plan.output_shape:
        raise ValueError(f"out must have the output's shape {plan.output_shape}, got {out.shape}")
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


def as_contiguous(array: HostArray) -> HostArray:
    """C-contiguous, native byte order, aligned; the array itself where it already is."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    return np.require(array, array.dtype.newbyteorder("="), ("C", "A"))


def is_free(out: HostArray, *inputs: HostArray | None) -> bool:
    """Whether a kernel may write straight into `out`: contiguous, and apart from all inputs."""
    return as_contiguous(out) is out and not any(a is not None and np.may_share_memory(out, a) for a in inputs)


def is_free_cuda(out: Any, *inputs: Any) -> bool:
    """The same for objects with ``__cuda_array_interface__``, or of Numba's simulator."""
    low, high, contiguous = _extent(out)
    others = [_extent(array) for array in inputs if array is not None]
    return contiguous and all(end <= low or high <= start for start, end, _ in others)


def _extent(array: Any) -> tuple[int, int, bool]:
    """First and last address of an array, and whether its elements fill them in C order."""
    facts = _facts(array)
    shape, item = facts["shape"], np.dtype(facts["typestr"]).itemsize
    packed = [item * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    strides = facts.get("strides") or packed
    reach = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low = facts["data"][0] + sum(step for step in reach if step < 0)
    high = facts["data"][0] + sum(step for step in reach if step > 0) + item
    return low, high, all(n == 1 or a == b for n, a, b in zip(shape, strides, packed, strict=True))


def start_of(array: Any) -> int:
    """Address of an array's first element."""
    start: int = _facts(array)["data"][0]
    return start


def _facts(array: Any) -> dict[str, Any]:
    facts: dict[str, Any] = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return facts  # the latter is the simulator's


def empty_output(plan: Plan) -> HostArray:
    """Allocate the result of `plan`, or raise `MemoryError` before trying what cannot be had."""
    if plan.output_bytes > memory_bytes():
        check_memory("output", plan.output_shape, plan.dtype)
    return outputs.empty(plan.output_shape, numpy_dtype(plan.dtype), plan.output_bytes)


def check_memory(name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Raise `MemoryError` where an array is larger than this machine's memory; an empty one never is."""
    if 0 not in shape:
        check_bytes(name, shape, dtype, memory_bytes(), "this machine has")


@lru_cache(maxsize=16)
def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of that name, bfloat16 included."""
    if name == "bfloat16":
        import_module("ml_dtypes")  # gives NumPy the name
    return np.dtype(name)


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
