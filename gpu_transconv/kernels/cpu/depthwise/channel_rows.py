"""How depthwise layers with the channels last are cut, and the order of their weights: see `channels_last`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.channel_tile import PHASES, WORDS, channel_table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, even, make_partition
from ..stretches import find_stretches

#: Sums of a task: 16 KiB of floats, so that they stay in the first-level cache. Chosen, not measured.
_SUMS = 4096
#: Weights of a tap with few channels, repeated ones included. Chosen, not measured.
_ROW = 256
#: Sums of a task of tiles, in the second-level cache; tasks for each thread, where these have so many blocks of a row.
#: Chosen, not measured.
_TILED_SUMS, _TASKS, _WIDTH = 32768, 4, 24

# Columns of `DepthwiseLast.sets`: first phase_w and how many, first stretch of blocks and the one after the last.
PHASE, COUNT, FIRST, END = range(4)


class Set(NamedTuple):
    """One phase of the innermost axis, or two neighbours, and lists of the (shift, taps) that all of them need."""

    phase: int
    phases: int
    lists: list[list[tuple[int, list[int]]]]  # of both, of the first alone, of the second


class DepthwiseLast(NamedTuple):
    """What the kernel `depthwise_last` unpacks; its partition counts outputs on w instead of blocks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one block of outputs to the next
    row: int  # weights of a tap, repeated ones included
    plane: int  # sums of a phase where channels are few; 0 where they are not
    outer: int  # elements for a list of outer taps
    sets: Rows  # columns PHASE ... END
    stretches: Rows  # by set, see `stretches`
    inner: Table  # by set its taps on w: the place in a row of the input, and in the weights of such a row
    tile: int  # address of the compiled tiles, or 0 where channels or types are not for them


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    return plan.channels_last and plan.in_channels == plan.out_channels == plan.groups > 1


def cut_rows(plan: Plan, threads: int) -> DepthwiseLast:
    """Cut the rows of outputs; the order of every sum does not depend on it."""
    axes, item = kernel_axes(plan), DTYPES[plan.accumulate].size
    outputs, channels, stride = plan.out_spatial, plan.out_channels, axes[2].stride
    repeats, plane = _repeats(plan.accumulate, channels, stride), 0
    length = min(outputs[2], max(1, _SUMS // channels))
    if _is_tiled(plan):
        length = stride * _blocks_of_task(plan, axes, threads)
    if repeats > 1:
        blocks = -(-min(outputs[2], _SUMS // (2 * channels)) // stride)
        length, plane = blocks * stride, blocks * channels
    outer = -(-axes[0].kernel * axes[1].kernel * WORDS * 8 // VECTOR_BYTES) * VECTOR_BYTES // item
    work = outer + stride * plane + length * channels + 64
    part = make_partition((axes[0].blocks, axes[1].blocks, outputs[2]), (1, 1, length), [(0, 0)] * 3, threads, work)
    step = PerAxis(*(axis.step for axis in plan.axes))
    return DepthwiseLast(
        make_geometry(plan), part, step, channels * repeats, plane, outer, *_tables(plan),
        channel_table(plan.accumulate) if _is_tiled(plan) else 0,
    )  # fmt: skip


def _blocks_of_task(plan: Plan, axes: tuple[Axis, Axis, Axis], threads: int) -> int:
    """Blocks on w of a task of tiles."""
    rows, blocks = plan.batch * axes[0].blocks * axes[1].blocks, axes[2].blocks
    room = max(1, _TILED_SUMS // (axes[2].stride * plan.out_channels))
    return even(blocks, min(room, max(_WIDTH, rows * blocks // (_TASKS * threads))))


def _is_tiled(plan: Plan) -> bool:
    """Whether vectors of channels are summed in registers."""
    item = DTYPES[plan.accumulate].size
    return plan.dtype == plan.accumulate and plan.out_channels * item >= VECTOR_BYTES


def _tables(plan: Plan) -> tuple[Rows, Rows, Table]:
    """What `DepthwiseLast` has of sets, stretches and inner taps."""
    if not _is_tiled(plan):
        return np.zeros((0, 4), np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    axis, lanes = kernel_axes(plan)[2], VECTOR_BYTES // DTYPES[plan.accumulate].size
    sets, stretches, inner, weight = [], list[tuple[int, ...]](), list[int](), 0
    for each in _sets(axis):
        lists = []
        for some in each.lists:
            lists.append((len(inner) // WORDS, [shift for shift, _ in some]))
            for shift, taps in some:
                inner += shift * plan.out_channels, weight * lanes
                weight += len(taps)
        # Of the last block the second phase may be cut off.
        begin = 0
        for phases in range(each.phases, 0, -1):
            past = -(-(axis.output_size - each.phase - phases + 1) // axis.stride)
            found = find_stretches(axis, lists, (begin, past))
            sets.append((each.phase, phases, len(stretches), len(stretches) + len(found)))
            stretches += found
            begin = max(begin, past)
    return np.array(sets, np.int64), np.array(stretches, np.int64), np.array(inner, np.int64)


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


def _repeats(accumulate: str, channels: int, stride: int) -> int:
    """How often the weights of a tap are there; twice or more made 12 channels with a stride of 2 slower."""
    return 1 if channels * stride >= VECTOR_BYTES // DTYPES[accumulate].size else _ROW // channels


def pack(plan: Plan, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights by tap, repetition and channel, and the bias of one tap's weights.

    Those of tiles by vector of channels, the last of which may share some with the one before, outer tap, inner tap in
    the order of `Set.lists`, and lane.
    """
    taps = weight.reshape(plan.groups, -1).T.astype(plan.accumulate)
    if _is_tiled(plan):
        lanes, axis = VECTOR_BYTES // values.dtype.itemsize, kernel_axes(plan)[2]
        first = np.minimum(np.arange(0, plan.groups, lanes), plan.groups - lanes)
        order = [tap for each in _sets(axis) for some in each.lists for _, together in some for tap in together]
        rows = taps.reshape(-1, axis.kernel, plan.groups)[:, order][..., first[:, None] + np.arange(lanes)]
        return np.ascontiguousarray(rows.transpose(2, 0, 1, 3)).reshape(-1), values
    repeats = _repeats(plan.accumulate, plan.groups, plan.axes[2].stride)
    return np.tile(taps, repeats).reshape(-1), np.tile(values, repeats)
