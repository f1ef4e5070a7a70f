"""The one place that imports `numba.cuda`, so that its successor has one place to go.

Importing this module imports Numba-CUDA; `gpu_transconv` does so when a kernel of this backend is first needed.
The kernels use ``cuda`` (thread indices, shared memory, barriers, atomics) and `types` from here; `launch` uses
the functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from numba import cuda
from numba.cuda import types
from numba.cuda.core import config
from numba.cuda.core.errors import NumbaPerformanceWarning

from ...arrays.locks import ProcessLock

__all__ = [
    "SIMULATED", "Compiled", "Device", "DeviceArray", "DeviceFunction", "KernelFunction", "Number", "compile_kernel",
    "cuda", "current_device", "inlined", "launch", "signature", "stream_at", "types",
]  # fmt: skip

#: An array on the device: Numba's, or in the simulator one that stands for it.
DeviceArray: TypeAlias = Any
#: A type of Numba's, by its name in `types`; called, it converts.
Number: TypeAlias = Any
#: A function that kernels call, and one that can be compiled and launched.
DeviceFunction: TypeAlias = Callable[..., Any]
KernelFunction: TypeAlias = Callable[..., None]
#: A kernel that can be launched: Numba's dispatcher, configured by ``kernel[blocks, threads, stream]``.
Compiled: TypeAlias = Any
#: A CUDA stream as Numba takes it.
Stream: TypeAlias = Any

#: Whether kernels run in the simulator, by NUMBA_ENABLE_CUDASIM.
SIMULATED = bool(config.ENABLE_CUDASIM)
#: The simulator runs one kernel at a time.
_simulator = ProcessLock()


class Device(NamedTuple):
    """What the launcher asks of a device; the simulator's numbers keep its blocks tiny."""

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


def signature(*parameters: str) -> Number:
    """Build a kernel's signature: ``"float32[]"`` is a flat array, ``"float64"`` a number."""
    return types.void(*map(_type_of, parameters))


def _type_of(name: str) -> Number:
    if name.endswith("]"):
        dtype, axes = name[:-1].split("[")
        return types.Array(getattr(types, dtype), int(axes or 1), "A" if axes else "C")
    return getattr(types, name)


def inlined(function: DeviceFunction) -> DeviceFunction:
    """Make a function one that kernels call, and that the compiler puts in the place of the call."""
    device_function: DeviceFunction = cuda.jit(device=True, inline="always")(function)
    return device_function


def compile_kernel(function: KernelFunction, parameters: Sequence[str], name: str) -> Compiled:
    """Compile for one signature, so that a call looks up no types; a profiler shows the name."""
    function.__name__ = function.__qualname__ = name
    return cuda.jit(signature(*parameters))(function)


def launch(kernel: Compiled, blocks: int, threads: int, stream: int, *arguments: DeviceArray | float) -> None:
    """Enqueue a kernel on the stream at that address, 0 for Numba's default one; in the simulator, run it."""
    if SIMULATED:
        with _simulator():  # which keeps the configuration in the kernel itself
            kernel[blocks, threads](*arguments)
    else:
        _configure(kernel, blocks, threads, stream)(*arguments)


@lru_cache(maxsize=4096)
def _configure(kernel: Compiled, blocks: int, threads: int, stream: int) -> KernelFunction:
    with warnings.catch_warnings():  # a small problem is no reason to warn the caller
        warnings.simplefilter("ignore", NumbaPerformanceWarning)
        configured: KernelFunction = kernel[blocks, threads, stream_at(stream)]
    return configured


def stream_at(address: int) -> Stream:
    """Return the CUDA stream at an address as Numba takes it."""
    return cuda.external_stream(address) if address and not SIMULATED else 0
