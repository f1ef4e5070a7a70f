"""How depthwise layers are cut, channels first, and the order in which they use their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, product
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.registers import VECTOR_BYTES, selects
from ..emit.row_ir import STRIDES
from ..geometry import Geometry, fits_boxes, make_geometry
from ..partition import Partition, even, make_partition, reach_of
from ..tiles.fir_tile import filter_lines, filter_table, filter_vectors

#: Floats of a panel, which is read again and again, and of the outputs put together: 192 and 64 KiB, so that both stay
#: in a second-level cache and few inputs are copied twice. Measured, see the log in docs/speed/performance.md.
_PANEL = 49152
_REGION = 16384
#: Channels for each thread below which boxes are a quarter of that, so that threads end together. Chosen, not measured.
_CHANNELS = 8

#: Rows of a box from which vectors are taken across them; and vectors of a row, of which a multiple is taken along it.
#: The latter measured: 7 vectors take 1.6 times as long along a row.
_ACROSS, _ALONG = 4, 4

# Columns of `ChannelBoxes.rows`.
FIRST_ROW, FIRST_WEIGHT = range(2)


class ChannelBoxes(NamedTuple):
    """Boxes of blocks of one channel, and the order in which its weights are used."""

    pitch: int  # of a row of the panel
    multiplier: int  # output channels per input channel
    panel: int  # elements of the input
    kept: int  # first of the elements that rows keep from call to call
    across: int  # whether vectors are taken from several rows at once, for narrow maps
    most: int  # vectors at once
    lines: int  # phases_h at once
    plain: int  # whether the filters write results as they are stored, neither activated nor rounded afterwards
    rows: Rows  # by phase_d and phases_h: first place in `outer`, first weight
    outer: Table  # see `fir_tile.filter_rows`
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
    axes, geometry = kernel_axes(plan), make_geometry(plan)
    plain = not geometry.activation and (selects() or not geometry.half)
    lanes, reach = VECTOR_BYTES // DTYPES[plan.accumulate].size, reach_of(axes)
    low, span = [axis[0] for axis in reach], [axis[1] for axis in reach]
    few = plan.batch * plan.groups < _CHANNELS * threads
    box = _box(plan, axes, span, lanes, _PANEL // 4 if few else _PANEL)
    pitch = -(-(box[2] + span[2]) // lanes) * lanes
    panel = (box[0] + span[0]) * (box[1] + span[1]) * pitch + span[2] + lanes
    lines = filter_lines(axes[1].stride, axes[2].stride)
    rows, outer = _outer_taps(axes, low, (box[1] + span[1]) * pitch, pitch)
    line = box[1] * axes[1].stride * min(axes[2].output_size, box[2] * axes[2].stride) + 2 * lanes
    most = filter_vectors(axes[2].stride, lines)[-1]
    kept = -(-(panel + line + 2 * lanes) // lanes) * lanes
    part = make_partition([axis.blocks for axis in axes], box, reach, threads, kept + lines * most * lanes)
    cut = ChannelBoxes(
        pitch=pitch, multiplier=plan.out_channels // plan.groups, panel=panel, kept=kept,
        across=int(_goes_across(box[2], box[1], lanes, most)), most=most, lines=lines,
        rows=rows, outer=outer, inner=np.array(_inner_shifts(axes[2]), np.int64),
        plain=int(plain), table=filter_table(plan.accumulate, geometry.half if plain else 0),
    )  # fmt: skip
    return Depthwise(geometry, part, cut)


def _box(plan: Plan, axes: tuple[Axis, Axis, Axis], span: list[int], lanes: int, panel: int) -> tuple[int, int, int]:
    """Blocks of a box on each axis, of which `panel` floats of input are kept."""
    item = DTYPES[plan.accumulate].size
    blocks = [axis.blocks for axis in axes]
    room, region = panel * 4 // item, _REGION * 4 // item
    box_w = even(blocks[2], max(lanes, min(room // (1 + span[0] + span[1]), region // axes[2].stride) - span[2]))
    pitch = -(-(box_w + span[2]) // lanes) * lanes
    rows = max(1, room // pitch)
    box_d = even(blocks[0], max(1, round(math.sqrt(rows)) - span[0])) if blocks[0] > 1 else 1
    if box_w < blocks[2]:
        return box_d, 1, box_w
    tallest = region // (axes[1].stride * axes[2].output_size)
    tall = max(1, min(rows // (box_d + span[0]) - span[1], tallest))
    many = filter_vectors(axes[2].stride, filter_lines(axes[1].stride, axes[2].stride))[-1]
    if tall >= blocks[1] or tallest < many or not _goes_across(box_w, blocks[1], lanes, many):
        return box_d, even(blocks[1], tall), box_w
    # Rows are filtered so many at once, or half as many, and so on, each of which takes nearly as long.
    box_h = max(many, min(tall, tallest) // many * many)
    return even(blocks[0], max(1, rows // (box_h + span[1]) - span[0])), box_h, box_w


def _goes_across(box_w: int, height: int, lanes: int, many: int) -> bool:
    """Whether a call takes a vector of several rows, as it does on narrow maps, and not several vectors of a row."""
    return -(-box_w // lanes) % min(many, _ALONG) != 0 and height >= _ACROSS


@lru_cache(maxsize=64)
def order(axes: tuple[Axis, Axis, Axis]) -> Table:
    """Taps of a channel in the order in which `fir_tile.filter_rows` uses them."""
    shared, *own = _lists([axes[2].taps_by_phase()])[0]
    taps = [
        tap * axes[2].kernel + k
        for lists in _outer_lists(axes)
        for _, _, together in chain.from_iterable(lists)
        for _, ks in chain(shared, *own)
        for tap in together
        for k in ks
    ]
    return np.array(taps, np.int64)


def _outer_taps(axes: tuple[Axis, Axis, Axis], low: list[int], plane: int, pitch: int) -> tuple[Rows, Table]:
    """By phases of the outer axes the first place in a table and the first weight; and that table, of distances."""
    rows: list[tuple[int, int]] = []
    outer: list[int] = []
    weights = 0
    for lists in _outer_lists(axes):
        rows.append((len(outer), weights))
        for some in lists:
            outer += [len(some), *((s_d - low[0]) * plane + (s_h - low[1]) * pitch for s_d, s_h, _ in some)]
            weights += sum(len(taps) for _, _, taps in some) * axes[2].kernel
    return np.array(rows, np.int64), np.array(outer, np.int64)


def _outer_lists(axes: tuple[Axis, Axis, Axis]) -> list[list[list[tuple[int, int, list[int]]]]]:
    """By call of a filter, lists of rows of input: the shifts of each, and the outer taps of the rows of output."""
    d, h, w = axes
    lines, phases = filter_lines(h.stride, w.stride), h.taps_by_phase()
    calls = _lists([phases[first : first + lines] for first in range(0, h.stride, lines)])
    return [
        [
            [(s_d, s_h, [k_d * h.kernel + k for k in taps]) for k_d, s_d in phase_d for s_h, taps in some]
            for some in (lists if lines > 1 else lists[:1])
        ]
        for phase_d, lists in product(d.taps_by_phase(), calls)
    ]


def _inner_shifts(axis: Axis) -> list[int]:
    """The shifts in a row, as `fir_tile.filter_rows` wants them."""
    lists, low = _lists([axis.taps_by_phase()])[0], axis.reach().low
    return [number for some in lists for number in (len(some), *(shift - low for shift, _ in some))]


def _lists(groups: Sequence[Sequence[Sequence[tuple[int, int]]]]) -> list[list[list[tuple[int, list[int]]]]]:
    """By group of phases, lists of shifts and their taps: those that all its phases share, then each phase's own."""
    result = []
    for group in groups:
        phases = [{shift: tap for tap, shift in phase} for phase in group]
        shared = sorted(set.intersection(*map(set, phases)))
        own = [[(shift, [phase[shift]]) for shift in sorted(set(phase) - set(shared))] for phase in phases]
        result.append([[(shift, [phase[shift] for phase in phases]) for shift in shared], *own])
    return result
