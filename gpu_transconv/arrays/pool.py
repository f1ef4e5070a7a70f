"""Recycled memory for large results.

The first write to fresh memory costs a page fault per page, for a large result as much time as a whole
bandwidth-bound kernel. So the memory of a result, once the result and every view of it are gone, is taken for
the next one of about its size: that of the newest, of which the caches still hold most. ``GPU_TRANSCONV_POOL_BYTES``
says how much memory is held for that at most.
"""

from __future__ import annotations

import weakref

import numpy as np
from numpy.typing import NDArray

from ..settings import pool_bytes
from .views import DType, HostArray

#: Smaller results come from the allocator, which recycles them itself.
SMALLEST = 1 << 20
#: Results that are watched at most, so that looking through them takes microseconds.
MOST = 256
#: Large results start at a cache line, so that their rows can be written past the caches.
_ALIGNMENT = 64
#: A block just below the 32 MiB above which glibc takes no note of a block's size.
_LEARNED = 31 << 20


class _Watch(weakref.ref[HostArray]):
    """Tells whether a result is alive, and holds its memory for the time after that."""

    __slots__ = ("memory",)

    memory: NDArray[np.uint8]


class Pool:
    """Holds the memory of the last results, at most `limit` bytes of it, and finds the dead ones among them.

    Nothing runs when a result dies: Python discards the exceptions of what runs then, a keyboard interrupt too. The
    oldest results are let go first, dead or alive; those that live then own their memory alone. There is no lock:
    single dictionary operations touch the state, so that threads, forks and interrupts may come at any moment.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._watched: dict[int, _Watch] = {}
        self._keeps_heap = False

    @property
    def kept(self) -> int:
        """Bytes kept for later."""
        return sum(watch.memory.nbytes for watch in list(self._watched.values()) if watch() is None)

    def empty(self, shape: tuple[int, ...], dtype: DType, nbytes: int) -> HostArray:
        """Return an uninitialised array, on recycled memory where some of a fitting size is free."""
        if nbytes < SMALLEST or nbytes > self.limit:
            return np.empty(shape, dtype)
        memory = self._take(nbytes)
        # An array on a memoryview stays the base of every view of it, so it lives as long as any of them.
        owner = np.frombuffer(memory.data, np.uint8)
        watch = _Watch(owner)
        watch.memory = memory
        self._watched[id(watch)] = watch
        return owner[:nbytes].view(dtype).reshape(shape)

    def keep_heap(self) -> None:
        """Let the C library keep twice `_LEARNED` bytes at its heap's end, for layers whose results it allocates.

        glibc hands free memory at the end of its heap back to the system once that is twice the largest block that it
        has handed back by itself. Operators with large buffers of columns, and with whole copies of their weights,
        teach it so; without these the layers behind a transposed convolution would fetch their results from the system
        again and again, a page fault per 4 KiB. One block that nobody touches, taken and freed, teaches the same: once,
        as the next one would come from the heap. Where the environment sets glibc's thresholds, and with other
        allocators, nothing changes.
        """
        if not self._keeps_heap and self.limit >= 2 * _LEARNED:
            self._keeps_heap = True
            np.empty(_LEARNED, np.uint8)

    def _take(self, nbytes: int) -> NDArray[np.uint8]:
        watched = list(self._watched.items())
        for key, watch in reversed(watched):
            fits = nbytes <= watch.memory.nbytes <= 2 * nbytes
            if fits and watch() is None and self._watched.pop(key, None) is not None:
                return watch.memory
        self._make_room(watched, nbytes)
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + nbytes]

    def _make_room(self, watched: list[tuple[int, _Watch]], nbytes: int) -> None:
        """Let go of the oldest, so that `nbytes` more are within the limit."""
        surplus = sum(watch.memory.nbytes for _, watch in watched) + nbytes - self.limit
        for count, (key, watch) in enumerate(watched):
            if surplus <= 0 and len(watched) - count < MOST:
                break
            surplus -= watch.memory.nbytes
            self._watched.pop(key, None)


try:
    outputs = Pool(pool_bytes())
except ValueError:  # which every call raises before it asks for memory
    outputs = Pool(0)
