"""Arrays on the device through CuPy: the caller's memory where it can be used as it is, copies where not."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ...arrays.held import COPIES, PREPARE, Held
from ...arrays.views import Array
from .streams import DEFAULT_STREAM, CupyStream, is_same_stream, new_event, stream_at

#: CuPy's ndarray. CuPy has no types, and is imported only where it is used.
CupyArray: TypeAlias = Any
#: An array of any library with ``__cuda_array_interface__``.
CudaArray: TypeAlias = Any
#: Gives memory by the number of bytes.
Allocator: TypeAlias = Callable[[int], CudaArray]

_INSTALL = "pip install 'cupy-cuda13x>=14.2' (or cupy-cuda12x, by the driver's CUDA version)"
#: What 16-byte reads need; every allocator gives more, but an array may begin anywhere in its memory.
_ALIGNMENT = 16
#: Gives scratch memory by the number of bytes, where the caller's library has an allocator of its own.
_allocator: ContextVar[Allocator | None] = ContextVar("gpu_transconv_cupy_allocator", default=None)
held = Held()


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


def as_device(array: Array) -> CupyArray:
    """Return the array on the device, C-contiguous and aligned: itself where it is so, otherwise a copy."""
    import cupy

    if isinstance(array, np.ndarray):
        native = np.require(array, array.dtype.newbyteorder("="), "C")
        return cupy.asarray(native.view(_stored(native.dtype)))
    found = _wrap(array)
    if not found.flags.c_contiguous or found.data.ptr % _ALIGNMENT:
        if not has_allocator():
            refuse_capture(*COPIES)
        copied = scratch(found.shape, found.dtype)
        copied[...] = found
        return copied
    return found


def empty(shape: tuple[int, ...], dtype_name: DTypeLike) -> CupyArray:
    """Allocate an array from CuPy's pool; bfloat16 as its 16 bits."""
    import cupy

    return cupy.empty(shape, "uint16" if dtype_name == "bfloat16" else dtype_name)


def scratch(shape: tuple[int, ...], dtype_name: DTypeLike) -> CupyArray:
    """Allocate what one call needs, from the caller's library where it has an allocator.

    A CUDA graph writes to the same addresses on every replay. PyTorch's allocator sets memory aside for the graph
    that is being captured; CuPy's pool would give it to others.
    """
    allocate = _allocator.get()
    if allocate is None:
        refuse_capture("scratch memory of CuPy's pool would be given to others")
        return empty(shape, dtype_name)
    dtype = np.dtype("uint16" if dtype_name == "bfloat16" else dtype_name)
    block = allocate(max(1, math.prod(shape) * dtype.itemsize))
    return _view(block, block.__cuda_array_interface__["data"][0], shape, dtype, None)


def has_allocator() -> bool:
    """Whether scratch memory comes from the caller's library."""
    return _allocator.get() is not None


def copy_to(source: CupyArray, out: Array) -> None:
    """Copy a device array into `out`, of NumPy or on the device, of any strides."""
    if isinstance(out, np.ndarray):
        out[...] = source.get().view(out.dtype)
    else:
        _wrap(out)[...] = source


class on_stream:  # noqa: N801  # a function to those who call it; a generator would take four times as long
    """Enqueue what is launched inside on that CUDA stream; None stands for CuPy's current stream.

    `allocate` gives scratch memory by the number of bytes, as an object with ``__cuda_array_interface__``.
    """

    def __init__(self, pointer: int | None, allocate: Allocator | None = None) -> None:
        self._pointer, self._allocate = pointer, allocate
        self._stream: CupyStream | None = None

    def __enter__(self) -> None:
        import cupy

        self._token = _allocator.set(self._allocate)
        if self._pointer is not None and not is_same_stream(self._pointer, cupy.cuda.get_current_stream().ptr):
            self._stream = stream_at(self._pointer)
            self._stream.__enter__()

    def __exit__(self, *error: object) -> None:
        _allocator.reset(self._token)
        if self._stream is not None:
            self._stream.__exit__(*error)


def device_of(pointer: int) -> int | None:
    """Ask the driver on which device an address is."""
    import cupy

    index: int = cupy.cuda.runtime.pointerGetAttributes(pointer).device
    return index if index >= 0 else None


def on_device(index: int) -> AbstractContextManager[object]:
    """Context in which a device is the current one."""
    import cupy

    context: AbstractContextManager[object] = cupy.cuda.Device(index)
    return context


def wait_for(pointer: int) -> None:
    """Let the current stream wait for what has been enqueued on another one."""
    import cupy

    refuse_capture("weight, bias or out is on another stream")
    cupy.cuda.get_current_stream().wait_event(stream_at(pointer).record(new_event()))


def let_wait(pointer: int) -> None:
    """Let another stream wait for what has been enqueued on the current one."""
    import cupy

    stream_at(pointer).wait_event(cupy.cuda.get_current_stream().record(new_event()))


def hold(objects: object) -> None:
    """Keep objects until what has been enqueued on the current stream has passed."""
    import cupy

    if is_capturing():  # nothing runs now; a graph's inputs are its owner's to keep
        return
    held.sweep()
    event = cupy.cuda.get_current_stream().record(new_event())
    held.add([lambda: event.done], objects)


def share(packed: Any) -> None:
    """Let work on any stream read packed weights from now on; they are complete."""
    packed.share()


def current_stream() -> int:
    """Return the address of the current stream."""
    import cupy

    pointer: int = cupy.cuda.get_current_stream().ptr
    return pointer


def is_capturing() -> bool:
    """Whether the current stream is being captured into a CUDA graph; the default stream never is."""
    import cupy

    stream = cupy.cuda.get_current_stream()
    return stream.ptr not in DEFAULT_STREAM and bool(stream.is_capturing())


def refuse_capture(why: str, cure: str = PREPARE) -> None:
    """Raise `RuntimeError` where the current stream is being captured."""
    if is_capturing():
        raise RuntimeError(f"x is on a stream that is being captured into a CUDA graph: {why}; {cure}")


def _wrap(array: CudaArray) -> CupyArray:
    """View any array on a CUDA device as CuPy's.

    Not by `cupy.asarray`, which would wait for the producer's stream: the work is enqueued on that same stream.
    """
    import cupy

    if isinstance(array, cupy.ndarray):
        return array if array.dtype.kind != "V" else array.view(np.uint16)
    of = array.__cuda_array_interface__
    return _view(array, of["data"][0], tuple(of["shape"]), np.dtype(of["typestr"]), of.get("strides"))


def _view(
    owner: object, pointer: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], strides: tuple[int, ...] | None
) -> CupyArray:
    """View memory as CuPy's array, which keeps `owner`."""
    import cupy

    dtype = _stored(dtype)
    if not all(shape):  # without elements the pointer is null, and says nothing of its device
        return cupy.empty(shape, dtype)
    if strides is None:
        size = dtype.itemsize * math.prod(shape)
    else:
        size = dtype.itemsize + sum((n - 1) * abs(step) for n, step in zip(shape, strides, strict=True))
    memory = cupy.cuda.UnownedMemory(pointer, size, owner)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0), strides)


def _stored(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the dtype as which CuPy holds elements: itself, or 16 bits for bfloat16."""
    return dtype if dtype.kind in "biufc" else np.dtype(np.uint16)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
