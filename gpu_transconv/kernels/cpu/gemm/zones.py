"""Zones: blocks of the output whose taps read inside the input, or beyond its border, alike.

A tap of a block near the border may read beyond it, where there are zeros. Products with them change no sum, so blocks
are numbered zone by zone, and those of a zone are multiplied by the taps that some block of it needs. A zone is a box
of the blocks of every image: on each axis those from one of its `bounds` to the next. Threads do not change zones.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise, product
from typing import NamedTuple, TypeAlias

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.registers import VECTOR_BYTES
from ..partition import Block
from ..runtime.compiled import inner
from .layout import Layout, facts_of

#: Of a shift, the first block whose input lies inside and the one after the last, and the taps that have it.
_Reached: TypeAlias = tuple[int, int, int]
#: By axis, where a zone begins and the one before it ends, from 0 to the number of blocks.
Bounds: TypeAlias = tuple[tuple[int, ...], ...]

#: Share of an axis' products that must be with zeros for it to have zones, and that zones must save. Chosen.
_WASTE, _SAVED = 0.01, 0.01
#: Bounds of an axis at most. Chosen.
MOST_BOUNDS = 8
#: Cycles that a row of blocks takes, besides what its length takes: for an input channel and slot that are copied, and
#: for an output channel and outer phase that are stored. Chosen, not measured.
_COPY, _STORE = 4.0, 16.0
#: The same with channels last, for a slot or an outer phase. Chosen, not measured.
_PIXELS = 40.0

_ZERO = np.zeros(1, np.int64)

# Columns of `Zones.boxes`: first number of a block, first block on each axis and how many.
START, FIRST_D, DEPTH, FIRST_H, HEIGHT, FIRST_W, WIDTH = range(7)


class Zones(NamedTuple):
    """How blocks are numbered, and which taps they need; with one zone there are no lists, since all do."""

    boxes: Rows  # by zone, and one more for the end; columns START ... WIDTH
    starts: Rows  # by zone, then tap of a set: its first place in the lists, or that of the next tap that is needed
    taps: Table  # number of a tap in its set
    slots: Table  # what it reads
    reads: Rows  # by zone, then slot: whether some tap reads it

    @property
    def blocks(self) -> int:
        """How many numbers there are, those of no block included that fill up vectors."""
        return int(self.boxes[-1, START])

    @property
    def weights(self) -> Table:
        """By zone, products of a block, in the unit of the first's."""
        if len(self.boxes) == 2:
            return np.ones(1, np.int64)
        return self.starts[:, -1] - self.starts[:, 0]


class Stretch(NamedTuple):
    """Blocks of a row that follow each other, from the first on; none where numbers have no block."""

    block: Block
    zone: int
    length: int  # numbers
    exists: bool


@inner
def zone_of(zones, number, zone):
    """Zone of a block, searched from `zone` on."""
    while number >= zones.boxes[zone + 1, START]:
        zone += 1
    return zone


@inner
def stretch_of(zones, g, number, most):
    """At most `most` blocks from that number on which lie in one row."""
    zone = zone_of(zones, number, 0)
    box = zones.boxes[zone]
    w, rest = (number - box[START]) % box[WIDTH], (number - box[START]) // box[WIDTH]
    h, rest = rest % box[HEIGHT], rest // box[HEIGHT]
    d, n = rest % box[DEPTH], rest // box[DEPTH]
    exists = n < g.batch
    length = box[WIDTH] - w if exists else zones.boxes[zone + 1, START] - number
    block = Block(n, box[FIRST_D] + d, box[FIRST_H] + h, box[FIRST_W] + w)
    return Stretch(block, zone, min(length, most), exists)


@inner
def next_stretch(zones, g, row, number, most):
    """The same after a stretch that ends with its row or zone, without divisions where it can be."""
    box = zones.boxes[row.zone]
    n, d, h = row.block.n, row.block.d, row.block.h + 1
    if h == box[FIRST_H] + box[HEIGHT]:
        h, d = box[FIRST_H], d + 1
        if d == box[FIRST_D] + box[DEPTH]:
            d, n = box[FIRST_D], n + 1
    if n >= g.batch:
        return stretch_of(zones, g, number, most)
    return Stretch(Block(n, d, h, box[FIRST_W]), row.zone, min(box[WIDTH], most), True)


