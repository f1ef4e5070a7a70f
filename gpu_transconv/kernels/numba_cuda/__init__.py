"""The Numba-CUDA backend: the two formulations as CUDA kernels written in Python.

This is the backend to learn from. Read it in this order:

1. `geometry`: all that a kernel knows of a problem, as one short vector of integers; `traits`: what it is compiled for.
2. `tile`: how a block of threads multiplies two matrices piece by piece through shared memory.
3. `gather`: a phase of the output is such a product, and every element is written once. `gather_direct`, for few
   channels, does without shared memory.
4. `scatter`: all stamps of some inputs (`stamps`) are such a product too; adding them up is where threads can collide,
   and the two kernels differ in how they prevent it: by atomic additions, or, in `scatter_owned`, by owning a box of
   the output.
5. `launch`: which kernel, tile and box (`choose`), how many threads, and what is compiled once (`compiled`).

Everything here also runs in Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``): slowly, and without a GPU.
``docs/cuda_without_a_gpu.md`` says what is proven how.
"""

from __future__ import annotations

from ...arrays.memory import Memory
from ..kernel import Backend, Kernel
from .availability import status


def _kernels() -> tuple[Kernel, ...]:
    from .launch import KERNELS

    return KERNELS


def _memory() -> Memory:
    from . import memory

    return memory


BACKEND = Backend("numba-cuda", "cuda", ("float16", "float32", "float64"), status, _kernels, _memory)
