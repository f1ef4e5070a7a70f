"""CuPy RawKernels in CUDA C++, compiled by NVRTC when first needed."""

from __future__ import annotations

from ...arrays.memory import Memory
from ..kernel import Backend, Kernel
from .memory import status

_DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


def _kernels() -> tuple[Kernel, ...]:
    from .launch import KERNELS

    return KERNELS


def _memory() -> Memory:
    from . import memory

    return memory


BACKEND = Backend("cupy", "cuda", _DTYPES, status, _kernels, _memory)
