"""As much of JAX's arrays on a GPU as the package asks for, on the memory of `host_cupy`.

JAX computes on one stream, which waits for what makes an operand and for nothing else: it takes back memory as soon
as nobody holds it. For what other libraries make it has another stream.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from host_cupy import Array, Cupy, MemoryPointer, PooledMemory, UnownedMemory

#: Addresses of the stream on which JAX computes, and of that on which it waits for others.
STREAM, READY_STREAM = 512, 528


class JaxArray:
    """An array in JAX's memory, or in memory that it was lent."""

    def __init__(self, shape: Any, dtype: Any, memory: Any = None, ready: Any = None) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        with Jax.active.stream:
            self.memory = memory or PooledMemory(Jax.active.cupy, size)
        self.host = np.ndarray(shape, dtype, self.memory.block)
        self.ready = ready or Jax.active.stream.record()

    def devices(self) -> set[Any]:
        return {Jax.active.device}

    def is_ready(self) -> bool:
        return self.ready.done

    def read(self) -> np.ndarray:
        self.ready.synchronize()
        return self.host.copy()


class Device(SimpleNamespace):
    """A device, which can be in a set."""

    __hash__ = object.__hash__


class Jax:
    """Stands in for the module."""

    active: Jax
    Array = JaxArray
    core = SimpleNamespace(Tracer=type("Tracer", (), {}))

    def __init__(self, cupy: Cupy) -> None:
        Jax.active = self
        self.cupy, self.stream = cupy, cupy.stream(STREAM)
        self.device = Device(platform="gpu", local_hardware_id=0)
        self.dlpack = SimpleNamespace(from_dlpack=self.from_dlpack)
        self.numpy = SimpleNamespace(array=self.array)
        cupy.from_dlpack = self.to_cupy
        Array.__dlpack__ = lambda array, **keywords: array  # noqa: ARG005

    def put(self, array: np.ndarray) -> JaxArray:
        made = JaxArray(array.shape, array.dtype)
        made.host[...] = array
        return made

    def array(self, source: JaxArray, copy: bool) -> JaxArray:
        assert copy
        made = JaxArray(source.shape, source.dtype)
        target, given = made.host, source.host
        self.stream.wait_event(source.ready)
        self.stream.queue.enqueue(lambda: np.copyto(target, given))
        made.ready = self.stream.record()
        return made

    def from_dlpack(self, array: Array) -> JaxArray:
        waiting = self.cupy.stream(READY_STREAM)
        waiting.wait_event(self.cupy.cuda.get_current_stream().record())
        return JaxArray(array.shape, array.dtype, array.mem, waiting.record())

    def to_cupy(self, array: JaxArray) -> Array:
        self.cupy.cuda.get_current_stream().wait_event(array.ready)
        memory = UnownedMemory(array.memory.ptr, array.host.nbytes, array.memory)
        return Array(array.shape, array.dtype, MemoryPointer(memory, 0))
