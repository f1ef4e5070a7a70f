"""Depthwise layers with the channels last and many taps: boxes of a vector of channels, copied to where they fit.

What reaches a box is read once for each tap and phase. So its inputs are copied first, a vector of channels after the
other, with zeros beyond the border: they stay in the caches, vectors are aligned, and every block has all its taps.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table, unpack
from ..emit.intrinsics import copy_block, copy_row, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, address_as, fence, lanes_past, offset
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, fits_boxes, make_geometry
from ..partition import Memory, Partition, box_count, box_of, count_boxes, even, make_partition, reach_of
from ..runtime.compiled import inner, kernel
from ..stretches import BEGIN, LISTED, PAST
from ..tiles.channel_tile import WORDS, channel_blocks, channel_shape, channel_table, channel_tile
from . import channel_rows
from .channel_taps import COUNT, END, FIRST, PHASE, TileTaps, is_tiled, make_taps

#: Vectors of a panel, which stays in the second-level cache: 128 KiB of vectors of 64 bytes. Chosen, not measured.
_PANEL = 2048
#: Taps from which a copy pays. Chosen, not measured.
_TAPS = 20
#: Blocks of a row below which tiles of several vectors of channels are faster.
_NARROW = 8
#: Blocks of a row that are not cut, and that are else about in a box. Chosen, not measured.
_WHOLE, _WIDE = 72, 48
#: Tasks for each thread at least, so that threads end together. Chosen, not measured.
_TASKS = 4

# Columns of `LastBoxes.outer`: first outer tap of the phases and how many.
BEGINS, OUTERS = range(2)


class LastBoxes(NamedTuple):
    """What the kernel `depthwise_last_boxes` unpacks."""

    geometry: Geometry
    part: Partition
    pitch: int  # vectors from a row of the panel to the next
    panel: int  # elements of the panel
    phases: Rows  # by phase_d and phase_h; columns BEGINS, OUTERS
    outer: Table  # by these the outer taps: places in the panel, and in the weights
    taps: TileTaps
    steps: Rows  # see `channel_tile.STEPS`: to the output, and to scratch memory
    tile: int  # address of the compiled tiles


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    axes, lanes = kernel_axes(plan), VECTOR_BYTES // DTYPES[plan.accumulate].size
    return (
        channel_rows.takes(plan)
        and is_tiled(plan)
        and plan.groups % lanes == 0
        and math.prod(plan.kernel) >= _TAPS
        and axes[2].blocks >= _NARROW
        and all(axis.step == 1 for axis in axes)
        and fits_boxes(axes)
    )


def cut_last_boxes(plan: Plan, threads: int) -> LastBoxes:
    """Cut every vector of channels into boxes whose input stays close to the core."""
    axes, lanes, reach = kernel_axes(plan), VECTOR_BYTES // DTYPES[plan.accumulate].size, reach_of(kernel_axes(plan))
    low, span = [axis[0] for axis in reach], [axis[1] for axis in reach]
    blocks, channels = [axis.blocks for axis in axes], plan.groups
    box = _box(blocks, span, plan.batch * channels // lanes, threads)
    pitch = box[2] + span[2]
    panel = (box[0] + span[0]) * (box[1] + span[1]) * pitch * lanes
    phases, outer = [], list[int]()
    for taps_d, taps_h in product(axes[0].taps_by_phase(), axes[1].taps_by_phase()):
        phases.append((len(outer) // WORDS, len(taps_d) * len(taps_h)))
        for (k_d, s_d), (k_h, s_h) in product(taps_d, taps_h):
            row = (s_d - low[0]) * (box[1] + span[1]) + s_h - low[1]
            outer += row * pitch * lanes, (k_d * axes[1].kernel + k_h) * axes[2].kernel * lanes
    line = box[2] * axes[2].stride * lanes
    every, stride = math.prod(plan.kernel) * lanes, axes[2].stride
    steps = [
        (stride * channels, channels, axes[1].stride * axes[2].output_size * channels, lanes, pitch * lanes, every),
        (stride * lanes, lanes, line, lanes, pitch * lanes, every),
    ]
    scratch = box[1] * line if plan.activation else 0
    return LastBoxes(
        make_geometry(plan), make_partition(blocks, box, reach, threads, panel + scratch), pitch, panel,
        np.array(phases, np.int64), np.array(outer, np.int64), make_taps(plan, lanes, low[2]),
        np.array(steps, np.int64), channel_table(plan.accumulate),
    )  # fmt: skip


def _box(blocks: list[int], span: list[int], vectors: int, threads: int) -> tuple[int, int, int]:
    """Blocks of a box on each axis, of so many vectors of channels of all images."""
    width = blocks[2] if blocks[2] <= _WHOLE else even(blocks[2], _WIDE)
    rows = _PANEL // (width + span[2])
    depth = even(blocks[0], max(1, round(math.sqrt(rows)) - span[0])) if blocks[0] > 1 else 1
    height = even(blocks[1], max(1, rows // (depth + span[0]) - span[1]))
    while vectors * count_boxes(blocks, (depth, height, width)) < _TASKS * threads and depth * height > 1:
        if depth > height:
            depth = even(depth, -(-depth // 2))
        else:
            height = even(height, -(-height // 2))
    return depth, height, width


@kernel
def depthwise_last_boxes(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of a vector of channels, whose outputs it owns.

    Reads the inputs that reach them, weight and bias; ``work[thread]`` holds the panel, and sums that are activated.
    """
    job = unpack(LastBoxes, table)
    g, threads, panel = job.geometry, job.part.threads, work[thread]
    memory, boxes = Memory(x, weight, bias, out), box_count(job.part)
    vectors = g.groups * panel.itemsize // VECTOR_BYTES
    tasks = g.batch * boxes * vectors
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        vector, number, n = task % vectors, task // vectors % boxes, task // vectors // boxes
        _copy_box(x, panel, job, box_of(job.part, number), n, vector)
        _sum_box(memory, panel, job, box_of(job.part, number), n, vector)
    fence()
    return 0


