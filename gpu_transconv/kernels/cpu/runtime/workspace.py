"""Scratch memory of the calling thread, and arrays as the kernels take them."""

from __future__ import annotations

import threading
from typing import cast

import numpy as np

from ....arrays.views import Array

#: Multiplications and bytes below which waking a second thread takes longer than it saves: about 20 microseconds of
#: work. Chosen, not measured.
SMALL = 1 << 19
#: Shapes of scratch memory remembered by a thread.
_MOST_VIEWS = 256
_local = threading.local()


def workspace(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> Array:
    """Scratch memory of the calling thread, kept between calls."""
    needed = shape[0] * shape[1] * dtype.itemsize
    kept = cast(dict[object, Array], _local.__dict__)
    found = kept.get((shape, dtype))
    if found is None:
        if len(kept) > _MOST_VIEWS or getattr(_local, "bytes", np.empty(0, np.uint8)).size < needed + 64:
            kept.clear()
            _local.bytes = np.empty(needed + 64, np.uint8)
        start = -_local.bytes.ctypes.data % 64
        found = _local.bytes[start : start + needed].view(dtype).reshape(shape)
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
