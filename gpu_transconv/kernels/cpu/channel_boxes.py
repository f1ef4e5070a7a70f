"""How depthwise layers are cut, and the order in which they use their weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...problem.axis import Axis
from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from .blocking import even, per_axis
from .fir import filter_table, filter_vectors
from .geometry import fits_boxes
from .packing import VECTOR_BYTES
from .rows import STRIDES
from .tables import Rows, Table

#: Elements of a panel, which is read again and again, and of the outputs put together.
_PANEL = 12288
_REGION = 8192


class ChannelBoxes(NamedTuple):
    """Boxes of blocks of one channel, and the order in which its weights are used."""

    box_d: int
    box_h: int
    box_w: int
    boxes_d: int
    boxes_h: int
    boxes_w: int
    blocks_d: int
    blocks_h: int
    blocks_w: int
    low_d: int  # smallest shift
    low_h: int
    low_w: int
    span_d: int  # largest shift minus smallest
    span_h: int
    span_w: int
    pitch: int  # of a row of the panel
    multiplier: int  # output channels per input channel
    panel: int
    work: int
    threads: int
    across: int  # whether vectors are taken from several rows at once, for narrow maps
    most: int  # vectors at once
    rows: Rows  # by phase_d and phase_h: first outer tap, outer taps
    offsets: Table  # by outer tap: distance in the panel
    inner: Table  # see `fir.filter_rows`
    table: int


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    axes = kernel_axes(plan)
    alone = plan.in_channels == plan.groups and not plan.channels_last
    return (
        alone
        and axes[2].stride in STRIDES
        and fits_boxes(axes)
        and not any(axis.size == 1 for axis in plan.axes[3 - plan.ndim :])
    )


def make_channel_boxes(plan: Plan, threads: int) -> ChannelBoxes:
    """Cut every channel into boxes whose input and output stay close to the core."""
    axes = kernel_axes(plan)
    item = 4 if plan.accumulate == "float32" else 8
    lanes = VECTOR_BYTES // item
    low, span = zip(*(axis.reach() for axis in axes), strict=True)
    blocks = [axis.blocks for axis in axes]
    room, region = _PANEL * 4 // item, _REGION * 4 // item
    box_w = even(blocks[2], max(lanes, min(room // (1 + span[0] + span[1]), region // axes[2].stride) - span[2]))
    pitch = -(-(box_w + span[2]) // lanes) * lanes
    rows = max(1, room // pitch)
    box_d = even(blocks[0], max(1, round(math.sqrt(rows)) - span[0])) if blocks[0] > 1 else 1
    tall = min(rows // (box_d + span[0]) - span[1], region // (axes[1].stride * axes[2].output_size))
    box_h = even(blocks[1], max(1, tall)) if box_w == blocks[2] else 1
    boxes = [-(-n // box) for n, box in zip(blocks, (box_d, box_h, box_w), strict=True)]
    panel = (box_d + span[0]) * (box_h + span[1]) * pitch + span[2] + lanes
    table_rows, offsets = _outer_taps(axes, low, (box_h + span[1]) * pitch, pitch)
    line = box_h * axes[1].stride * min(axes[2].output_size, box_w * axes[2].stride) + 2 * lanes
    most = filter_vectors(axes[2].stride)[-1]
    return ChannelBoxes(
        **per_axis(box=(box_d, box_h, box_w), boxes=boxes, blocks=blocks, low=low, span=span),
        pitch=pitch, multiplier=plan.out_channels // plan.groups, panel=panel, work=panel + line + lanes,
        threads=threads, across=int(-(-box_w // lanes) % most != 0 and box_h >= 4), most=most,
        rows=table_rows, offsets=offsets, inner=np.array(_inner_taps(axes[2])[0], np.int64),
        table=filter_table(plan.accumulate),
    )  # fmt: skip


def order(axes: tuple[Axis, Axis, Axis]) -> Table:
    """Taps of a channel in the order in which `fir.filter_rows` uses them."""
    _, inner = _inner_taps(axes[2])
    outer = [
        k_d * axes[1].kernel + k_h
        for d in axes[0].taps_by_phase() for h in axes[1].taps_by_phase() for k_d, _ in d for k_h, _ in h
    ]  # fmt: skip
    return (np.array(outer, np.int64)[:, None] * axes[2].kernel + np.array(inner, np.int64)).reshape(-1)


def _outer_taps(axes: tuple[Axis, Axis, Axis], low: tuple[int, ...], plane: int, pitch: int) -> tuple[Rows, Table]:
    rows: list[tuple[int, int]] = []
    offsets: list[int] = []
    for d in axes[0].taps_by_phase():
        for h in axes[1].taps_by_phase():
            rows.append((len(offsets), len(d) * len(h)))
            offsets += [(s_d - low[0]) * plane + (s_h - low[1]) * pitch for _, s_d in d for _, s_h in h]
    return np.array(rows, np.int64), np.array([*offsets, 0], np.int64)


def _inner_taps(axis: Axis) -> tuple[list[int], list[int]]:
    """The shifts in a row, as `fir.filter_rows` wants them, and the taps in that order."""
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
