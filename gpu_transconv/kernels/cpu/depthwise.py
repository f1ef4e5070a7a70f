"""Gather for depthwise layers: every channel by itself, as short filters over rows held in cache.

A task is one output channel of one image, or a box of it. The rows of input that the box reads are copied once, with
zeros around them; then every row of output is the sum of a few rows of input, filtered. Results that are too
large for the caches are put together first, as the run of memory that they are, and leave in whole lines.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ...plan import Axis, Plan
from .activation import activate
from .blocking import even, per_axis
from .fir import STRIDES, filter_rows, filter_table, filter_vectors
from .geometry import Geometry, kernel_axes
from .layout import LAYOUT
from .packing import VECTOR_BYTES
from .pairs import by_phase
from .tables import Rows, Table, unpack
from .vectors import address, address_as, copy_row, fence, interleave_rows, lanes_past, offset

#: Elements of a panel, which is read again and again, and of the outputs put together.
_PANEL = 12288
_REGION = 8192


class Boxes(NamedTuple):
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
    return alone and axes[2].stride in STRIDES and not any(plan.single[3 - plan.ndim :])


def make_boxes(plan: Plan, threads: int) -> Boxes:
    """Cut every channel into boxes whose input and output stay close to the core."""
    axes = kernel_axes(plan)
    item = 4 if plan.accumulate == "float32" else 8
    lanes = VECTOR_BYTES // item
    shifts = [[axis.shift_of(k) for k in range(axis.kernel)] for axis in axes]
    low = [min(s) for s in shifts]
    span = [max(s) - min(s) for s in shifts]
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
    return Boxes(
        **per_axis(box=(box_d, box_h, box_w), boxes=boxes, blocks=blocks, low=low, span=span),
        pitch=pitch, multiplier=plan.out_channels // plan.groups, panel=panel, work=panel + line + lanes,
        threads=threads, across=int(-(-box_w // lanes) % most != 0 and box_h >= 4), most=most,
        rows=table_rows, offsets=offsets, inner=np.array(_inner_taps(axes[2])[0], np.int64),
        table=filter_table(plan.accumulate),
    )  # fmt: skip


def order(plan: Plan) -> Table:
    """Taps of a channel in the order in which `fir.filter_rows` uses them."""
    axes = kernel_axes(plan)
    _, inner = _inner_taps(axes[2])
    outer = [
        k_d * axes[1].kernel + k_h
        for d in by_phase(axes[0]) for h in by_phase(axes[1]) for k_d, _ in d for k_h, _ in h
    ]  # fmt: skip
    return (np.array(outer, np.int64)[:, None] * axes[2].kernel + np.array(inner, np.int64)).reshape(-1)


def _outer_taps(axes: tuple[Axis, Axis, Axis], low: list[int], plane: int, pitch: int) -> tuple[Rows, Table]:
    rows: list[tuple[int, int]] = []
    offsets: list[int] = []
    for d in by_phase(axes[0]):
        for h in by_phase(axes[1]):
            rows.append((len(offsets), len(d) * len(h)))
            offsets += [(s_d - low[0]) * plane + (s_h - low[1]) * pitch for _, s_d in d for _, s_h in h]
    return np.array(rows, np.int64), np.array([*offsets, 0], np.int64)


def _inner_taps(axis: Axis) -> tuple[list[int], list[int]]:
    """The shifts in a row, as `fir.filter_rows` wants them, and the taps in that order."""
    phases = [{shift: tap for tap, shift in phase} for phase in by_phase(axis)]
    low = min(shift for phase in phases for shift in phase)
    shared = sorted(set.intersection(*map(set, phases)))
    shifts = [len(shared), *(shift - low for shift in shared)]
    taps = [phase[shift] for shift in shared for phase in phases]
    for phase in phases:
        own = sorted(set(phase) - set(shared))
        shifts += [len(own), *(shift - low for shift in own)]
        taps += [phase[shift] for shift in own]
    return shifts, taps


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def depthwise(x, weight, bias, out, table, work):
    """Fill the flat `out`, channels first; a task is a box of one output channel of one image."""
    for thread in prange(work.shape[0]):
        depthwise_part(x, weight, bias, out, table, work, thread)


@njit(nogil=True, cache=True, error_model="numpy")
def depthwise_part(x, weight, bias, out, table, work, thread):
    """What one thread does of it."""
    g, b = unpack(Geometry, table, 0), unpack(Boxes, table, LAYOUT)
    boxes = b.boxes_d * b.boxes_h * b.boxes_w
    channels = g.groups * b.multiplier
    tasks = g.batch * channels * boxes
    copied = -1
    for task in range(thread * tasks // b.threads, (thread + 1) * tasks // b.threads):
        rest = task // b.multiplier
        channel = rest // boxes % g.groups * b.multiplier + task % b.multiplier
        if rest != copied:  # the output channels of one input channel follow each other
            _copy_box(x, work[thread], g, b, rest % boxes, rest // boxes)
            copied = rest
        _filter_box(weight, bias, out, work[thread], g, b, rest % boxes, rest // boxes // g.groups, channel)
    fence()


@njit(nogil=True, error_model="numpy")
def _corner(b, box):
    w0, rest = box % b.boxes_w * b.box_w, box // b.boxes_w
    h0, d0 = rest % b.boxes_h * b.box_h, rest // b.boxes_h * b.box_d
    return d0, h0, w0, min(b.box_d, b.blocks_d - d0), min(b.box_h, b.blocks_h - h0), min(b.box_w, b.blocks_w - w0)


@njit(nogil=True, error_model="numpy")
def _copy_box(x, panel, g, b, box, image):
    """Copy the rows of input that a box reads, zero outside the input; `image` counts images and channels."""
    d0, h0, w0, depth, height, width = _corner(b, box)
    start = w0 + b.low_w
    low = max(0, -start)
    high = max(low, min(width + b.span_w, g.in_w - start))
    for d in range(depth + b.span_d):
        i_d = d0 + b.low_d + d
        for h in range(height + b.span_h):
            i_h = h0 + b.low_h + h
            present = high if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
            source = address(x, image * g.x_channel + (i_d * g.in_h + i_h) * g.in_w + start)
            copy_row(address(panel, (d * (b.box_h + b.span_h) + h) * b.pitch), source, low, present, b.pitch, g.half)


@njit(nogil=True, error_model="numpy")
def _filter_box(weight, bias, out, work, g, b, box, n, channel):
    d0, h0, w0, depth, height, width = _corner(b, box)
    lanes = VECTOR_BYTES // work.itemsize
    line = b.panel + (lanes - b.panel % lanes)
    outputs = min(width * g.stride_w, g.out_w - w0 * g.stride_w)
    whole = b.boxes_w == 1  # rows follow each other in memory
    first = h0 * g.stride_h
    count = min(height * g.stride_h, g.out_h - first)
    for d in range(depth):
        for phase_d in range(g.stride_d):
            o_d = (d0 + d) * g.stride_d + phase_d
            if o_d >= g.out_d:
                continue
            straight, past = True, 0
            target = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + first) * g.out_w + w0 * g.stride_w
            for phase_h in range(min(g.stride_h, count)):
                start = target if whole else target + phase_h * g.out_w
                past = lanes_past(out, start)
                straight = not g.half and not g.activation
                straight = straight and (not g.stream or (past == 0 and g.out_w % lanes == 0))
                s = phase_d * g.stride_h + phase_h
                blocks = (count - phase_h + g.stride_h - 1) // g.stride_h
                row = phase_h * g.out_w if whole else 0
                to = address_as(work, out, start + row) if straight else address(work, line + past + row)
                _filter_plane(
                    to, work, weight, bias, g, b, d * (b.box_h + b.span_h) * b.pitch, channel, s, blocks, width,
                    outputs, straight and g.stream,
                )  # fmt: skip
                if not straight and not whole:
                    _flush(out, start, work, line + past, outputs, g)
            if not straight and whole:
                _flush(out, target, work, line + past, count * g.out_w, g)


@njit(nogil=True, error_model="numpy")
def _filter_plane(to, work, weight, bias, g, b, source, channel, s, blocks, width, outputs, stream):
    """Rows of one phase of the outer axes, `blocks` of them, written from address `to` on."""
    lanes = VECTOR_BYTES // work.itemsize
    vectors = (width + lanes - 1) // lanes
    step = g.stride_h * g.out_w
    offsets, taps = address(b.offsets, b.rows[s, 0]), b.rows[s, 1]
    inner, start = address(b.inner, 0), address(bias, channel)
    weights = address(weight, channel * g.volume + b.rows[s, 0] * g.kernel_w)
    h = 0
    while h < blocks:
        many = b.most if b.across else 1
        while many > blocks - h:
            many //= 2
        v = 0
        while v < vectors:
            few = 1 if b.across else b.most
            while few > vectors - v:
                few //= 2
            filter_rows(
                b.table, offset(to, h * step + v * lanes * g.stride_w),
                step if b.across else lanes * g.stride_w, 0 if b.across else lanes * g.stride_w,
                outputs - v * lanes * g.stride_w, 0, stream,
                address(work, source + h * b.pitch + v * lanes), b.pitch if b.across else lanes,
                offsets, taps, inner, weights, start, g.stride_w, many if b.across else few,
            )  # fmt: skip
            v += few
        h += many


@njit(nogil=True, error_model="numpy")
def _flush(out, target, work, source, count, g):
    """Move a run of outputs to memory, whole lines past the caches."""
    if g.activation:
        for i in range(source, source + count):
            work[i] = activate(work[i], g.activation, g.slope)
    lanes = VECTOR_BYTES // work.itemsize
    head = min((lanes - lanes_past(out, target)) % lanes, count) if g.stream and not g.half else 0
    if head:
        interleave_rows(address(out, target), address(work, source), 0, 1, head, g.half, 0)
    interleave_rows(address(out, target + head), address(work, source + head), 0, 1, count - head, g.half, g.stream)