@inner
def _copy_box(x, panel, job, box, n, vector):
    """Copy the inputs of a vector of channels that reach a box, and zeros beyond the border."""
    g, part, lanes = job.geometry, job.part, VECTOR_BYTES // panel.itemsize
    start, width = box.w + part.low_w, box.width + part.span_w
    low = min(width, max(0, -start))
    high = max(low, min(width, g.in_w - start))
    for d in range(box.depth + part.span_d):
        for h in range(box.height + part.span_h):
            i_d, i_h = box.d + part.low_d + d, box.h + part.low_h + h
            row = (d * (part.box_h + part.span_h) + h) * job.pitch
            exists = 0 <= i_d < g.in_d and 0 <= i_h < g.in_h
            first, past = (low, high) if exists else (width, width)
            copy_row(address(panel, row * lanes), address(panel, 0), 0, 0, first * lanes, 0)
            copy_row(address(panel, (row + past) * lanes), address(panel, 0), 0, 0, (width - past) * lanes, 0)
            pixel = ((n * g.in_d + i_d) * g.in_h + i_h) * g.in_w + start + first
            source = address_as(panel, x, pixel * g.groups + vector * lanes)
            copy_block(address(panel, (row + first) * lanes), lanes, source, g.groups, lanes, past - first)


@inner
def _sum_box(memory, panel, job, box, n, vector):
    """Compute the outputs of a vector of channels of a box."""
    g, out = job.geometry, memory.out
    lanes = VECTOR_BYTES // panel.itemsize
    bypass = g.stream and lanes_past(out, 0) == 0
    for d in range(box.depth):
        for phase in range(g.stride_d * g.stride_h):
            o_d, o_h = (box.d + d) * g.stride_d + phase // g.stride_h, box.h * g.stride_h + phase % g.stride_h
            rows = min(box.height, (g.out_h - o_h + g.stride_h - 1) // g.stride_h)
            if o_d >= g.out_d or rows <= 0:
                continue
            pixel = ((n * g.out_d + o_d) * g.out_h + o_h) * g.out_w + box.w * g.stride_w
            to = address_as(panel, out, pixel * g.groups + vector * lanes)
            if g.activation:
                to = address(panel, job.panel)
            _sum_rows(to, bypass and not g.activation, memory, panel, job, box, d, phase, rows, vector)
            for row in range(rows if g.activation else 0):
                count = min(box.width * g.stride_w, g.out_w - box.w * g.stride_w)
                first = job.panel + row * job.steps[1, 2]
                activate_run(panel, first, count * lanes, g.activation, g.slope)
                for j in range(count):
                    target = address(out, (pixel + row * g.stride_h * g.out_w + j) * g.groups + vector * lanes)
                    interleave_rows(target, address(panel, first + j * lanes), 0, 1, lanes, g.half, g.stream)


@inner
def _sum_rows(to, bypass, memory, panel, job, box, d, phase, rows, vector):
    """Write the outputs of a phase of d and h in a plane of the box from address `to` on."""
    g, taps, lanes = job.geometry, job.taps, VECTOR_BYTES // panel.itemsize
    way = 1 if g.activation else 0
    steps, source = job.steps[way], d * (job.part.box_h + job.part.span_h) * job.pitch
    weight, bias = address(memory.weight, vector * g.volume * lanes), address(memory.bias, vector * lanes)
    outer, outers = address(job.outer, job.phases[phase, BEGINS] * WORDS), job.phases[phase, OUTERS]
    for s in range(taps.sets.shape[0]):
        phases, begin = taps.sets[s, COUNT], offset(to, taps.sets[s, PHASE] * steps[1])
        for stretch in range(taps.sets[s, FIRST], taps.sets[s, END]):
            first = max(box.w, taps.stretches[stretch, BEGIN])
            blocks, done = min(box.w + box.width, taps.stretches[stretch, PAST]) - first, 0
            lists = address(taps.stretches, stretch * taps.stretches.shape[1] + LISTED)
            while done < blocks:
                size = channel_blocks(phases, blocks - done, blocks)
                done = min(done, blocks - size)
                times, block = max(1, (blocks - done) // size), first - box.w + done
                channel_tile(
                    job.tile, offset(begin, block * steps[0]), address(panel, (source + block) * lanes), weight, bias,
                    address(job.steps, way * job.steps.shape[1]), outer, outers, address(taps.inner, 0), lists,
                    rows, times, 1, bypass, size, channel_shape(phases, 1),
                )  # fmt: skip
                done += size * times
