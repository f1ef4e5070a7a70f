"""JAX's arrays, on the CPU and on CUDA devices."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType

import numpy as np

from .library import ArrayLibrary
from .memory import cuda_memory
from .standard import REFUSALS
from .views import Array, CudaArray, View


class Jax(ArrayLibrary):
    """Concrete arrays on one device; they cannot be written to."""

    title = "a JAX array"

    def owns(self, value: object) -> bool:
        return isinstance(value, sys.modules["jax"].Array)

    def view(self, name: str, array: Array) -> View:
        if isinstance(array, sys.modules["jax"].core.Tracer):
            raise TypeError(
                f"{name} must be a concrete array, got one that JAX is tracing; call this function outside of "
                "jit, grad and vmap, or through jax.pure_callback"
            )
        try:
            devices = list(array.devices())
            if devices[0].platform == "cpu":
                return np.asarray(array)
        except REFUSALS as error:  # deleted, of random keys, or on other machines too
            raise TypeError(f"{name} must be a JAX array that NumPy can read: {error}") from error
        platform = devices[0].platform
        if len(devices) > 1 or platform not in ("gpu", "cuda"):
            raise TypeError(f"{name} must be on the CPU or on one CUDA device, got an array on {devices}")
        return _on_cuda(name, array, devices[0].local_hardware_id)

    def view_out(self, out: Array) -> View:
        raise TypeError(f"out must be an array that can be written, which JAX's cannot, got {type(out).__name__}")

    def wrap(self, result: Array, given: Array) -> Array:
        jax = sys.modules["jax"]
        if isinstance(result, np.ndarray):  # no copy: results of a megabyte and more are aligned as JAX wants it
            return jax.device_put(result, next(iter(given.devices())))
        return _copied(jax, result, given)

    def device(self, given: Array) -> AbstractContextManager[object]:
        device, cupy = next(iter(given.devices())), sys.modules.get("cupy")
        if device.platform == "cpu" or cupy is None:
            return super().device(given)
        context: AbstractContextManager[object] = cupy.cuda.Device(device.local_hardware_id)
        return context


def _on_cuda(name: str, array: Array, index: int) -> CudaArray:
    """View an array by CuPy, whose current stream then waits for what computes it."""
    try:
        cupy = import_module("cupy")
    except ImportError:
        raise TypeError(
            f"{name} must be on the CPU where CuPy is not installed, got a JAX array on CUDA device {index}; "
            "install cupy-cuda13x or cupy-cuda12x"
        ) from None
    with cupy.cuda.Device(index):
        taken = cupy.from_dlpack(array)
        stream = cupy.cuda.get_current_stream().ptr
        return CudaArray(taken, tuple(array.shape), array.dtype.name, index, stream, lent=True)


def _copied(jax: ModuleType, result: Array, given: Array) -> Array:
    """Copy a device array into memory of JAX's own.

    JAX frees what it was lent when the last reference goes, though its stream may still read it, and the backend's
    allocator would give the memory to the next call. So the memory lives until JAX has copied it.
    """
    held = result if hasattr(result, "__dlpack__") else import_module("cupy").asarray(result)
    made = jax.dlpack.from_dlpack(held)
    copy = jax.numpy.array(made if made.dtype == given.dtype else made.view(given.dtype), copy=True)
    cuda_memory().held.add([copy.is_ready], held)
    return copy


JAX = Jax()
