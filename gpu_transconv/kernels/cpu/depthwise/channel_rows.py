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
from ..emit.channel_tile import INNER_WORDS, OUTER_WORDS, channel_table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, make_partition

#: Sums of a task: 16 KiB of floats, so that they stay in the first-level cache. Chosen, not measured.
_SUMS = 4096
#: Weights of a tap with few channels, repeated ones included. Chosen, not measured.
_ROW = 256
#: Outputs of a phase of a task, where these are tiles, and sums of a task then, in the second-level cache. Chosen, not
#: measured.
_PIXELS, _TILED_SUMS = 32, 32768

# Columns of `DepthwiseLast.inner`: places in a row of the input and in the weights of one, and the blocks that
# the tap reaches: the first, and the one after the last.
PLACE, WEIGHT, LOW, HIGH = range(INNER_WORDS)


class DepthwiseLast(NamedTuple):
    """What the kernel `depthwise_last` unpacks; its partition counts outputs on w instead of blocks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one block of outputs to the next
    row: int  # weights of a tap, repeated ones included
    plane: int  # sums of a phase where channels are few; 0 where they are not
    outer: int  # elements for a list of outer taps
    first: Table  # by phase_w, and one more for the end: its first tap on w
    inner: Rows  # the taps on w by phase, in the order of what they read; columns PLACE ... HIGH
    tile: int  # address of the compiled tiles, or 0 where channels or types are not for them


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    return plan.channels_last and plan.in_channels == plan.out_channels == plan.groups > 1


def cut_rows(plan: Plan, threads: int) -> DepthwiseLast:
    """Cut the rows of outputs; the order of every sum does not depend on it."""
    axes, item = kernel_axes(plan), DTYPES[plan.accumulate].size
    outputs, channels, stride = plan.out_spatial, plan.out_channels, axes[2].stride
    repeats, plane = _repeats(plan.accumulate, channels, stride), 0
    tiled = plan.dtype == plan.accumulate and channels * item >= VECTOR_BYTES
    length = min(outputs[2], max(1, _SUMS // channels))
    if tiled:
        length = min(outputs[2], stride * max(1, length // stride, min(_PIXELS, _TILED_SUMS // (channels * stride))))
    if repeats > 1:
        blocks = -(-min(outputs[2], _SUMS // (2 * channels)) // stride)
        length, plane = blocks * stride, blocks * channels
    outer = -(-axes[0].kernel * axes[1].kernel * OUTER_WORDS * 8 // VECTOR_BYTES) * VECTOR_BYTES // item
    work = outer + stride * plane + length * channels + 64
    part = make_partition((axes[0].blocks, axes[1].blocks, outputs[2]), (1, 1, length), [(0, 0)] * 3, threads, work)
    step = PerAxis(*(axis.step for axis in plan.axes))
    return DepthwiseLast(
        make_geometry(plan), part, step, channels * repeats, plane, outer, *_inner_taps(axes[2], channels),
        channel_table(plan.accumulate) if tiled else 0,
    )  # fmt: skip


def _inner_taps(axis: Axis, channels: int) -> tuple[Table, Rows]:
    """By phase its first tap; and of the taps what `DepthwiseLast.inner` has."""
    first, inner = [0], []
    for taps in axis.taps_by_phase():
        for tap, shift in sorted(taps, key=lambda each: each[1]):
            low, high = -(shift // axis.step), (axis.size - 1 - shift) // axis.step + 1
            inner.append((shift * channels, tap * channels, low, high))
        first.append(len(inner))
    return np.array(first, np.int64), np.array([*inner, (0,) * INNER_WORDS], np.int64)


def _repeats(accumulate: str, channels: int, stride: int) -> int:
    """How often the weights of a tap are there; twice or more made 12 channels with a stride of 2 slower."""
    return 1 if channels * stride >= VECTOR_BYTES // DTYPES[accumulate].size else _ROW // channels


def pack(plan: Plan, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights ordered tap, repetition, channel, and the bias of one tap's weights."""
    repeats = _repeats(plan.accumulate, plan.groups, plan.axes[2].stride)
    taps = weight.reshape(plan.groups, -1).T.astype(plan.accumulate)
    return np.tile(taps, repeats).reshape(-1), np.tile(values, repeats)
