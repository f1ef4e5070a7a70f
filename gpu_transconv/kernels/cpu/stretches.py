"""Stretches of blocks of the innermost axis that the same taps reach, for kernels that copy no zeros around the input.

A kernel lists what it reads: shifts of one phase or of several, in rising order. Of such a list, those inputs that
exist for a block follow each other, and from one stretch of blocks to the next some begin or end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from ...problem.axis import Axis

# Columns of a stretch: its first block and the one after its last, and then of each list the first and how many.
BEGIN, PAST, LISTED = range(3)


def find_stretches(
    axis: Axis, lists: Sequence[tuple[int, Sequence[int]]], blocks: tuple[int, int]
) -> list[tuple[int, ...]]:
    """The stretches from one block to another; of each list its first place in a table and its shifts are given."""
    begin, past = blocks
    bounds = {bound for _, shifts in lists for shift in shifts for bound in _reached(axis, shift)}
    ends = [begin, *sorted(bound for bound in bounds if begin < bound < past), past]
    return [
        (low, high, *(number for each in lists for number in _existing(axis, *each, low)))
        for low, high in pairwise(ends)
        if low < high
    ]


def _reached(axis: Axis, shift: int) -> tuple[int, int]:
    """First block whose input at that shift exists, and the one after the last."""
    return -(shift // axis.step), (axis.size - 1 - shift) // axis.step + 1


def _existing(axis: Axis, first: int, shifts: Sequence[int], block: int) -> tuple[int, int]:
    """The first place of what a block has of a list, and how many."""
    low, high = (bisect_left(shifts, end - block * axis.step) for end in (0, axis.size))
    return first + low, high - low
