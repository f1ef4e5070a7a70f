"""The Numba-CUDA backend: the two formulations of all three operations as CUDA kernels written in Python.

This is the backend to learn from. Read it in this order:

1. ``problem/sides.py``: the relation of input, tap and output, seen from either side; `geometry`: all that a kernel
   knows of a problem, as one short vector of integers; `traits`: what it is compiled for.
2. `tile`: how a block of threads multiplies two matrices piece by piece through shared memory.
3. `gather`: a phase of the output is such a product, and every element is written once. `gather_direct`, for few
   channels, does without shared memory.
4. `scatter`: all stamps of some inputs (`stamps`) are such a product too; adding them up is where threads can collide,
   and the two kernels differ in how they prevent it: by atomic additions, or, in `scatter_owned`, by owning a box of
   the output.
5. The gradient by x needs no kernels of its own. It reads what the operator writes and writes what that reads; so the
   same gather and the same scatters compute it, on a geometry that is seen from the other side.
6. `weight_tile`: the gradient by the weight as a product that sums over pixels; `weight_gather` owns its result,
   `weight_scatter` its pixels, and `weight_cut` is how many pieces there are of these.
7. `launch`, `weight_launch`: which kernel, tile and box (`choose`); `enqueue`: blocks, threads and geometry, worked out
   once; `compiled`: what is compiled once.

Everything here also runs in Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``): slowly, and without a GPU.
``docs/develop/cuda_without_a_gpu.md`` says what is proven how.
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
