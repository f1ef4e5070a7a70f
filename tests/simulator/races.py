"""Finds data races in simulated kernels: who read and wrote which address, and was there a barrier between?

The simulator runs its threads one at a time, so a race does not show in the result. Here the arrays of a kernel
record every access. Two accesses to one address race if different threads make them, at least one writes, not
both are atomic, and nothing orders them: a barrier orders the threads of one block, nothing orders two blocks.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.cuda import types
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernelapi

_FLOATS = (types.float32, types.float64)


class Access(NamedTuple):
    """One access; `epoch` counts the barriers that the thread had passed."""

    kind: str  # read, write or atomic
    block: tuple[int, ...]
    thread: int
    epoch: int

    def races_with(self, other: Access) -> bool:
        if self.kind == other.kind and self.kind != "write":
            return False
        if self.block != other.block:
            return True
        return self.thread != other.thread and self.epoch == other.epoch


class Recorder:
    """Remembers who touched what in one launch, and the races."""

    def __init__(self) -> None:
        self.races: list[str] = []
        #: What a thread read of an array between two barriers, in order.
        self.reads: dict[tuple[str, tuple[int, ...], int, int], list[int]] = defaultdict(list)
        #: Per address the latest access of each kind by each thread.
        self._seen: dict[tuple[str, Any], dict[tuple[Any, ...], Access]] = defaultdict(dict)
        self._lock = threading.Lock()

    def note(self, name: str, index: Any, kind: str) -> None:
        thread = threading.current_thread()
        access = Access(kind, tuple(thread.blockIdx), thread.thread_id, thread.epoch)
        with self._lock:
            seen = self._seen[name, index]
            self.races += [
                f"{name}[{index}]: {other} and {access}" for other in seen.values() if access.races_with(other)
            ]
            seen[kind, access.block, access.thread] = access
            if kind == "read":
                self.reads[name, access.block, access.epoch, access.thread].append(index)


class Recorded:
    """An array in global or shared memory; the simulator passes it to the kernel as it is."""

    def __init__(self, name: str, values: Any, recorder: Recorder) -> None:
        self.name, self.values, self.recorder = name, values, recorder

    def __getitem__(self, index: Any) -> Any:
        self.recorder.note(self.name, _plain(index), "read")
        return self.values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.recorder.note(self.name, _plain(index), "write")
        self.values[index] = value

    def add(self, index: Any, value: Any) -> None:
        self.recorder.note(self.name, _plain(index), "atomic")
        self.values[index] += value


def _plain(index: Any) -> Any:
    return tuple(map(int, index)) if isinstance(index, tuple) else int(index)


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what kernels do to shared memory, and to the arrays that are wrapped in `Recorded`."""
    recorder = Recorder()

    def shared_array(shared: Any, shape: Any, dtype: Any) -> Recorded:
        # The simulator knows an array by its line in the source; here that line would always be this one.
        thread = threading.current_thread()
        thread.declared = getattr(thread, "declared", 0) + 1
        key = tuple(thread.blockIdx), thread.declared
        with recorder._lock:
            if key not in shared._allocations:  # with values that nobody can take for a result
                poison = np.full(shape, np.nan if dtype in _FLOATS else -(2**30), numpy_support.as_dtype(dtype))
                shared._allocations[key] = Recorded(f"shared array {key[1]} of block {key[0]}", poison, recorder)
            return shared._allocations[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernelapi.FakeCUDAShared, "array", shared_array)
        patch.setattr(kernelapi.FakeCUDAAtomic, "add", lambda _, array, index, value: array.add(index, value))
        yield recorder
