"""Arrays on the device: what comes from other libraries without a copy, what comes from NumPy with one."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from ...arrays.held import COPIES, PREPARE, Held
from ...arrays.locks import ProcessLock
from ...arrays.memory import out_of_memory
from ...arrays.views import Array, HostArray

if TYPE_CHECKING:
    from .cuda import Compiled, DeviceArray

#: Address of the CUDA stream that work goes to; 0 is Numba's default one.
_stream: ContextVar[int] = ContextVar("gpu_transconv_numba_stream", default=0)
#: Gives scratch memory by the number of bytes, where the caller's library has an allocator of its own.
_allocator: ContextVar[Callable[[int], Array] | None] = ContextVar("gpu_transconv_numba_allocator", default=None)
#: Workspaces that are kept, those used last: one for each device, stream and dtype, each as large as the largest result
#: that was summed in it. A program has a few streams; one that makes new ones for ever must not fill the device.
_MOST_WORKSPACES = 16
_workspaces: OrderedDict[tuple[int, int, str], DeviceArray] = OrderedDict()
_lock = ProcessLock()
held = Held()


def as_device(array: Array) -> DeviceArray:
    """Return the array on the device, C-contiguous: itself where it is so, otherwise a copy."""
    from .cuda import SIMULATED, cuda, stream_at

    if isinstance(array, np.ndarray):
        native = np.require(array, array.dtype.newbyteorder("="), ("C", "A"))
        with out_of_memory(native.shape, native.dtype):
            return cuda.to_device(native, stream=stream_at(current_stream()))
    view = array if SIMULATED else cuda.as_cuda_array(array, sync=False)
    if view.is_c_contiguous():
        return view
    if _allocator.get() is None:
        refuse_capture(*COPIES)
    copied = scratch(view.shape, view.dtype)
    _copy_elements(view, copied)
    return copied


def empty(shape: tuple[int, ...], dtype_name: DTypeLike) -> DeviceArray:
    """Allocate an array on the device."""
    from .cuda import cuda, stream_at

    refuse_capture("memory cannot be allocated by Numba")
    with out_of_memory(shape, dtype_name):
        return cuda.device_array(tuple(shape), np.dtype(dtype_name), stream=stream_at(current_stream()))


def scratch(shape: tuple[int, ...], dtype_name: DTypeLike) -> DeviceArray:
    """Allocate what one call needs, from the caller's library where it has an allocator.

    A CUDA graph writes to the same addresses on every replay; PyTorch's allocator sets memory aside for it.
    """
    from .cuda import cuda

    allocate, dtype = _allocator.get(), np.dtype(dtype_name)
    if allocate is None:
        return empty(shape, dtype)
    block = allocate(max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize))
    interface = {"shape": tuple(shape), "strides": None, "typestr": dtype.str}
    return cuda.from_cuda_array_interface(block.__cuda_array_interface__ | interface, owner=block, sync=False)


def copy_to(source: DeviceArray, out: Array) -> None:
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


def constant(values: HostArray) -> DeviceArray:
    """Copy to the device what launches on any stream will read from now on; waits for the copy."""
    from .cuda import cuda

    refuse_capture("the geometry of this size has not been copied to the device yet")
    with out_of_memory(values.shape, values.dtype):
        copied = cuda.to_device(values)
    cuda.default_stream().synchronize()
    return copied


@contextlib.contextmanager
def workspace(device: int, size: int, dtype_name: str) -> Iterator[DeviceArray]:
    """Lend scratch memory to what is enqueued inside; the next user on the same stream comes after it."""
    if _allocator.get() is not None:
        yield scratch((size,), dtype_name)
        return
    refuse_capture("its scratch memory would be shared with other calls")
    key = device, _stream.get(), dtype_name
    with _lock():
        lent = _workspaces.pop(key, None)
        if lent is None or lent.size < size:
            lent = empty((size,), dtype_name)
        _workspaces[key] = lent
        while len(_workspaces) > _MOST_WORKSPACES:  # Numba frees memory only when nothing enqueued uses it
            _workspaces.popitem(last=False)
        yield lent


@contextlib.contextmanager
def on_stream(pointer: int | None, allocate: Callable[[int], Array] | None = None) -> Iterator[None]:
    """Enqueue what is launched inside on that CUDA stream; None stands for Numba's default stream.

    `allocate` gives scratch memory by the number of bytes, as an object with ``__cuda_array_interface__``.
    """
    tokens = _stream.set(pointer or 0), _allocator.set(allocate)
    try:
        yield
    finally:
        _stream.reset(tokens[0])
        _allocator.reset(tokens[1])


def current_stream() -> int:
    """Return the address of the innermost `on_stream`, 0 where there is none."""
    return _stream.get()


def device_of(pointer: int) -> int | None:
    """Ask the driver on which device an address is; None where it is on none."""
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, index = driver.cuPointerGetAttribute(attribute, pointer)
    return int(index) if error == driver.CUresult.CUDA_SUCCESS else None


def on_device(index: int) -> contextlib.AbstractContextManager[object]:
    """Context in which a device is the current one."""
    from .cuda import cuda

    context: contextlib.AbstractContextManager[object] = cuda.gpus[index]
    return context


def wait_for(pointer: int) -> None:
    """Let the current stream wait for what has been enqueued on another one."""
    refuse_capture("weight, bias or out is on another stream")
    _order(pointer, current_stream())


def let_wait(pointer: int) -> None:
    """Let another stream wait for what has been enqueued on the current one."""
    _order(current_stream(), pointer)


def _order(first: int, second: int) -> None:
    from .cuda import cuda, stream_at

    event = cuda.event(timing=False)
    event.record(stream_at(first))
    event.wait(stream_at(second))


def hold(objects: object) -> None:
    """Keep objects until what has been enqueued on the current stream has passed."""
    from .cuda import cuda, stream_at

    if is_capturing():  # nothing runs now; a graph's inputs are its owner's to keep
        return
    held.sweep()
    event = cuda.event(timing=False)
    event.record(stream_at(current_stream()))
    held.add([event.query], objects)


def share(packed: DeviceArray) -> None:
    """Let work on any stream read packed weights: Numba frees memory only when the whole device is done with it."""


def is_capturing() -> bool:
    """Whether the current stream is being captured into a CUDA graph; the default stream never is."""
    from .cuda import SIMULATED

    if SIMULATED or current_stream() in (0, 1):
        return False
    from cuda.bindings import driver

    error, state = driver.cuStreamIsCapturing(current_stream())
    return bool(error == driver.CUresult.CUDA_SUCCESS and state != driver.CUstreamCaptureStatus(0))


def refuse_capture(why: str, cure: str = PREPARE) -> None:
    """Raise `RuntimeError` where the current stream is being captured."""
    if is_capturing():
        raise RuntimeError(f"x is on a stream that is being captured into a CUDA graph: {why}; {cure}")


def _copy_elements(source: DeviceArray, target: DeviceArray) -> None:
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
def _copy_kernel(device: int, dtype: str) -> Compiled:  # noqa: ARG001
    from .cuda import compile_kernel
    from .elementwise import make_copy

    refuse_capture("the kernel that copies its elements has not been compiled yet")
    return compile_kernel(make_copy(), (f"{dtype}[5]",) * 2, f"copy_{dtype}")


def _lifted(array: DeviceArray) -> DeviceArray:
    """View a device array with five axes, unit ones in front."""
    from .cuda import SIMULATED, cuda

    missing = 5 - len(array.shape)
    if SIMULATED:
        return array[(None,) * missing]
    shape = (1,) * missing + tuple(array.shape)
    strides = (array.dtype.itemsize,) * missing + tuple(array.strides)
    interface = array.__cuda_array_interface__ | {"shape": shape, "strides": strides}
    return cuda.from_cuda_array_interface(interface, owner=array, sync=False)
