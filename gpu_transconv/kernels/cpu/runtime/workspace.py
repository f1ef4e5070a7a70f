"""Scratch memory of the calling thread, and arrays as the kernels take them."""

from __future__ import annotations

import threading

import numpy as np

from ....arrays.views import Array

#: Multiplications and bytes below which waking a second thread takes longer than it saves: about 20 microseconds of
#: work. Chosen, not measured.
SMALL = 1 << 19
#: Shapes of scratch memory remembered by a thread.
_MOST_VIEWS = 256


class _Scratch(threading.local):
    """The scratch memory of one thread, and the views of it by shape and dtype."""

    def __init__(self) -> None:
        self.memory: Array = np.empty(0, np.uint8)
        self.views: dict[tuple[tuple[int, int], np.dtype[np.generic]], Array] = {}


_scratch = _Scratch()


def workspace(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> Array:
    """Scratch memory of the calling thread, kept between calls."""
    kept = _scratch.views
    found = kept.get((shape, dtype))
    if found is None:
        needed = shape[0] * shape[1] * dtype.itemsize
        if len(kept) > _MOST_VIEWS or _scratch.memory.size < needed + 256:
            kept.clear()
            _scratch.memory = np.empty(needed + 256, np.uint8)
        start = 64 + -_scratch.memory.ctypes.data % 64  # vectors before and behind may be read
        found = _scratch.memory[start : start + needed].view(dtype).reshape(shape)
        kept[shape, dtype] = found
    return found


def stored(array: Array) -> Array:
    """Flat view of the stored words."""
    flat = array.reshape(-1)
    flat = flat.view(np.uint16) if flat.itemsize == 2 else flat
    return flat if flat.flags.writeable else np.asarray(_Writeable(flat))


class _Writeable:
    """Gives a view without the read-only flag, which to Numba would be another type and another compilation."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}
