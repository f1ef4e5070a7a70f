"""How a problem is cut into tasks: one `Partition` for all kernels, and the two functions that decode its numbers.

Kernels that need more to be known about their pieces keep that beside it, in a named tuple of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ...arrays.views import Array
from ...problem.axis import Axis
from .emit.registers import CACHE_LINE
from .runtime.compiled import inner


class Partition(NamedTuple):
    """Blocks of the output, cut into boxes, and what a box reads of the input.

    A *block* is the outputs of one input position, one for each phase; kernels whose columns are others (pairs of
    blocks, or single outputs) count those. A box has `box` blocks on each axis, the last one of an axis perhaps fewer.
    It reads the inputs from its first block plus `low` to its last plus `low` plus `span`.
    """

    blocks_d: int
    blocks_h: int
    blocks_w: int
    box_d: int
    box_h: int
    box_w: int
    boxes_d: int
    boxes_h: int
    boxes_w: int
    low_d: int  # smallest shift
    low_h: int
    low_w: int
    span_d: int  # largest shift minus smallest
    span_h: int
    span_w: int
    threads: int
    work: int  # elements of scratch memory for each thread


class PerAxis(NamedTuple):
    """A number for each axis."""

    d: int
    h: int
    w: int


class HasPartition(Protocol):
    """What a kernel unpacks, as far as the launcher looks at it."""

    @property
    def part(self) -> Partition:
        """How the problem is cut."""

    def __iter__(self) -> Iterator[object]:
        """Its fields."""


class Box(NamedTuple):
    """One box: its first block, and how many it has on each axis."""

    d: int
    h: int
    w: int
    depth: int
    height: int
    width: int


class Block(NamedTuple):
    """One block of one image."""

    n: int
    d: int
    h: int
    w: int


class Memory(NamedTuple):
    """The arrays of a call, flat."""

    x: Array
    weight: Array
    bias: Array
    out: Array


class Slab(NamedTuple):
    """Some input channels of a group, over which a sum goes at a time."""

    group: int
    k0: int  # first input channel, within the group
    depth: int  # input channels


def make_partition(
    blocks: Sequence[int], box: Sequence[int], reach: Sequence[tuple[int, int]], threads: int, work: int
) -> Partition:
    """Cut `blocks` into boxes of `box`; `reach` is per axis the smallest shift and the span, as `Axis.reach` has it."""
    boxes = [-(-count // size) for count, size in zip(blocks, box, strict=True)]
    per_axis = [*blocks, *box, *boxes, *(low for low, _ in reach), *(span for _, span in reach)]
    return Partition._make([*per_axis, threads, work])


def reach_of(axes: Sequence[Axis]) -> list[tuple[int, int]]:
    """Per axis the smallest shift, and how far the largest is from it."""
    return [axis.reach() for axis in axes]


def count_boxes(blocks: Sequence[int], box: Sequence[int]) -> int:
    """Boxes of that size of all axes together."""
    return math.prod(math.ceil(count / size) for count, size in zip(blocks, box, strict=True))


def even(size: int, most: int) -> int:
    """Largest part when `size` is cut into equal parts of at most `most`."""
    return math.ceil(size / math.ceil(size / max(most, 1)))


def apart(elements: int, item: int) -> int:
    """Distance of rows of so many elements: an odd number of cache lines, lest neighbours share their places there."""
    return (-(-elements * item // CACHE_LINE) | 1) * (CACHE_LINE // item)


@inner
def box_count(part):
    """Number of boxes of an image."""
    return part.boxes_d * part.boxes_h * part.boxes_w


@inner
def box_of(part, number):
    """Box of that number, counted with the width innermost."""
    w, rest = number % part.boxes_w * part.box_w, number // part.boxes_w
    h, d = rest % part.boxes_h * part.box_h, rest // part.boxes_h * part.box_d
    depth, height = min(part.box_d, part.blocks_d - d), min(part.box_h, part.blocks_h - h)
    return Box(d, h, w, depth, height, min(part.box_w, part.blocks_w - w))


@inner
def block_of(part, number):
    """Block of that number, counted over all images with the width innermost."""
    w, rest = number % part.blocks_w, number // part.blocks_w
    h, rest = rest % part.blocks_h, rest // part.blocks_h
    return Block(rest // part.blocks_d, rest % part.blocks_d, h, w)
