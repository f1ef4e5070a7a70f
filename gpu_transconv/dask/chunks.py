"""How an array is cut: which outputs each chunk of the input makes, and what it needs of the chunk before.

Input chunk ``[start, stop)`` of a spatial axis makes the outputs from that of its own first input, at tap 0, to that
of the next chunk's. They need inputs before `start`, as many as an output reaches back, and none after: a halo on the
low side alone. Where an output needs nothing of the chunk before, as with a kernel no longer than the stride, there is
none.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias

from ..problem.axis import Axis
from ..problem.flow import Flow
from ..problem.plan import Plan

#: Sizes of the chunks of one axis.
Sizes: TypeAlias = tuple[int, ...]


class SpatialCut(NamedTuple):
    """One spatial axis in pieces: chunks of the input and of the result, the halo, and the problem of each piece."""

    inputs: Sizes
    outputs: Sizes
    halo: int
    axes: tuple[Axis, ...]  # with the halo in front, except for the first


class ChannelCut(NamedTuple):
    """The channels in pieces of whole groups: chunks of the input and of the result."""

    inputs: Sizes
    outputs: Sizes
    groups: Sizes


def cut_axis(axis: Axis, chunks: Sizes) -> SpatialCut:
    """Cut an axis where `chunks` of the input end.

    Neighbours are brought together where one would have no output, or fewer inputs than the next one needs of it.
    """
    halo = -replace(axis, pad_low=0).reach().low
    inputs, outputs = [0], [0]
    for end in accumulate(chunks[:-1]):
        output = axis.output_of(end, 0)
        long = end - inputs[-1] >= max(1, halo) and axis.size - end >= max(1, halo)
        if long and outputs[-1] < output < axis.output_size:
            inputs.append(end)
            outputs.append(output)
    inputs.append(axis.size)
    outputs.append(axis.output_size)
    flow = Flow(axis)
    pieces = [replace(axis, size=inputs[1], output_size=outputs[1])]
    for number in range(1, len(inputs) - 1):
        begin, (end, done, final) = inputs[number] - halo, (inputs[number + 1], *outputs[number : number + 2])
        pieces.append(flow.piece(begin, end, done, final).axis)
    return SpatialCut(_steps(inputs), _steps(outputs), halo if len(pieces) > 1 else 0, tuple(pieces))


def cut_channels(plan: Plan, chunks: Sizes) -> ChannelCut:
    """Cut the channels where `chunks` of the input end, if a group ends there too."""
    size = plan.in_channels // plan.groups
    ends = [0, *(end // size for end in accumulate(chunks) if end and end % size == 0)]
    groups = _steps(sorted({*ends, plan.groups}))
    result = plan.out_channels // plan.groups
    return ChannelCut(tuple(size * n for n in groups), tuple(result * n for n in groups), groups)


def _steps(ends: list[int]) -> Sizes:
    return tuple(high - low for low, high in pairwise(ends))
