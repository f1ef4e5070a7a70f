"""CUDA streams through CuPy, by their addresses."""

from __future__ import annotations

from typing import Any, TypeAlias

#: CuPy's stream and event, which have no types.
CupyStream: TypeAlias = Any
CupyEvent: TypeAlias = Any
#: The default stream by CUDA's two names for it, 0 and cudaStreamLegacy.
DEFAULT_STREAM = (0, 1)


def is_same_stream(one: int, other: int) -> bool:
    """Whether two addresses are of one stream."""
    return one == other or (one in DEFAULT_STREAM and other in DEFAULT_STREAM)


def stream_at(pointer: int) -> CupyStream:
    """Return CuPy's stream at an address."""
    import cupy

    if pointer in DEFAULT_STREAM:
        return cupy.cuda.Stream.null
    made = getattr(cupy.cuda.Stream, "from_external", None)  # new in CuPy 14, where ExternalStream warns
    return made(_External(pointer)) if made else cupy.cuda.ExternalStream(pointer)


class _External:
    """A stream by its address, in CUDA's protocol for streams."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer


def new_event() -> CupyEvent:
    """Make an event to wait for."""
    import cupy

    return cupy.cuda.Event(disable_timing=True)
