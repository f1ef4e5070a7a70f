"""How depthwise layers are cut, channels first, and the order in which they use their weights."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.fir_tile import filter_table, filter_vectors
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import STRIDES
from ..geometry import Geometry, fits_boxes, make_geometry
from ..partition import Partition, even, make_partition, reach_of

#: Floats of a panel, which is read again and again, and of the outputs put together: 48 and 32 KiB, so that both stay
#: close to the core. Taller boxes than at first gained, see the log in docs/speed/performance.md.
_PANEL = 12288
_REGION = 8192

# Columns of `ChannelBoxes.rows`.
FIRST_TAP, TAPS = range(2)


class ChannelBoxes(NamedTuple):
    """Boxes of blocks of one channel, and the order in which its weights are used."""

    pitch: int  # of a row of the panel
    multiplier: int  # output channels per input channel
    panel: int  # elements of the input
    kept: int  # first of the elements that rows keep from call to call
    across: int  # whether vectors are taken from several rows at once, for narrow maps
    most: int  # vectors at once
    rows: Rows  # by phase_d and phase_h: first outer tap, outer taps
    offsets: Table  # by outer tap: distance in the panel
    inner: Table  # see `fir_tile.filter_rows`
    table: int  # address of the compiled filters


class Depthwise(NamedTuple):
    """What the kernel `depthwise` unpacks."""

    geometry: Geometry
    part: Partition
    cut: ChannelBoxes


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    axes = kernel_axes(plan)
    alone = plan.in_channels == plan.groups and not plan.channels_last
    return (
        alone
        and axes[2].stride in STRIDES
        and fits_boxes(axes)
        and all(axis.step == 1 for axis in axes)
        and (plan.fixed_order or not any(axis.size == 1 for axis in plan.axes[3 - plan.ndim :]))
    )


def cut_channel_boxes(plan: Plan, threads: int) -> Depthwise:
    """Cut every channel into boxes whose input and output stay close to the core."""
    axes = kernel_axes(plan)
    lanes, reach = VECTOR_BYTES // DTYPES[plan.accumulate].size, reach_of(axes)
    low, span = [axis[0] for axis in reach], [axis[1] for axis in reach]
    box = _box(plan, axes, span, lanes)
    pitch = -(-(box[2] + span[2]) // lanes) * lanes
    panel = (box[0] + span[0]) * (box[1] + span[1]) * pitch + span[2] + lanes
    rows, offsets = _outer_taps(axes, low, (box[1] + span[1]) * pitch, pitch)
    line = box[1] * axes[1].stride * min(axes[2].output_size, box[2] * axes[2].stride) + 2 * lanes
    most = filter_vectors(axes[2].stride)[-1]
    kept = -(-(panel + line + 2 * lanes) // lanes) * lanes
    part = make_partition([axis.blocks for axis in axes], box, reach, threads, kept + most * lanes)
    cut = ChannelBoxes(
        pitch=pitch, multiplier=plan.out_channels // plan.groups, panel=panel, kept=kept,
        across=int(-(-box[2] // lanes) % most != 0 and box[1] >= 4), most=most,
        rows=rows, offsets=offsets, inner=np.array(_inner_taps(axes[2])[0], np.int64),
        table=filter_table(plan.accumulate),
    )  # fmt: skip
    return Depthwise(make_geometry(plan), part, cut)


def _box(plan: Plan, axes: tuple[Axis, Axis, Axis], span: list[int], lanes: int) -> tuple[int, int, int]:
    """Blocks of a box on each axis."""
    item = DTYPES[plan.accumulate].size
    blocks = [axis.blocks for axis in axes]
    room, region = _PANEL * 4 // item, _REGION * 4 // item
    box_w = even(blocks[2], max(lanes, min(room // (1 + span[0] + span[1]), region // axes[2].stride) - span[2]))
    pitch = -(-(box_w + span[2]) // lanes) * lanes
    rows = max(1, room // pitch)
    box_d = even(blocks[0], max(1, round(math.sqrt(rows)) - span[0])) if blocks[0] > 1 else 1
    tall = min(rows // (box_d + span[0]) - span[1], region // (axes[1].stride * axes[2].output_size))
    box_h = even(blocks[1], max(1, tall)) if box_w == blocks[2] else 1
    return box_d, box_h, box_w


@lru_cache(maxsize=64)
def order(axes: tuple[Axis, Axis, Axis]) -> Table:
    """Taps of a channel in the order in which `fir_tile.filter_rows` uses them."""
    _, inner = _inner_taps(axes[2])
    outer = [
        k_d * axes[1].kernel + k_h
        for d in axes[0].taps_by_phase() for h in axes[1].taps_by_phase() for k_d, _ in d for k_h, _ in h
    ]  # fmt: skip
    return (np.array(outer, np.int64)[:, None] * axes[2].kernel + np.array(inner, np.int64)).reshape(-1)


def _outer_taps(axes: tuple[Axis, Axis, Axis], low: list[int], plane: int, pitch: int) -> tuple[Rows, Table]:
    """By phase of the outer axes its first tap and how many it has; and by tap its distance in the panel."""
    rows: list[tuple[int, int]] = []
    offsets: list[int] = []
    for d in axes[0].taps_by_phase():
        for h in axes[1].taps_by_phase():
            rows.append((len(offsets), len(d) * len(h)))
            offsets += [(s_d - low[0]) * plane + (s_h - low[1]) * pitch for _, s_d in d for _, s_h in h]
    return np.array(rows, np.int64), np.array([*offsets, 0], np.int64)


def _inner_taps(axis: Axis) -> tuple[list[int], list[int]]:
    """The shifts in a row, as `fir_tile.filter_rows` wants them, and the taps in that order."""
    phases = [{shift: tap for tap, shift in phase} for phase in axis.taps_by_phase()]
    low = min(shift for phase in phases for shift in phase)
    shared = sorted(set.intersection(*map(set, phases)))
    shifts = [len(shared), *(shift - low for shift in shared)]
    taps = [phase[shift] for shift in shared for phase in phases]
    for phase in phases:
        own = sorted(set(phase) - set(shared))
        shifts += [len(own), *(shift - low for shift in own)]
        taps += [phase[shift] for shift in own]
    return shifts, taps
