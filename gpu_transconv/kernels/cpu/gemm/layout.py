"""How the filters are laid out for the tiles: which rows share which taps, and where each weight goes.

A *row* is one (phase, output channel) of the gather formulation. Phases along the innermost axis that read
the input at the same shifts form a *set*: one matrix product. The sets that fill whole output rows of some
channels form a *chunk*, after which these rows can be interleaved and stored. A *slot* is one of the
distinct shifts of the input that some tap reads. None of this depends on the size of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, groupby, product
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ..arguments import Rows, Table, once_for_each, share
from .winograd import AxisProducts, Term, products_by_phase, winograd_products

#: Rows of a chunk at most, unless one channel alone has more phases: with `blocking` the sums of a chunk, of as many
#: blocks as a run has, stay in the second-level cache. Chosen, not measured.
CHUNK_ROWS = 256
#: Channels of a chunk at least where blocks are computed in pairs and every product of a channel is a row: the rows of
#: one tile. Measured with both axes in pairs, see the log in docs/speed/performance.md.
_LEAST = 14
#: Planes of sums that scatter keeps at most, unless one channel alone has more phases. Chosen, not measured.
PLANES = 128

# Columns of `Layout.chunks`: outer phase, first phase on h and how many, first channel and how many, sets, first row.
PHASE_D, PHASE_H, CHANNEL, CHANNELS, FIRST_SET, END_SET, FIRST_ROW, PHASES_H = range(8)
# Columns of `Layout.sets`: first row in the chunk, rows, first tap, taps, weights before it, first source.
ROW, ROWS, TAP, TAPS, WEIGHT, SOURCE = range(6)
# Columns of `Layout.slots`: shifts, and whether the next input on axis h and on axis w is subtracted.
SHIFT_D, SHIFT_H, SHIFT_W, LESS_H, LESS_W = range(5)
# Columns of `Stamps.sets`: planes before the set's phases, its shifts, taps of its rows before the first, and the place
# in a source block that it reads: of all axes together, on d and on h.
PLANE, STAMP_D, STAMP_H, FIRST_TAP, PLACE, PLACE_D, PLACE_H = range(7)


class Layout(NamedTuple):
    """The tables of one channel group."""

    chunks: Rows  # columns PHASE_D ... PHASES_H
    sets: Rows  # columns ROW ... SOURCE
    slots: Rows  # columns SHIFT_D ... LESS_W
    tap_slots: Table  # by tap of a set: slot
    sources: Rows  # by tap of a set, then phase: index into the flat kernel, and of weights to add or -1
    row_channels: Table  # by row: output channel whose bias it starts with, or -1
    weights: int  # per input channel, padding included
    lane: int  # rows of every set are padded to a multiple of this
    paired_h: int  # blocks computed together: 2 on a paired axis
    paired_w: int
    products_h: Table  # by phase_h: products before its own
    products_w: int  # products of a row of phases_w
    combined_w: Table  # phases_w with three products


share(Layout)


class Facts(NamedTuple):
    """What is asked of a layout for every size."""

    shifts: tuple[list[int], list[int], list[int]]  # by axis, those of the slots, in their order
    reads_blocks: bool  # whether a block reads nothing but the input of its own number
    follows: bool  # whether the taps of every set read slots that follow each other
    most_taps: int  # of a set
    most_rows: int  # of a chunk
    numbers: Table  # by tap, its number in the set


@once_for_each
def facts_of(layout: Layout) -> Facts:
    """Find what of a layout does not depend on sizes."""
    taps, counts = layout.sets[:, TAP], layout.sets[:, TAPS]
    numbers = np.zeros(layout.tap_slots.size - 1, np.int64)
    for tap, count in set(zip(taps.tolist(), counts.tolist(), strict=True)):
        numbers[tap : tap + count] = np.arange(count)
    rises = np.diff(layout.tap_slots[:-1]) == 1
    d, h, w = (list(dict.fromkeys(layout.slots[:, i].tolist())) for i in (SHIFT_D, SHIFT_H, SHIFT_W))
    ends = np.append(layout.chunks[:, FIRST_ROW], layout.row_channels.size)
    return Facts(
        (d, h, w), not layout.slots.any(), bool(rises[numbers[1:] > 0].all()), int(counts.max()),
        int(np.diff(ends).max()), numbers,
    )  # fmt: skip


def make_layout(axes: tuple[Axis, Axis, Axis], cout: int, lane: int, paired: tuple[int, ...] = ()) -> Layout:
    """Lay out the filters of a group with `cout` output channels; of `axes` the input sizes do not matter.

    On the axes `paired`, of 1 and 2, blocks are computed two at once; see `winograd`.
    """
    rising = any(axis.step > 1 for axis in axes)
    every = [winograd_products(axis) if i in paired else products_by_phase(axis, rising) for i, axis in enumerate(axes)]
    phases_d, phases_h, phases_w = (products.phases for products in every)
    # Channels first, the rows of all phases_h of a block follow each other in memory.
    together = len(phases_h) if lane == 1 and len(phases_h) * len(phases_w) <= CHUNK_ROWS else 1
    tables = _Tables(every, [axis.kernel for axis in axes])
    outer = list(product(range(len(phases_d)), range(0, len(phases_h), together)))
    parts = [
        [
            tables.make_set(run, number_w, phases_d[d][0], phase_h, number_h)
            for phase_h in range(h, h + together)
            for number_h in range(len(phases_h[phase_h]))
            for number_w, runs in enumerate(tables.runs)
            for run in runs
        ]
        for d, h in outer
    ]
    most = max(sum(part.phases for part in sets) for sets in parts)
    # Where rows come in vectors, pieces are whole tiles, or whole vectors at least.
    whole = [size for size in (2 * lane, lane) if cout % size == 0 and size * most <= CHUNK_ROWS]
    unit = whole[0] if lane > 1 and whole else 1
    pieces = math.ceil(cout // unit / max(_LEAST if paired else 1, CHUNK_ROWS // most // unit))
    for piece in range(pieces):
        first, end = (number * (cout // unit) // pieces * unit for number in (piece, piece + 1))
        for (d, h), sets in zip(outer, parts, strict=True):
            tables.add_chunk(d, h, together, first, end - first, sets, lane)
    return tables.as_layout(lane)


class Stamps(NamedTuple):
    """What scatter needs besides a layout whose sets are the outer taps, and whose rows are (tap_w, channel).

    With a step on w there is a set for each place of a source block, and the taps_w are in the order of their places.
    """

    sets: Rows  # by set; columns PLANE ... PLACE_H
    phases: Table  # by tap_w: phase
    shifts: Table  # by tap_w: shift, in source blocks


def make_stamps(axes: tuple[Axis, Axis, Axis], cout: int) -> tuple[Layout, Stamps]:
    """Lay out the filters of a group for the scatter formulation."""
    d, h, w = axes
    most = max(1, PLANES // (d.stride * h.stride * w.stride))
    pieces = math.ceil(cout / most)
    chunks: list[tuple[int, ...]] = []
    sets: list[tuple[int, ...]] = []
    stamps, weights = [], 0
    taps = list(product(range(d.kernel), range(h.kernel)))
    taps_w = sorted(range(w.kernel), key=lambda k: w.source_of(k)[1])
    runs = [len(list(run)) for _, run in groupby(taps_w, key=lambda k: w.source_of(k)[1])]
    for piece in range(pieces):
        first, end = piece * cout // pieces, (piece + 1) * cout // pieces
        chunks.append((0, 0, first, end - first, len(sets), len(sets) + len(taps) * len(runs), 0, h.stride))
        for (k_d, k_h), (before, count) in product(taps, zip(accumulate(runs, initial=0), runs, strict=False)):
            rows = (end - first) * count
            sets.append((0, rows, 0, 1, weights, (k_d * h.kernel + k_h) * w.kernel + before))
            plane = (d.phase_of(k_d) * h.stride + h.phase_of(k_h)) * w.stride
            (shift_d, place_d), (shift_h, place_h) = d.source_of(k_d), h.source_of(k_h)
            place = (place_d * h.step + place_h) * w.step + w.source_of(taps_w[before])[1]
            stamps.append((plane, shift_d, shift_h, before, place, place_d, place_h))
            weights += rows
    phases, shifts = zip(*((w.phase_of(k), w.source_of(k)[0]) for k in taps_w), strict=True)

    def table(values: object) -> Table:
        return np.array(values, np.int64)

    flat = [outer * w.kernel + k for outer in range(len(taps)) for k in taps_w]
    sources = table([(k, -1, -1, -1) for k in flat])
    nothing = table([0])
    slots = table([(0,) * 5])
    layout = Layout(
        table(chunks), table(sets), slots, nothing, sources, nothing, weights, 1, 1, 1, nothing, 0, nothing
    )  # fmt: skip
    return layout, Stamps(table(stamps), table(phases), table(shifts))


class _Set(NamedTuple):
    """A set before it is known how many channels it has."""

    phases: int
    tap: int
    taps: int
    source: int
    starts: bool  # with the bias, or with zero


class _Tables:
    """The tables while they grow."""

    def __init__(self, axes: list[AxisProducts], kernel: list[int]) -> None:
        self.axes, self.kernel = axes, kernel
        self.chunks: list[tuple[int, ...]] = []
        self.sets: list[tuple[int, ...]] = []
        self.tap_slots: list[int] = []
        self.sources: list[tuple[int, ...]] = []
        self.row_channels: list[Table] = []
        self.rows = self.weights = 0
        phases = axes[2].phases
        #: By number of a product on w: runs of phases that have it and whose terms read the same places.
        self.runs: list[list[list[int]]] = []
        for number in range(max(len(products) for products in phases)):
            places = {
                r: [term.place for term in phase[number]] for r, phase in enumerate(phases) if len(phase) > number
            }
            self.runs.append([list(run) for _, run in groupby(places, key=places.__getitem__)])

    def make_set(self, run: list[int], number_w: int, terms_d: list[Term], phase_h: int, number_h: int) -> _Set:
        """Add the taps of one run of phases_w: those of its products of that number, with a product on h."""
        _, h, w = self.axes
        inner = [w.phases[r][number_w] for r in run]
        tap, source = len(self.tap_slots), len(self.sources)
        for d_term, h_term in product(terms_d, h.phases[phase_h][number_h]):
            for t, term in enumerate(inner[0]):
                place = (d_term.place * len(h.inputs) + h_term.place) * len(w.inputs) + term.place
                self.tap_slots.append(place)
                self.sources.extend(self._source(d_term.taps, h_term.taps, terms[t].taps) for terms in inner)
        starts = h.starts(phase_h, number_h) and w.starts(run[0], number_w)
        return _Set(len(run), tap, len(self.tap_slots) - tap, source, starts)

    def _source(self, *taps: tuple[int, ...]) -> tuple[int, ...]:
        """Index into the flat kernel, and of up to three weights to add or -1."""
        _, kernel_h, kernel_w = self.kernel
        found = [(d * kernel_h + h) * kernel_w + w for d, h, w in product(*taps)]
        return (*found, *[-1] * (4 - len(found)))

    def add_chunk(self, d: int, h: int, together: int, first: int, count: int, sets: list[_Set], lane: int) -> None:
        self.chunks.append((d, h, first, count, len(self.sets), len(self.sets) + len(sets), self.rows, together))
        base = self.rows
        for part in sets:
            rows = part.phases * count
            padded = -(-rows // lane) * lane
            self.sets.append((self.rows - base, rows, part.tap, part.taps, self.weights, part.source))
            channels = np.full(padded, -1, np.int64)
            if part.starts:
                channels[:rows] = np.tile(np.arange(first, first + count), part.phases)
            self.row_channels.append(channels)
            self.rows += padded
            self.weights += padded * part.taps

    def as_layout(self, lane: int) -> Layout:
        def table(values: Sequence[int] | Sequence[tuple[int, ...]]) -> Table:
            return np.array(values, np.int64)

        _, h, w = self.axes
        slots = [
            (shift_d, shift_h, shift_w, less_h, less_w)
            for (shift_d, _), (shift_h, less_h), (shift_w, less_w) in product(*(axis.inputs for axis in self.axes))
        ]
        products_h = [0, *accumulate(len(products) for products in h.phases)]
        # A kernel whose taps are all cut away still needs tables with an address.
        return Layout(
            table(self.chunks), table(self.sets), table(slots), table([*self.tap_slots, 0]),
            table([*self.sources, (0, -1, -1, -1)]), np.concatenate(self.row_channels), self.weights, lane,
            h.blocks, w.blocks, table(products_h), sum(len(products) for products in w.phases), table(w.combined),
        )  # fmt: skip
