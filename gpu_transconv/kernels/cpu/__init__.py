"""The CPU backend: Numba kernels, parallel, bitwise repeatable for any number of threads.

Read it in this order:

1. `choose`: the kernels as values, in the order in which they are asked; the first that takes a plan computes it.
2. `launch`: a plan becomes a job, on as many threads as are worth waking; what is left is done element by element.
   `input_grad`: the same for the gradient by the input, which is a forward problem with a step in place of the stride.
3. `geometry` and `partition`: a plan as numbers, and how it is cut; `arguments`: how a kernel gets both.
4. `elementwise`, `elementwise_input_grad`: both formulations as plain loops, the shortest way to see what every other
   kernel computes.
5. `gemm`: matrix products, what all ways of cutting one share. Each way is a room of its own, with its partition and
   its kernels: `runs` of blocks and `boxes` for large maps, `points` for small ones, `lines` for few inputs, `few` for
   few output channels; `costs` says which should be fastest. `depthwise`: where channels do not meet, short filters.
   `weight_grad`: the gradient by the weight.
6. `tiles`: the inner loops of all these; `emit`: the language they are written in, LLVM's, and the copies around them.
7. `weight_order` and `pack`: weights prepared once; `complexes`: complex layers as real ones.
8. `runtime`: machine code on disk, threads, scratch memory; `warm_up` compiles ahead.

A kernel is a function ``(x, weight, bias, out, table, work, number)`` for one part of the work. It unpacks `table` into
one named tuple and owns the outputs of its part, so no two threads write the same element and no sum depends on how
many there are.
"""

from __future__ import annotations

import os
from importlib import import_module

from ...problem.dtypes import DTYPES
from ..kernel import Backend, Kernel


def status() -> str | None:
    """Return None where the kernels can run here, else why not; a variable at fault is named. Never raises."""
    try:
        reason: str | None = import_module(".runtime.requirements", __package__).unmet()
    except Exception as error:  # Numba refuses a version of NumPy, or a setting, with whatever it likes
        settings = ", ".join(f"{name}={word}" for name, word in os.environ.items() if name.startswith("NUMBA_"))
        cure = f"these variables are set: {settings}" if settings else "install another version of numba"
        reason = f"Numba cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}); {cure}"
    return reason


def _kernels() -> tuple[Kernel, ...]:
    from . import input_grad, launch

    return launch.KERNELS + input_grad.KERNELS


BACKEND = Backend("cpu", "cpu", tuple(DTYPES), status, _kernels)
