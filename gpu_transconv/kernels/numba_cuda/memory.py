"""Arrays on the device: what comes from other libraries without a copy, what comes from NumPy with one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...arrays import Array

_INSTALL = "pip install 'numba-cuda[cu13]>=0.30.4,<0.31' (or [cu12], by the driver's CUDA version)"
_SIMULATOR = "or set NUMBA_ENABLE_CUDASIM=1 to run in Numba's simulator, which is slow and needs no GPU"
#: Address of the CUDA stream that work goes to; 0 is Numba's default one.
_stream: ContextVar[int] = ContextVar("gpu_transconv_numba_stream", default=0)
_workspaces: dict[tuple[int, int, str], Any] = {}
_lock = threading.Lock()


def status() -> str | None:
    """Return None where the backend can run here, else what is missing; does not import Numba."""
    if find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed; {_INSTALL}"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return None
    try:
        devices = _count_devices()
    except Exception as error:
        reason = " ".join(str(error).split())
        return (
            f"the CUDA driver cannot be used ({reason}); install NVIDIA's driver on a machine with a GPU, {_SIMULATOR}"
        )
    if not devices:
        return f"the CUDA driver sees no device; make one visible (CUDA_VISIBLE_DEVICES), {_SIMULATOR}"
    try:
        _load_compiler()
    except Exception as error:
        reason = " ".join(str(error).split())
        return f"libNVVM and NVRTC, which compile the kernels, cannot be loaded ({reason}); {_INSTALL}"
    return None


def _count_devices() -> int:
    """Ask the driver, by NVIDIA's bindings, which Numba-CUDA brings."""
    from cuda.bindings import driver

    (started,) = driver.cuInit(0)
    if started != driver.CUresult.CUDA_SUCCESS and started != driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise RuntimeError(f"cuInit: {started.name}")
    return int(driver.cuDeviceGetCount()[1] or 0) if started == driver.CUresult.CUDA_SUCCESS else 0


def _load_compiler() -> None:
    from cuda import pathfinder

    for library in ("nvvm", "nvrtc"):
        pathfinder.load_nvidia_dynamic_lib(library)


def as_device(array: Array) -> Any:
    """Return the array on the device, C-contiguous: itself where it is so, otherwise a copy."""
    from .cuda import SIMULATED, cuda, stream_at

    if isinstance(array, np.ndarray):
        native = np.require(array, array.dtype.newbyteorder("="), ("C", "A"))
        return cuda.to_device(native, stream=stream_at(current_stream()))
    found = array if SIMULATED else cuda.as_cuda_array(array, sync=False)
    if found.is_c_contiguous():
        return found
    copied = empty(found.shape, found.dtype)
    _copy_elements(found, copied)
    return copied


def empty(shape: tuple[int, ...], dtype_name: Any) -> Any:
    """Allocate an array on the device."""
    from .cuda import cuda, stream_at

    return cuda.device_array(tuple(shape), np.dtype(dtype_name), stream=stream_at(current_stream()))


def copy_to(source: Any, out: Array) -> None:
    """Copy a device array into `out`, of NumPy or on the device, of any strides."""
    from .cuda import SIMULATED, cuda, stream_at

    if not isinstance(out, np.ndarray):
        _copy_elements(source, out if SIMULATED else cuda.as_cuda_array(out, sync=False))
        return
    if not source.size:
        return
    stream = stream_at(current_stream())
    host = source.copy_to_host(stream=stream)
    if stream:
        stream.synchronize()
    np.copyto(out, host)


def constant(values: Array) -> Any:
    """Copy to the device what launches on any stream will read from now on; waits for the copy."""
    from .cuda import cuda

    copied = cuda.to_device(values)
    cuda.default_stream().synchronize()
    return copied


@contextlib.contextmanager
def workspace(device: int, size: int, dtype_name: str) -> Iterator[Any]:
    """Lend scratch memory to what is enqueued inside; the next user on the same stream comes after it."""
    key = device, _stream.get(), dtype_name
    with _lock:
        found = _workspaces.get(key)
        if found is None or found.size < size:
            found = _workspaces[key] = empty((size,), dtype_name)
        yield found


@contextlib.contextmanager
def on_stream(pointer: int | None) -> Iterator[None]:
    """Enqueue what is launched inside on that CUDA stream; None stands for Numba's default stream."""
    token = _stream.set(pointer or 0)
    try:
        yield
    finally:
        _stream.reset(token)


def current_stream() -> int:
    """Return the address of the innermost `on_stream`, 0 where there is none."""
    return _stream.get()


def _copy_elements(source: Any, target: Any) -> None:
    """Copy between device arrays of any strides."""
    from .cuda import current_device, launch

    if not source.size:
        return
    device = current_device()
    threads = min(256, device.threads_per_block)
    blocks = min(-(-source.size // threads), device.blocks)
    kernel = _copy_kernel(device.number, source.dtype.name)
    launch(kernel, blocks, threads, current_stream(), _lifted(source), _lifted(target))


@lru_cache(maxsize=64)
def _copy_kernel(device: int, dtype: str) -> Any:  # noqa: ARG001
    from .cuda import compile_kernel
    from .elementwise import make_copy

    return compile_kernel(make_copy(), (f"{dtype}[5]",) * 2, f"copy_{dtype}")


def _lifted(array: Any) -> Any:
    """View a device array with five axes, unit ones in front."""
    from .cuda import SIMULATED, cuda

    missing = 5 - len(array.shape)
    if SIMULATED:
        return array[(None,) * missing]
    shape = (1,) * missing + tuple(array.shape)
    strides = (array.dtype.itemsize,) * missing + tuple(array.strides)
    facts = array.__cuda_array_interface__ | {"shape": shape, "strides": strides}
    return cuda.from_cuda_array_interface(facts, owner=array, sync=False)
