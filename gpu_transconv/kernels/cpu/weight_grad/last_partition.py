"""How the weight gradient of depthwise layers with the channels last is cut: from the plan, never by the threads."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry
from ..partition import even

#: Inputs of a line whose products are added before their sum is.
_SEGMENT = 256
#: Channels of a task at most, if there are enough tasks without, and the elements of its sums at most.
_CHANNELS, _SUMS = 256, 1 << 16
#: Tasks that keep many threads busy; inputs worth a piece of its own; and the bytes of the sums of all pieces.
_TASKS, _PIECE, _PIECES_BYTES = 16, 512, 8 << 20
#: Vector operations for each product: sums and grad_output are read, sums written.
_OPERATIONS = 3.0


class LastBlocks(NamedTuple):
    """Chunks, which are segments of lines, and tasks, which are channels and a piece of the chunks."""

    segment: int
    segments: int  # of a line
    chunks: int
    pieces: int
    channels: int  # of a task
    channel_blocks: int
    pitch: int  # of a row of sums, which is a tap
    line: int  # elements of the sums of a chunk and a line of taps
    inputs: int  # copied inputs of a chunk, where they must be widened
    sums: int  # of a task


class WeightLast(NamedTuple):
    """What the kernels unpack."""

    geometry: Geometry
    cut: LastBlocks
    threads: int
    scratch: int
    sums: int


@lru_cache(maxsize=512)
def cut_last(plan: Plan, by_pixels: bool) -> LastBlocks | None:
    """Cut a problem; None where it is none of depthwise layers with the channels last, or taps are too many."""
    item = DTYPES[plan.accumulate].size
    lane = VECTOR_BYTES // item
    volume = math.prod(plan.kernel)
    if not (plan.channels_last and plan.in_channels == plan.out_channels == plan.groups) or volume * lane > _SUMS:
        return None
    most = min(_CHANNELS if by_pixels else 4 * lane, _SUMS // volume // lane * lane)
    channels = even(-(-plan.groups // lane), most // lane) * lane
    blocks = -(-plan.groups // channels)
    segment = even(plan.axes[2].size, _SEGMENT)
    segments = -(-plan.axes[2].size // segment)
    inputs = plan.batch * math.prod(plan.in_spatial)
    chunks = segments * (inputs // plan.axes[2].size)
    able = max(1, min(_TASKS, chunks, inputs // _PIECE, _PIECES_BYTES // (blocks * channels * volume * item)))
    pieces = able if by_pixels else min(able, -(-_TASKS // blocks))
    return LastBlocks(
        segment, segments, chunks, pieces, channels, blocks, channels, plan.kernel[2] * channels,
        segment * channels if DTYPES[plan.dtype].size != item else 0, volume * channels,
    )  # fmt: skip


def cost_of_last(plan: Plan) -> float:
    """Vector operations for each input of a group."""
    if cut_last(plan, by_pixels=False) is None:
        return math.inf
    lane = VECTOR_BYTES // DTYPES[plan.accumulate].size
    return math.prod(plan.kernel) * _OPERATIONS * -(-plan.groups // lane) / plan.groups
