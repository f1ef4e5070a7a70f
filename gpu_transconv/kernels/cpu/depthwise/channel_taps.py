"""The taps of depthwise layers with the channels last as tiles take them: which phases share what, and the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.registers import VECTOR_BYTES
from ..stretches import find_stretches
from ..tiles.channel_tile import PHASES, WORDS

# Columns of `TileTaps.sets`: first phase_w and how many, first stretch of blocks and the one after the last.
PHASE, COUNT, FIRST, END = range(4)


class Set(NamedTuple):
    """One phase of the innermost axis, or two neighbours, and lists of the (shift, taps) that all of them need."""

    phase: int
    phases: int
    lists: list[list[tuple[int, list[int]]]]  # of both, of the first alone, of the second


class TileTaps(NamedTuple):
    """The taps of the innermost axis."""

    sets: Rows  # columns PHASE ... END
    stretches: Rows  # by set, see `stretches`
    inner: Table  # by set its taps: the place in what is read, and in the weights of a row of taps


def is_tiled(plan: Plan) -> bool:
    """Whether vectors of channels are summed in registers."""
    item = DTYPES[plan.accumulate].size
    return plan.dtype == plan.accumulate and plan.out_channels * item >= VECTOR_BYTES


def make_taps(plan: Plan, pixel: int, low: int | None = None) -> TileTaps:
    """Tables of inputs that are `pixel` elements apart; with `low`, the smallest shift, there are zeros around them."""
    if not is_tiled(plan):
        return TileTaps(np.zeros((0, 4), np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    axis, lanes = kernel_axes(plan)[2], VECTOR_BYTES // DTYPES[plan.accumulate].size
    sets, stretches, inner, weight = [], list[tuple[int, ...]](), list[int](), 0
    for each in _sets(axis):
        lists = []
        for some in each.lists:
            lists.append((len(inner) // WORDS, [shift for shift, _ in some]))
            for shift, taps in some:
                inner += (shift - (low or 0)) * pixel, weight * lanes
                weight += len(taps)
        begin = 0
        for phases in range(each.phases, 0, -1):  # of the last block the second phase may be cut off
            past = -(-(axis.output_size - each.phase - phases + 1) // axis.stride)
            found = find_stretches(axis, lists, (begin, past))
            if low is not None:
                every = (number for first, shifts in lists for number in (first, len(shifts)))
                found = [(begin, past, *every)] if begin < past else []
            sets.append((each.phase, phases, len(stretches), len(stretches) + len(found)))
            stretches += found
            begin = max(begin, past)
    return TileTaps(np.array(sets, np.int64), np.array(stretches, np.int64), np.array(inner, np.int64))


def _sets(axis: Axis) -> list[Set]:
    """The sets of the innermost axis."""
    every = [{shift: tap for tap, shift in taps} for taps in axis.taps_by_phase()]
    sets = []
    for phase in range(0, axis.stride, PHASES):
        some = every[phase : phase + PHASES]
        both = sorted(set.intersection(*map(set, some))) if len(some) > 1 else []
        own = [[(shift, [taps[shift]]) for shift in sorted(set(taps) - set(both))] for taps in some]
        lists = [[(shift, [taps[shift] for taps in some]) for shift in both], *own]
        sets.append(Set(phase, len(some), [*lists, []][: PHASES + 1]))
    return sets


def pack_tiles(plan: Plan, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights by vector of channels, outer tap, inner tap in the order of `Set.lists`, and lane; and the bias.

    The last vector may share some channels with the one before. None if some are not finite.
    """
    taps = weight.reshape(plan.groups, -1).T.astype(plan.accumulate)
    lanes, axis = VECTOR_BYTES // values.dtype.itemsize, kernel_axes(plan)[2]
    first = np.minimum(np.arange(0, plan.groups, lanes), plan.groups - lanes)
    order = [tap for each in _sets(axis) for some in each.lists for _, together in some for tap in together]
    rows = taps.reshape(-1, axis.kernel, plan.groups)[:, order][..., first[:, None] + np.arange(lanes)]
    packed = np.ascontiguousarray(rows.transpose(2, 0, 1, 3)).reshape(-1)
    return (packed, values) if np.isfinite(packed).all() else None
