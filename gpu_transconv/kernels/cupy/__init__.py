"""The cupy backend: CUDA C++ kernels, compiled by NVRTC when first needed, launched through CuPy.

Read it in this order:

1. ``problem/product.py``: the problem as matrix products, by phase, merged, or of stamps.
2. ``src/geometry.cuh`` and `geometry`: such a product as one struct, the same on both sides.
3. ``src/tile_simt.cuh``, ``src/tile_mma.cuh`` and `tile_shapes`: a tile of it, by ordinary multiply-adds or by matrix
   instructions, and the sizes that there are.
4. ``src/mainloop.cuh``, ``src/epilogue.cuh``: from global memory to the sums of a tile, and from there to the output.
5. ``src/gather.cuh``, ``src/scatter.cuh``, ``src/scatter_owned.cuh``: the kernels; ``src/gather_direct.cuh`` and
   ``src/gather_rows.cuh`` need no tile.
6. The gradient by x: the same tiles on ``correlation(plan)``; ``src/input_grad_scatter.cuh`` makes a problem of stride
   1 for each phase of grad_output, ``src/source_phase.cuh``. The gradient by the weight: ``src/weight_grad.cuh`` with
   ``src/pixel_panels.cuh``, ``src/weight_grad_direct.cuh`` without tiles, and `weight_grad`, which cuts the pixels.
7. Hopper's matrix unit: ``src/hopper_geometry.cuh`` and `hopper_product`, ``src/hopper_pipeline.cuh``,
   ``src/hopper_epilogue.cuh``; `hopper` launches it, with what `hopper_driver` gets from NVIDIA's bindings, once
   `hopper_trial` has seen it compute on the device.
8. `choose`, `owned_boxes`: which of them a layer gets; `launch_plan`: what is launched, as data; `bound_launch`,
   `launch`: by CuPy.

``tests/host_cuda`` runs the same sources on the CPU; ``docs/develop/decisions/0009-cuda-cpp-tiles.md`` says why there
is one tile for all of them.
"""

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
