"""How depthwise layers with the channels last are cut, and the order of their weights: see `channels_last`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, even, make_partition
from ..tiles.channel_tile import WORDS, channel_table
from .channel_taps import TileTaps, is_tiled, make_taps, pack_tiles

#: Sums of a task: 16 KiB of floats, so that they stay in the first-level cache. Chosen, not measured.
_SUMS = 4096
#: Weights of a tap with few channels, repeated ones included. Chosen, not measured.
_ROW = 256
#: Sums of a task of tiles, in the second-level cache; tasks for each thread, where these have so many blocks of a row.
#: Chosen, not measured.
_TILED_SUMS, _TASKS, _WIDTH = 32768, 4, 24


class DepthwiseLast(NamedTuple):
    """What the kernel `depthwise_last` unpacks; its partition counts outputs on w instead of blocks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one block of outputs to the next
    row: int  # weights of a tap, repeated ones included
    plane: int  # sums of a phase where channels are few; 0 where they are not
    outer: int  # elements for a list of outer taps
    taps: TileTaps
    steps: Table  # see `channel_tile.STEPS`
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
    if is_tiled(plan):
        length = stride * _blocks_of_task(plan, axes, threads)
    if repeats > 1:
        blocks = -(-min(outputs[2], _SUMS // (2 * channels)) // stride)
        length, plane = blocks * stride, blocks * channels
    outer = -(-axes[0].kernel * axes[1].kernel * WORDS * 8 // VECTOR_BYTES) * VECTOR_BYTES // item
    work = outer + stride * plane + length * channels + 64
    part = make_partition((axes[0].blocks, axes[1].blocks, outputs[2]), (1, 1, length), [(0, 0)] * 3, threads, work)
    step = PerAxis(*(axis.step for axis in plan.axes))
    lanes = VECTOR_BYTES // item
    steps = np.array([stride * channels, channels, 0, step.w * channels, 0, math.prod(plan.kernel) * lanes], np.int64)
    return DepthwiseLast(
        make_geometry(plan), part, step, channels * repeats, plane, outer, make_taps(plan, channels), steps,
        channel_table(plan.accumulate) if is_tiled(plan) else 0,
    )  # fmt: skip


def _blocks_of_task(plan: Plan, axes: tuple[Axis, Axis, Axis], threads: int) -> int:
    """Blocks on w of a task of tiles."""
    rows, blocks = plan.batch * axes[0].blocks * axes[1].blocks, axes[2].blocks
    room = max(1, _TILED_SUMS // (axes[2].stride * plan.out_channels))
    return even(blocks, min(room, max(_WIDTH, rows * blocks // (_TASKS * threads))))


def _repeats(accumulate: str, channels: int, stride: int) -> int:
    """How often the weights of a tap are there; twice or more made 12 channels with a stride of 2 slower."""
    return 1 if channels * stride >= VECTOR_BYTES // DTYPES[accumulate].size else _ROW // channels


def pack(plan: Plan, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights by tap, repetition and channel, and the bias of one tap's weights; or what tiles take."""
    if is_tiled(plan):
        return pack_tiles(plan, weight, values)
    repeats = _repeats(plan.accumulate, plan.groups, plan.axes[2].stride)
    taps = weight.reshape(plan.groups, -1).T.astype(plan.accumulate)
    return np.tile(taps, repeats).reshape(-1), np.tile(values, repeats)
