"""What moves arrays to a CUDA device and back: the part of a GPU backend that the other rooms know.

The functions are those of a module, ``memory.py`` of each GPU backend. Nothing here imports a backend: their registry
says by `find_with` where the first one that can run is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from .held import Held
from .views import Array

#: CUDA_ERROR_OUT_OF_MEMORY.
_OUT_OF_MEMORY = 2


class Memory(Protocol):
    """The functions of such a module."""

    #: Objects that are kept until enqueued work has passed.
    held: Held

    def as_device(self, array: Array, /) -> Array:
        """Return the array on the device, contiguous and in native byte order: itself where it is so, or a copy."""

    def empty(self, shape: tuple[int, ...], dtype_name: DTypeLike, /) -> Array:
        """Allocate an array on the current device, for a result or for weights."""

    def scratch(self, shape: tuple[int, ...], dtype_name: DTypeLike, /) -> Array:
        """Allocate what one call needs: by the allocator that `on_stream` was given, where it was given one."""

    def copy_to(self, source: Array, out: Array, /) -> None:
        """Copy an array of the device into `out`, a NumPy array (it then waits) or one on a CUDA device."""

    def on_stream(
        self, pointer: int | None, allocate: Callable[[int], Array] | None = None, /
    ) -> AbstractContextManager[None]:
        """Context in which work goes to that CUDA stream, or with None to the library's current one.

        `allocate` is the allocator of the caller's library: bytes to an array with ``__cuda_array_interface__``.
        """

    def current_stream(self) -> int:
        """Return the address of the stream that work goes to."""

    def wait_for(self, pointer: int, /) -> None:
        """Let the current stream wait for what is on another one."""

    def let_wait(self, pointer: int, /) -> None:
        """Let another stream wait for what is on the current one."""

    def hold(self, objects: object, /) -> None:
        """Keep objects until what is on the current stream has passed."""

    def share(self, packed: Array, /) -> None:
        """Let work on any stream read packed weights from now on; they are complete."""

    def refuse_capture(self, why: str, cure: str = ..., /) -> None:
        """Raise `RuntimeError` where the current stream is being captured into a CUDA graph."""

    def device_of(self, pointer: int, /) -> int | None:
        """Ask the driver on which device an address is; None where it is on none."""

    def on_device(self, index: int, /) -> AbstractContextManager[object]:
        """Context in which a device is the current one."""


_finders: list[Callable[[], Memory]] = []


def find_with(finder: Callable[[], Memory]) -> None:
    """Let `cuda_memory` find the memory of the first backend that can run; the registry of backends calls this."""
    _finders[:] = [finder]


def cuda_memory() -> Memory:
    """Memory of the first backend that can allocate on a CUDA device here, or `BackendUnavailableError`."""
    return _finders[0]()


@contextmanager
def out_of_memory(shape: tuple[int, ...], dtype_name: DTypeLike) -> Iterator[None]:
    """Turn Numba's error of a full device into `MemoryError`."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype_name).itemsize
        raise MemoryError(
            f"an array of shape {tuple(shape)} and dtype {np.dtype(dtype_name)} needs {size:,} bytes; "
            f"the CUDA device has no room for it ({error})"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of Numba's says that the device has no room left."""
    code = getattr(error, "code", None)  # of the driver's, a number or a name; the simulator has none
    return type(error).__name__ == "CudaAPIError" and int(code or 0) == _OUT_OF_MEMORY


def wait_for_stream(memory: Memory) -> None:
    """Wait for what is on the current stream: a copy to the host does."""
    memory.copy_to(memory.empty((1,), "float32"), np.empty(1, np.float32))
