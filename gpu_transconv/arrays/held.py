"""What must live on after the last reference to it: memory that enqueued work may still read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .locks import ProcessLock

#: What to do where a stream is being captured into a CUDA graph, usually; and why copies are refused, with the cure.
PREPARE = "make a gpu_transconv.ConvTranspose and call it once with inputs of this size before the capture"
COPIES = (
    "an array would be copied, and the copy's memory given to others",
    "pass contiguous arrays, aligned to 16 bytes",
)
#: One piece of work: whether it has passed.
Done = Callable[[], bool]


class Held:
    """Keeps objects until the work that uses them has passed, which is looked after at the next call.

    An allocator gives a block of memory to the next one as soon as its owner is gone, in the order of the owner's
    stream. It does not know of work on another stream that still reads the block.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[Done, ...], object]] = []
        self._lock = ProcessLock()  # a destructor may come at any moment, here too

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, work: Iterable[Done], objects: object) -> None:
        """Keep `objects` until all of `work` has passed; asks nobody now, so that destructors can call it."""
        with self._lock():
            self._kept.append((tuple(work), objects))

    def forget(self) -> None:
        """Let go of everything; for tests, whose device has gone."""
        self._kept = []

    def sweep(self) -> None:
        """Let go of what no work uses any more."""
        if not self._kept:
            return
        with self._lock():
            kept, self._kept = self._kept, []
            for entry in kept:
                if not all(done() for done in entry[0]):
                    self._kept.append(entry)
