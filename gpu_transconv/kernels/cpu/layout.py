"""How the filters are laid out for the tiles: which rows share which taps, and where each weight goes.

A *row* is one (phase, output channel) of the gather formulation. Phases along the innermost axis that read
the input at the same shifts form a *set*: one matrix product. The sets that fill whole output rows of some
channels form a *chunk*, after which these rows can be interleaved and stored. A *slot* is one of the
distinct shifts of the input that some tap reads. None of this depends on the size of the input.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby, product
from typing import NamedTuple

import numpy as np

from ...plan import Axis
from .geometry import Geometry
from .tables import Rows, Table, words

#: Rows of a chunk at most, unless one channel alone has more phases.
_CHUNK_ROWS = 256
#: Planes of sums that scatter keeps at most, unless one channel alone has more phases.
_PLANES = 128


class Layout(NamedTuple):
    """The tables of one channel group."""

    chunks: Rows  # phase_d, first phase_h, first channel, channels, first set, end of sets, first row, phases_h
    sets: Rows  # first row in chunk, rows, first tap, taps, weights before, first source
    slots: Rows  # shift_d, shift_h, shift_w
    tap_slots: Table  # by tap of a set: slot
    sources: Table  # by tap of a set, then phase: index into the flat kernel
    row_channels: Table  # by row: output channel
    weights: int  # per input channel, padding included
    lane: int  # rows of every set are padded to a multiple of this


@lru_cache(maxsize=256)
def make_layout(axes: tuple[Axis, Axis, Axis], cout: int, lane: int) -> Layout:
    """Lay out the filters of a group with `cout` output channels; of `axes` the input sizes do not matter."""
    shifts = [sorted({axis.shift_of(k) for k in range(axis.kernel)}) for axis in axes]
    phases_d, phases_h, phases_w = (_taps_by_phase(axis, s) for axis, s in zip(axes, shifts, strict=True))
    runs = [list(run) for _, run in groupby(range(len(phases_w)), key=lambda r: [slot for _, slot in phases_w[r]])]
    tables = _Tables()
    # Channels first, the rows of all phases_h of a block follow each other in memory.
    together = len(phases_h) if lane == 1 and len(phases_h) * len(phases_w) <= _CHUNK_ROWS else 1
    for d, h in product(range(len(phases_d)), range(0, len(phases_h), together)):
        sets = []
        for phase_h in phases_h[h : h + together]:
            outer = [
                ((k_d * axes[1].kernel + k_h) * axes[2].kernel, (s_d * len(shifts[1]) + s_h) * len(shifts[2]))
                for (k_d, s_d), (k_h, s_h) in product(phases_d[d], phase_h)
            ]
            sets += [(run, tables.add_taps(outer, [phases_w[r] for r in run])) for run in runs]
        most = max(1, _CHUNK_ROWS // (together * len(phases_w)))
        pieces = math.ceil(cout / most)
        for piece in range(pieces):
            first, end = piece * cout // pieces, (piece + 1) * cout // pieces
            tables.add_chunk(d, h, together, first, end - first, sets, lane)
    return tables.as_layout(list(product(*shifts)), lane)


#: Where the parts of a kernel's table begin: the geometry at 0, then the layout, then how the problem is cut.
LAYOUT = words(Geometry)
CUT = LAYOUT + words(Layout)


class Stamps(NamedTuple):
    """What scatter needs besides a layout, its sets are the outer taps, its rows (tap_w, channel)."""

    sets: Rows  # by set: planes before its phases, shift_d, shift_h
    phases: Table  # by tap_w: phase
    shifts: Table  # by tap_w: shift


@lru_cache(maxsize=256)
def make_stamps(axes: tuple[Axis, Axis, Axis], cout: int) -> tuple[Layout, Stamps]:
    """Lay out the filters of a group for the scatter formulation."""
    d, h, w = axes
    most = max(1, _PLANES // (d.stride * h.stride * w.stride))
    pieces = math.ceil(cout / most)
    chunks: list[tuple[int, ...]] = []
    sets: list[tuple[int, ...]] = []
    stamps, weights = [], 0
    taps = list(product(range(d.kernel), range(h.kernel)))
    for piece in range(pieces):
        first, end = piece * cout // pieces, (piece + 1) * cout // pieces
        chunks.append((0, 0, first, end - first, len(sets), len(sets) + len(taps), 0, h.stride))
        for k_d, k_h in taps:
            rows = (end - first) * w.kernel
            sets.append((0, rows, 0, 1, weights, (k_d * h.kernel + k_h) * w.kernel))
            stamps.append(((d.phase_of(k_d) * h.stride + h.phase_of(k_h)) * w.stride, d.shift_of(k_d), h.shift_of(k_h)))
            weights += rows
    phases, shifts = zip(*((w.phase_of(k), w.shift_of(k)) for k in range(w.kernel)), strict=True)

    def table(values: object) -> Table:
        return np.array(values, np.int64)

    sources = np.arange(d.kernel * h.kernel * w.kernel, dtype=np.int64)
    nothing = table([0])
    layout = Layout(table(chunks), table(sets), table([(0, 0, 0)]), nothing, sources, nothing, weights, 1)
    return layout, Stamps(table(stamps), table(phases), table(shifts))


class _Tables:
    """The tables while they grow."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, ...]] = []
        self.sets: list[tuple[int, ...]] = []
        self.tap_slots: list[int] = []
        self.sources: list[int] = []
        self.row_channels: list[Table] = []
        self.rows = self.weights = 0

    def add_taps(self, outer: list[tuple[int, int]], phases: list[list[tuple[int, int]]]) -> tuple[int, int, int]:
        """Add the taps of one run of phases; return (first tap, taps, first source)."""
        first = len(self.tap_slots), len(self.sources)
        for base, slot in outer:
            for t, (_, inner) in enumerate(phases[0]):
                self.tap_slots.append(slot + inner)
                self.sources.extend(base + taps[t][0] for taps in phases)
        return first[0], len(self.tap_slots) - first[0], first[1]

    def add_chunk(
        self,
        d: int,
        h: int,
        together: int,
        first: int,
        count: int,
        runs: list[tuple[list[int], tuple[int, int, int]]],
        lane: int,
    ) -> None:
        self.chunks.append((d, h, first, count, len(self.sets), len(self.sets) + len(runs), self.rows, together))
        base = self.rows
        for run, (tap, taps, source) in runs:
            rows = len(run) * count
            padded = -(-rows // lane) * lane
            self.sets.append((self.rows - base, rows, tap, taps, self.weights, source))
            channels = np.zeros(padded, np.int64)
            channels[:rows] = np.tile(np.arange(first, first + count), len(run))
            self.row_channels.append(channels)
            self.rows += padded
            self.weights += padded * taps

    def as_layout(self, slots: list[tuple[int, ...]], lane: int) -> Layout:
        def table(values: list[int] | list[tuple[int, ...]]) -> Table:
            return np.array(values, np.int64)

        # A kernel whose taps are all cut away still needs tables with an address.
        tap_slots, sources = table([*self.tap_slots, 0]), table([*self.sources, 0])
        rows = np.concatenate(self.row_channels)
        return Layout(table(self.chunks), table(self.sets), table(slots), tap_slots, sources, rows, self.weights, lane)


def _taps_by_phase(axis: Axis, shifts: list[int]) -> list[list[tuple[int, int]]]:
    """Per phase, its taps and the position of each tap's shift in `shifts`."""
    position = {shift: i for i, shift in enumerate(shifts)}
    found: list[list[tuple[int, int]]] = [[] for _ in range(axis.stride)]
    for k in range(axis.kernel):
        found[axis.phase_of(k)].append((k, position[axis.shift_of(k)]))
    return found