def make_zones(plan: Plan, layout: Layout, bounds: Bounds) -> Zones:
    """Tables of the zones between `bounds`, for `layout`."""
    lane = _lane(plan)
    boxes, start = [], 0
    for corner in product(*(pairwise(each) for each in bounds)):
        boxes.append([start, *(number for first, end in corner for number in (first, end - first))])
        start += -(-images(plan) * math.prod(end - first for first, end in corner) // lane) * lane
    if len(boxes) == 1:
        start = images(plan) * math.prod(boxes[0][DEPTH::2])
        nothing = np.zeros((1, 1), np.int64)
        return Zones(np.array([*boxes, [start] + 6 * [0]]), nothing, nothing[0], nothing[0], nothing)
    facts = facts_of(layout)
    d, h, w = (_reads(*each) for each in zip(kernel_axes(plan), bounds, facts.shifts, strict=True))
    outer = d[:, None, None, :, None, None] & h[:, None, None, :, None]
    reads = (outer & w[:, None, None, :]).reshape(len(boxes), -1)
    table = np.array([*boxes, [start] + 6 * [0]])
    return Zones(table, *_lists(layout, facts.numbers, reads[:, layout.tap_slots[:-1]]), reads.astype(np.int64))


def _reads(axis: Axis, bounds: tuple[int, ...], shifts: list[int]) -> np.ndarray:
    """By zone of an axis, then shift, whether some block reads an input there."""
    reached = [_reached_at(axis, shift) for shift in shifts]
    return np.array([[low < end and high > first for low, high in reached] for first, end in pairwise(bounds)])


def _lists(layout: Layout, numbers: Table, needed: np.ndarray) -> tuple[Rows, Table, Table]:
    """By zone, the taps of sets that are needed, behind each other."""
    zones, count = needed.shape
    before = np.concatenate([_ZERO, needed.cumsum()])
    starts = before[np.arange(zones)[:, None] * count + np.arange(count + 1)]
    where = needed.nonzero()[1]
    return starts, numbers[where], layout.tap_slots[where]


class Choice(NamedTuple):
    """Zones of a plan, and what they leave of its cost, products and rows."""

    bounds: Bounds
    share: float


@lru_cache(maxsize=1024)
def choose_zones(plan: Plan) -> Choice:
    """Decide where zones begin and end: such that the products saved outweigh the rows that are cut."""
    axes = kernel_axes(plan)
    whole: Bounds = tuple((0, axis.blocks) for axis in axes)
    if plan.fixed_order:
        return Choice(whole, 1.0)
    reached = [reached_of(axis) for axis in axes]
    wasteful = [i for i, axis in enumerate(axes) if _wastes(axis, reached[i])]
    if not wasteful:
        return Choice(whole, 1.0)
    bounds, parts = whole, [taps_of(*each) for each in zip(axes, whole, reached, strict=True)]
    slots = math.prod(map(len, reached))
    limit = least = _cost(plan, axes, slots, parts)
    for i in wasteful:
        found = _all_bounds(axes[i], reached[i])
        others = [*parts[:i], taps_of(axes[i], found, reached[i]), *parts[i + 1 :]]
        cost = _cost(plan, axes, slots, others)
        if cost < least - _SAVED * limit:
            bounds, parts, least = (*bounds[:i], found, *bounds[i + 1 :]), others, cost
    return Choice(bounds, least / limit)


def _wastes(axis: Axis, reached: list[_Reached]) -> bool:
    """Whether many products of an axis may be with zeros: most are at the smallest and largest shift."""
    least = min(end - first for first, end, _ in (reached[0], reached[-1]))
    return least < (1 - _WASTE) * axis.blocks


@lru_cache(maxsize=1024)
def reached_of(axis: Axis) -> list[_Reached]:
    """By shift, blocks whose input there lies inside, and how many taps have it."""
    shifts = _count_shifts(axis.kernel, axis.stride, axis.dilation, axis.pad_low)
    return [(*_reached_at(axis, shift), taps) for shift, taps in shifts]


def _reached_at(axis: Axis, shift: int) -> tuple[int, int]:
    """Blocks whose input at a shift lies inside: the first, and the one after the last."""
    blocks = axis.blocks
    low = min(max(0, -(shift // axis.step)), blocks)
    return low, max(low, min(-((shift - axis.size) // axis.step), blocks))


def _all_bounds(axis: Axis, reached: list[_Reached]) -> tuple[int, ...]:
    """Bounds of zones whose blocks need the same taps, or of fewer where these would be many."""
    ends = {end for ends in reached for end in ends[:2]} - {0, axis.blocks}
    return (0, *sorted(ends)[:: max(1, -(-len(ends) // MOST_BOUNDS))], axis.blocks)


@lru_cache(maxsize=256)
def _count_shifts(kernel: int, stride: int, dilation: int, pad_low: int) -> tuple[tuple[int, int], ...]:
    """The distinct shifts, and how many taps have each."""
    shifts, counts = np.unique((np.arange(kernel) * dilation - pad_low) // stride, return_counts=True)
    return tuple(zip((-shifts).tolist(), counts.tolist(), strict=True))


def _cost(plan: Plan, axes: tuple[Axis, Axis, Axis], slots: int, parts: list[list[tuple[int, int]]]) -> float:
    """Cycles of the products for an input channel, and of what rows take besides their length."""
    lane, vector = _lane(plan), VECTOR_BYTES // DTYPES[plan.accumulate].size
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    stores = axes[0].stride * axes[1].stride
    if sum(map(len, parts)) == 3 and stores * axes[2].stride == 1:
        stores = 0  # runs of pixels are stored at once
    row = _PIXELS * (slots + stores) / cin if plan.channels_last else _COPY * slots + _STORE * stores * cout / cin
    total = 0.0
    for (d, taps_d), (h, taps_h), (w, taps_w) in product(*parts):
        rows = images(plan) * d * h
        total += -(-rows * w // lane) * lane / vector * cout * taps_d * taps_h * taps_w + rows * row
    return total


def taps_of(axis: Axis, bounds: tuple[int, ...], reached: list[_Reached]) -> list[tuple[int, int]]:
    """By zone of an axis, its blocks and how many taps they need."""
    if len(bounds) == 2:
        return [(axis.blocks, axis.kernel)]
    return [
        (end - first, sum(taps for low, high, taps in reached if low < end and high > first))
        for first, end in pairwise(bounds)
    ]


def images(plan: Plan) -> int:
    return max(plan.batch, 1)  # weights may be packed for an empty batch


def _lane(plan: Plan) -> int:
    """Blocks that a zone is filled up to a multiple of."""
    return 1 if plan.channels_last else VECTOR_BYTES // DTYPES[plan.accumulate].size
