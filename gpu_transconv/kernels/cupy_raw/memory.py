"""Arrays on the device through CuPy: the caller's memory where it can be used as it is, copies where not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...arrays import Array

_INSTALL = "pip install cupy-cuda13x (or cupy-cuda12x, by the driver's CUDA version)"
#: What 16-byte reads need; every allocator gives more, but an array may begin anywhere in its memory.
_ALIGNMENT = 16


def status() -> str | None:
    """Return None where the backend can run here, else what is missing."""
    try:
        import cupy
    except Exception as error:
        return f"CuPy cannot be imported ({_said(error)}); {_INSTALL}"
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return "the CUDA driver sees no device; make one visible (CUDA_VISIBLE_DEVICES)"
    except Exception as error:
        return f"the CUDA driver cannot be used ({_said(error)}); install NVIDIA's driver on a machine with a GPU"
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:
        return f"NVRTC, which compiles the kernels, cannot be loaded ({_said(error)}); pip install nvidia-cuda-nvrtc"
    return None


def as_device(array: Array) -> Any:
    """Return the array on the device, C-contiguous and aligned: itself where it is so, otherwise a copy."""
    import cupy

    if isinstance(array, np.ndarray):
        native = np.require(array, array.dtype.newbyteorder("="), "C")
        return cupy.asarray(native.view(_stored(native.dtype)))
    found = _wrap(array)
    if not found.flags.c_contiguous or found.data.ptr % _ALIGNMENT:
        return found.copy(order="C")
    return found


def empty(shape: tuple[int, ...], dtype_name: str) -> Any:
    """Allocate an array from CuPy's pool; bfloat16 as its 16 bits."""
    import cupy

    return cupy.empty(shape, "uint16" if dtype_name == "bfloat16" else dtype_name)


def copy_to(source: Any, out: Array) -> None:
    """Copy a device array into `out`, of NumPy or on the device, of any strides."""
    if isinstance(out, np.ndarray):
        out[...] = source.get().view(out.dtype)
    else:
        _wrap(out)[...] = source


@contextmanager
def on_stream(pointer: int | None) -> Iterator[None]:
    """Enqueue what is launched inside on that CUDA stream; None stands for CuPy's current stream."""
    import cupy

    if pointer is None:
        yield
        return
    with cupy.cuda.ExternalStream(pointer) if pointer else cupy.cuda.Stream.null:
        yield


def _wrap(array: Any) -> Any:
    """View any array on a CUDA device as CuPy's.

    Not by `cupy.asarray`, which would wait for the producer's stream: the work is enqueued on that same stream.
    """
    import cupy

    if isinstance(array, cupy.ndarray):
        return array if array.dtype.kind != "V" else array.view(np.uint16)
    facts = array.__cuda_array_interface__
    dtype = _stored(np.dtype(facts["typestr"]))
    shape, strides = tuple(facts["shape"]), facts.get("strides")
    steps = strides or [dtype.itemsize * int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))]
    size = dtype.itemsize + sum((n - 1) * abs(step) for n, step in zip(shape, steps, strict=True)) if all(shape) else 0
    memory = cupy.cuda.UnownedMemory(facts["data"][0], size, array)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0), strides)


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype as which CuPy holds elements: itself, or 16 bits for bfloat16."""
    return dtype if dtype.kind in "biufc" else np.dtype(np.uint16)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
