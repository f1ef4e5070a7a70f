"""Recycled memory for large results.

The first write to fresh memory costs a page fault per page, for a large result as much time as a whole
bandwidth-bound kernel. So the memory of a result, once the result and every view of it are gone, is kept for
the next one of about its size. What is kept is bounded; ``GPU_TRANSCONV_POOL_BYTES=0`` keeps nothing.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Smaller results come from the allocator, which recycles them itself.
SMALLEST = 1 << 20
_DEFAULT_LIMIT = 1 << 30
#: Large results start at a cache line, so that their rows can be written past the caches.
_ALIGNMENT = 64


class Pool:
    """Keeps the memory of dead results, at most `limit` bytes, and drops the oldest first.

    Only single dictionary operations touch the state, so that a result may die in any thread at any moment.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: dict[int, NDArray[np.uint8]] = {}
        self._alive: dict[int, Any] = {}

    @property
    def kept(self) -> int:
        """Bytes kept for later."""
        return sum(memory.nbytes for memory in list(self._free.values()))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> NDArray[Any]:
        """Return an uninitialised array, on recycled memory where some of a fitting size is free."""
        if nbytes < SMALLEST or nbytes > self.limit:
            return np.empty(shape, dtype)
        memory = self._take(nbytes)
        # An array on a memoryview stays the base of every view of it, so it lives as long as any of them.
        owner = np.frombuffer(memory.data, np.uint8)
        key = id(owner)
        self._alive[key] = weakref.ref(owner, lambda _: self._give_back(key, memory))
        return owner[:nbytes].view(dtype).reshape(shape)

    def _take(self, nbytes: int) -> NDArray[np.uint8]:
        for key, memory in list(self._free.items()):
            if nbytes <= memory.nbytes <= 2 * nbytes and self._free.pop(key, None) is not None:
                return memory
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + nbytes]

    def _give_back(self, key: int, memory: NDArray[np.uint8]) -> None:
        self._alive.pop(key, None)
        self._free[id(memory)] = memory
        for oldest in list(self._free):
            if self.kept <= self.limit:
                break
            self._free.pop(oldest, None)


def _limit() -> int:
    word = os.environ.get("GPU_TRANSCONV_POOL_BYTES", "")
    return int(word) if word.isdigit() else _DEFAULT_LIMIT


outputs = Pool(_limit())
