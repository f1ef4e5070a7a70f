"""Which inputs and outputs each tap brings together, as lists, and which tap is the first to reach an output."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Table

_ZERO = np.zeros(1, np.int64)


class Meetings(NamedTuple):
    """Inputs and outputs of all images that taps bring together, tap after tap in the order of the flat kernel."""

    inputs: Table
    outputs: Table
    before: Table  # by tap, how many there are of the taps before


@lru_cache(maxsize=1024)
def counts_of(axis: Axis) -> list[int]:
    """By tap of an axis, the inputs that it brings to an output."""
    return [len(axis.inputs_of(tap)) for tap in range(axis.kernel)]


@lru_cache(maxsize=1024)
def count_meetings(plan: Plan) -> int:
    """Pairs of an input and an output of all images that some tap brings together: the length of the lists."""
    d, h, w = kernel_axes(plan)
    return plan.batch * sum(counts_of(d)) * sum(counts_of(h)) * sum(counts_of(w))


def make_meetings(axes: tuple[Axis, Axis, Axis], batch: int) -> Meetings:
    """What the taps bring together: of each axis first, and then all combinations."""
    inside, place = np.ones((1, 1), bool), np.zeros((1, 1), np.int64)  # by tap, then input, of the axes so far
    for axis in axes:
        if axis.size == axis.kernel == axis.output_size == 1 and axis.pad_low == 0:
            continue
        outputs = axis.output_of(np.arange(axis.size, dtype=np.int64), np.arange(axis.kernel, dtype=np.int64)[:, None])
        reached = (outputs >= 0) & (outputs < axis.output_size)
        shape = inside.shape[0] * axis.kernel, inside.shape[1] * axis.size
        inside = (inside[:, None, :, None] & reached[:, None, :]).reshape(shape)
        place = (place[:, None, :, None] * axis.output_size + outputs[:, None, :]).reshape(shape)
    if batch > 1:
        images = np.arange(batch, dtype=np.int64)[:, None] * math.prod(axis.output_size for axis in axes)
        inside = np.tile(inside, batch)
        place = (images + place[:, None, :]).reshape(inside.shape)
    counts = np.count_nonzero(inside, axis=1)
    return Meetings(np.nonzero(inside)[1], place[inside], np.concatenate([_ZERO, np.cumsum(counts)]))


def first_taps(axes: tuple[Axis, Axis, Axis], batch: int) -> tuple[Table, Table]:
    """By tap, whether no tap before reaches any of its outputs; and the outputs of all images that no such tap reaches.

    Two taps have an output in common where they do on every axis, so a tap is such where it is on every axis.
    """
    fresh, reached = np.ones(1, bool), np.ones(1, bool)
    for axis in axes:
        first, reaches = _firsts_of(axis)
        fresh, reached = (np.outer(*each).reshape(-1) for each in ((fresh, first), (reached, reaches)))
    return fresh.astype(np.int64), np.flatnonzero(np.tile(~reached, batch))


@lru_cache(maxsize=1024)
def _firsts_of(axis: Axis) -> tuple[Table, Table]:
    """The same by tap of an axis; and by output, whether such a tap reaches it."""
    fresh, reached, any_reached = np.ones(axis.kernel, bool), *np.zeros((2, axis.output_size), bool)
    for tap in range(axis.kernel):
        inputs = axis.inputs_of(tap)
        outputs = slice(axis.output_of(inputs.start, tap), axis.output_of(inputs.stop, tap), axis.stride)
        if len(inputs):
            fresh[tap] = not any_reached[outputs].any()
            any_reached[outputs] = True
            reached[outputs] |= fresh[tap]
    return fresh, reached
