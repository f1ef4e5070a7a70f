"""CUDA streams, events, graphs and memory pools on the host, as strict as the driver and CuPy are.

Work is done when it is enqueued, unless the stream is stalled (`Stream.stalled`): then when somebody waits for it. A
freed block of memory goes to the next allocation on the same stream at once, and whoever reads it afterwards, ordered
by nothing but luck, reads NaN.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from host_runner import device_array

_UNIT = 512


class CudaError(RuntimeError):
    """What CuPy raises where the driver refuses."""


class Driver:
    """All streams of the device and their memory; one for each test."""

    def __init__(self) -> None:
        self.queues: dict[int, Queue] = {0: Queue(0)}
        self.arenas: dict[int, list[np.ndarray]] = {}
        self.allocated = 0

    def queue(self, pointer: int) -> Queue:
        return self.queues.setdefault(0 if pointer == 1 else pointer, Queue(pointer))

    def new_stream(self) -> Queue:
        return self.queue(4096 + 16 * len(self.queues))

    def check_unsafe(self, what: str) -> None:
        """Refuse what is not permitted while some stream is captured in the mode "global", as PyTorch does it."""
        for queue in self.queues.values():
            if queue.capture is not None and queue.capture.mode == "global":
                raise CudaError(f"cudaErrorStreamCaptureUnsupported: {what} while stream {queue.pointer} is captured")

    def pump(self) -> None:
        """Do all that waits for nothing that is stalled."""
        while any(queue.step() for queue in self.queues.values()):
            pass

    def malloc(self, size: int, stream: int) -> np.ndarray:
        """Give a free block of the stream's arena, the last one freed first, or grow."""
        rounded = max(1, -(-size // _UNIT)) * _UNIT
        arena = self.arenas.setdefault(stream, [])
        for i in reversed(range(len(arena))):
            if arena[i].size == rounded:
                return arena.pop(i)
        self.check_unsafe("cudaMalloc")
        self.allocated += rounded
        return device_array(rounded, np.uint8)

    def free(self, block: np.ndarray, stream: int) -> None:
        """Put a block into its arena; who gets it next writes to it, outside of any graph."""
        self.arenas.setdefault(stream, []).append(block)
        self.queue(stream).enqueue(lambda: block.fill(0xFF), captured=False)


class Capture:
    """What is enqueued on a stream between begin and end of a capture."""

    def __init__(self, mode: str) -> None:
        self.mode, self.work = mode, []


class Queue:
    """Work of one stream, in order."""

    def __init__(self, pointer: int) -> None:
        self.pointer, self.work, self.stalled = pointer, deque(), False
        self.capture: Capture | None = None

    def enqueue(self, work: Callable[[], None], captured: bool = True) -> None:
        if captured and self.capture is not None:
            self.capture.work.append(work)
            return
        self.work.append(work)
        while self.step():
            pass

    def wait(self, mark: Mark) -> None:
        self.work.append(mark)
        while self.step():
            pass

    def step(self) -> bool:
        """Do the next piece of work, if it can be done without anybody waiting for it."""
        if self.stalled or not self.work or (isinstance(self.work[0], Mark) and not self.work[0].done):
            return False
        self._next()
        return True

    def drain(self, until: Mark | None = None) -> None:
        """Do all work up to a mark, and what it waits for on other streams."""
        while self.work and not (until and until.done):
            self._next()

    def _next(self) -> None:
        work = self.work.popleft()
        if isinstance(work, Mark):
            work.queue.drain(work)
        else:
            work()


class Mark:
    """A place in a stream's order."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.done = queue, False

    def reach(self) -> None:
        self.done = True


def make_streams(driver: Driver) -> tuple[Any, Any, Any]:
    """Build CuPy's classes Event, Stream and ExternalStream for a device."""
    import warnings

    class Event:
        def __init__(self, disable_timing: bool = False) -> None:  # noqa: ARG002
            self.mark: Mark | None = None
            self.captured: Capture | None = None

        def record(self, stream: Stream | None = None) -> None:
            queue = (stream or Stream.current).queue
            self.captured, self.mark = queue.capture, None
            if queue.capture is None:
                self.mark = Mark(queue)
                queue.enqueue(self.mark.reach)

        @property
        def done(self) -> bool:
            self._check("cudaEventQuery")
            driver.pump()
            return self.mark is None or self.mark.done

        def synchronize(self) -> None:
            self._check("cudaEventSynchronize")
            if self.mark is not None:
                self.mark.queue.drain(self.mark)

        def _check(self, what: str) -> None:
            if self.captured is not None:
                raise CudaError(f"cudaErrorCapturedEvent: {what} of an event of a graph")
            driver.check_unsafe(what)

    class BaseStream:
        def __init__(self, pointer: int) -> None:
            self.ptr, self.queue = pointer, driver.queue(pointer)

        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, self.ptr

        def __enter__(self) -> Any:
            Stream.stack.append(self)
            Stream.current = self
            return self

        def __exit__(self, *error: object) -> None:
            Stream.stack.pop()
            Stream.current = Stream.stack[-1]

        def record(self, event: Event | None = None) -> Event:
            event = event or Event()
            event.record(self)
            return event

        def wait_event(self, event: Event) -> None:
            if event.captured is not self.queue.capture and (event.mark is not None or event.captured is not None):
                raise CudaError("cudaErrorStreamCaptureIsolation: an event from outside of the capture")
            if event.mark is not None:
                self.queue.wait(event.mark)

        def synchronize(self) -> None:
            if self.queue.capture is not None:
                raise CudaError("cudaErrorStreamCaptureUnsupported: cudaStreamSynchronize")
            driver.check_unsafe("cudaStreamSynchronize")
            self.queue.drain()

        def is_capturing(self) -> bool:
            if self.ptr in (0, 1) and any(queue.capture for queue in driver.queues.values()):
                raise CudaError("cudaErrorStreamCaptureImplicit: the legacy stream while another is captured")
            return self.queue.capture is not None

        def begin_capture(self, mode: str = "relaxed") -> None:
            if self.ptr in (0, 1):
                raise RuntimeError("cannot capture on the default (legacy) stream")
            self.queue.capture = Capture(mode)

        def end_capture(self) -> Graph:
            capture, self.queue.capture = self.queue.capture, None
            return Graph(capture.work)

    class Stream(BaseStream):
        def __init__(self, null: bool = False) -> None:
            super().__init__(0 if null else driver.new_stream().pointer)

        @classmethod
        def from_external(cls, obj: Any) -> Stream:
            version, pointer = obj.__cuda_stream__()
            assert version == 0
            assert type(pointer) is int
            made = cls.__new__(cls)
            BaseStream.__init__(made, pointer)
            made.owner = obj
            return made

    class ExternalStream(BaseStream):
        def __init__(self, pointer: int) -> None:
            warnings.warn(
                "ExternalStream is deprecated. Use Stream.from_external() instead", DeprecationWarning, stacklevel=2
            )
            super().__init__(pointer)

    class Graph:
        def __init__(self, work: list[Callable[[], None]]) -> None:
            self.work = work

        def launch(self, stream: Stream | None = None) -> None:
            for work in self.work:
                (stream or Stream.current).queue.enqueue(work)

    Stream.null = Stream(null=True)
    Stream.current = Stream.null
    Stream.stack = [Stream.null]
    return Event, Stream, ExternalStream
