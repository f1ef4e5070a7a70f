"""What the package needs to know about arrays: library, dtype, contiguous views, fresh outputs."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .plan import DTYPES, Plan
from .pool import outputs

Array: TypeAlias = NDArray[Any]


def check_arrays(**arrays: Any) -> str:
    """Return the name of the arrays' common dtype, or raise `TypeError`; only bias may be None."""
    first, *others = (name for name, value in arrays.items() if name != "bias" or value is not None)
    expected = _dtype_name(first, arrays[first])
    for name in others:
        if _dtype_name(name, arrays[name]) != expected:
            raise TypeError(f"{name} must have {first}'s dtype {expected}, got {arrays[name].dtype}")
    return expected


def check_activation(activation: str | None, dtype: str) -> None:
    """Raise `TypeError` where an activation has no meaning for a dtype."""
    if activation is None or dtype.startswith(("float", "bfloat")):
        return
    valid = ("relu",) if dtype.startswith("int") else ("tanh", "sigmoid", "silu")
    if activation not in valid:
        raise TypeError(
            f"activation {activation!r} is not defined for {dtype}; expected None or one of {', '.join(valid)}"
        )


def check_out(out: Any, plan: Plan) -> None:
    """Raise unless `out` can take the result of `plan`."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array like x, got {type(out).__name__}")
    if _native(out) != plan.dtype:
        raise TypeError(f"out must have x's dtype {plan.dtype}, got {out.dtype}")
    if out.shape != plan.output_shape:
        raise ValueError(f"out must have the output's shape {plan.output_shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")


def as_contiguous(array: Array) -> Array:
    """C-contiguous, native byte order, aligned; the array itself where it already is."""
    if array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative:
        return array
    return np.require(array, array.dtype.newbyteorder("="), ("C", "A"))


def is_free(out: Array, *inputs: Array | None) -> bool:
    """Whether a kernel may write straight into `out`: contiguous, and apart from all inputs."""
    return as_contiguous(out) is out and not any(a is not None and np.may_share_memory(out, a) for a in inputs)


def empty_output(plan: Plan) -> Array:
    """Allocate the result of `plan`, or raise `MemoryError` before trying what cannot be had."""
    limit = memory_bytes()
    if plan.output_bytes > limit:
        raise MemoryError(
            f"the output of shape {plan.output_shape} and dtype {plan.dtype} needs "
            f"{plan.output_bytes:,} bytes; this machine has {limit:,}"
        )
    return outputs.empty(plan.output_shape, np.dtype(plan.dtype), plan.output_bytes)


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


def _dtype_name(name: str, value: Any) -> str:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}")
    dtype = _native(value)
    if dtype not in DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {value.dtype}")
    return dtype


def _native(array: Array) -> str:
    return array.dtype.newbyteorder("=").name
