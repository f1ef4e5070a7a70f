"""Weights in the orders in which kernels read them, for any stream, and for as long as work reads them."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ...arrays.locks import ProcessLock
from .memory import CupyArray, held, is_capturing, refuse_capture
from .streams import CupyEvent

#: Events, one per stream, that are kept before those that have passed are dropped: more streams than programs use.
_MOST_EVENTS = 16


class PackedWeights:
    """Packed weights: the first order at once, others when an input asks for them.

    Which kernel is best depends on the input's size, and with it the order. Those of one call are read on the
    stream on which they were packed. Those of a prepared layer are shared: an order is complete before the first
    call goes on, so that every stream may read it, and what streams other than the allocating ones read lives
    until they are done.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, CupyArray] = {}
        self._captured: list[CupyArray] = []
        self._origins: set[int] = set()  # streams on which memory was allocated
        self._events: dict[int, CupyEvent] = {}
        self._lock = ProcessLock()
        self.shared = False

    def share(self) -> None:
        """From now on any stream may read what is packed, for which the caller has waited."""
        self.shared = True

    def get(self, layout: Hashable, pack: Callable[[], CupyArray]) -> CupyArray:
        """Return the weights in that order, which `pack` makes on the current stream."""
        found = self._made.get(layout)
        if found is not None:
            return found
        if not self.shared:  # of one call, in one thread
            return self._make(layout, pack)
        with self._lock():
            if layout not in self._made:
                refuse_capture("the weights have not been packed for inputs of this size")
                self._make(layout, pack)
            return self._made[layout]

    def _make(self, layout: Hashable, pack: Callable[[], CupyArray]) -> CupyArray:
        import cupy

        stream = cupy.cuda.get_current_stream()
        made = pack()
        if self.shared:
            stream.synchronize()
        self._origins.add(stream.ptr)
        self._made[layout] = made
        return made

    def used(self) -> None:
        """Take note that work on the current stream reads the weights."""
        import cupy

        stream = cupy.cuda.get_current_stream()
        if not self.shared or self._origins <= {stream.ptr} or is_capturing():
            return
        with self._lock():
            if len(self._events) > _MOST_EVENTS:
                self._events = {key: event for key, event in self._events.items() if not event.done}
            if stream.ptr not in self._events:
                self._events[stream.ptr] = cupy.cuda.Event(disable_timing=True)
            self._events[stream.ptr].record(stream)

    def keep(self, scratch: CupyArray) -> None:
        """Keep memory that a CUDA graph writes to; the graph reads the weights, so its owner keeps them anyway."""
        self._captured.append(scratch)

    def __del__(self) -> None:
        events = getattr(self, "_events", None)
        if events and held is not None:  # which it is when Python ends
            work = [lambda event=event: event.done for event in events.values()]
            held.add(work, (self._made, self._captured))
