"""The one place that imports `numba.cuda`, so that its successor has one place to go.

Importing this module imports Numba-CUDA; `gpu_transconv` does so when a kernel of this backend is first needed.
The kernels use ``cuda`` (thread indices, shared memory, barriers, atomics) and `types` from here; `launch` uses
the functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from numba import cuda
from numba.cuda import types
from numba.cuda.core import config
from numba.cuda.core.errors import NumbaPerformanceWarning

from ...arrays.locks import ProcessLock

__all__ = [
    "SIMULATED", "Device", "compile_kernel", "cuda", "current_device", "launch",
    "signature", "stream_at", "types",
]  # fmt: skip

#: Whether kernels run in the simulator, by NUMBA_ENABLE_CUDASIM.
SIMULATED = bool(config.ENABLE_CUDASIM)
#: The simulator runs one kernel at a time.
_simulator = ProcessLock()


class Device(NamedTuple):
    """What the launcher asks of a device; the simulator's figures keep its blocks tiny."""

    number: int
    multiprocessors: int
    threads_per_block: int
    shared_bytes: int
    blocks: int


def current_device() -> Device:
    """Return the properties of the device on which a kernel would run now."""
    if SIMULATED:
        return Device(number=0, multiprocessors=1, threads_per_block=4, shared_bytes=4096, blocks=3)
    device = cuda.get_current_device()
    return Device(
        number=device.id,
        multiprocessors=device.MULTIPROCESSOR_COUNT,
        threads_per_block=device.MAX_THREADS_PER_BLOCK,
        shared_bytes=device.MAX_SHARED_MEMORY_PER_BLOCK,
        blocks=device.MAX_GRID_DIM_X,
    )


def signature(*parameters: str) -> Any:
    """Build a kernel's signature: ``"float32[]"`` is a flat array, ``"float64"`` a number."""
    return types.void(*map(_type_of, parameters))


def _type_of(name: str) -> Any:
    if name.endswith("]"):
        dtype, axes = name[:-1].split("[")
        return types.Array(getattr(types, dtype), int(axes or 1), "A" if axes else "C")
    return getattr(types, name)


def compile_kernel(function: Callable[..., None], parameters: Sequence[str], name: str) -> Any:
    """Compile for one signature, so that a call looks up no types; a profiler shows the name."""
    function.__name__ = function.__qualname__ = name
    return cuda.jit(signature(*parameters))(function)


def launch(kernel: Any, blocks: int, threads: int, stream: int, *arguments: Any) -> None:
    """Enqueue a kernel on the stream at that address, 0 for Numba's default one; in the simulator, run it."""
    if SIMULATED:
        with _simulator():  # which keeps the configuration in the kernel itself
            kernel[blocks, threads](*arguments)
    else:
        _configure(kernel, blocks, threads, stream)(*arguments)


@lru_cache(maxsize=4096)
def _configure(kernel: Any, blocks: int, threads: int, stream: int) -> Any:
    with warnings.catch_warnings():  # a small problem is no reason to warn the caller
        warnings.simplefilter("ignore", NumbaPerformanceWarning)
        return kernel[blocks, threads, stream_at(stream)]


def stream_at(address: int) -> Any:
    """Return the CUDA stream at an address as Numba takes it."""
    return cuda.external_stream(address) if address and not SIMULATED else 0
