"""Gather for few output channels with the channels last: pixels times filters, with lanes along the input channels.

Tiles whose lanes are output channels would leave most of these idle, and tiles whose lanes are pixels need the input
turned. Here both operands are read as they lie, and only at the end of a sum are the lanes of vectors added up.

A task is a stretch of a row of blocks. Rows of outputs are put together in scratch memory and stored once.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..arguments import Rows, Table, unpack
from ..emit.intrinsics import copy_block, fetch, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, address_as, fence, offset, place, words
from ..emit.registers import CACHE_LINE, VECTOR_BYTES, has_masks
from ..geometry import Geometry, make_geometry
from ..partition import Box, Partition, PerAxis, box_count, box_of, even, make_partition, reach_of
from ..runtime.compiled import inner, kernel
from ..stretches import BEGIN, LISTED, PAST, find_stretches
from ..tiles.channel_tile import WORDS
from ..tiles.filter_tile import FILTER_ROWS, filter_outputs, filter_tile, filter_tiles

#: Outputs of a row that are put together: 32 KiB of floats. Chosen, not measured.
_LINE = 8192
# Columns of `GatherFilters.sets`: first phase_w and how many, number of inner taps, weights before, first stretch of
# blocks and the one after the last.
PHASE, PHASES, TAPS, WEIGHT, FIRST, END = range(6)


class Set(NamedTuple):
    """Neighbouring phases of the innermost axis that read the same inputs, with these (tap, shift) of each."""

    phase: int
    taps: list[list[tuple[int, int]]]


class GatherFilters(NamedTuple):
    """What the kernel `gather_filters` unpacks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one block to the next
    outer: int  # elements for a list of outer taps
    line: int  # elements of a row of outputs
    parts: int  # vectors of input channels
    sets: Rows  # columns PHASE ... END
    stretches: Rows  # by set, see `stretches`
    inner: Table  # by set its inner taps, in the order of what they read: places in a row of the input, and numbers
    tile: int  # address of the compiled tiles


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    if not plan.channels_last or plan.groups > 1 or plan.fixed_order:
        return False
    rows = max(len(each.taps) for each in sets_of(by_phase(plan).axes[2])) * plan.out_channels
    return rows <= FILTER_ROWS and has_masks(DTYPES[plan.dtype].size)


def sets_of(axis: Axis) -> list[Set]:
    """The sets of an axis, whose taps are in the order of what they read."""
    phases = [sorted(taps, key=lambda each: each[1]) for taps in axis.taps_by_phase()]
    found, phase = [], 0
    for _, run in groupby(phases, key=lambda taps: [each[1] for each in taps]):
        found.append(Set(phase, list(run)))
        phase += len(found[-1].taps)
    return found


def cut_filters(plan: Plan, threads: int) -> GatherFilters:
    """Cut the rows of blocks; the order of every sum does not depend on it."""
    axes, item = by_phase(plan).axes, DTYPES[plan.accumulate].size
    geometry, cin, cout, stride = make_geometry(plan), plan.in_channels, plan.out_channels, axes[2].stride
    parts = -(-cin * item // VECTOR_BYTES)
    width = even(axes[2].blocks, max(1, _LINE // (stride * cout)))
    sets, stretches, inner, weights = [], list[tuple[int, ...]](), list[int](), 0
    outer_taps = axes[0].kernel * axes[1].kernel
    for each in sets_of(axes[2]):
        shifts = [shift for _, shift in each.taps[0]]
        found = find_stretches(axes[2], [(len(inner) // WORDS, shifts)], (0, axes[2].blocks))
        places = len(stretches), len(stretches) + len(found)
        sets.append((each.phase, len(each.taps), len(shifts), weights, *places))
        stretches += found
        for number, shift in enumerate(shifts):
            inner += shift * cin, number
        weights += outer_taps * len(shifts) * len(each.taps) * cout * parts * VECTOR_BYTES // item
    outer = -(-outer_taps * WORDS * 8 // VECTOR_BYTES) * VECTOR_BYTES // item
    line = width * stride * cout + 2 * VECTOR_BYTES
    blocks = [axis.blocks for axis in axes]
    part = make_partition(blocks, (1, 1, width), reach_of(axes), threads, outer + 2 * line)
    return GatherFilters(
        geometry, part, PerAxis(*(axis.step for axis in axes)), outer, line, parts,
        np.array(sets, np.int64), np.array(stretches, np.int64), np.array(inner, np.int64),
        filter_tiles(plan.accumulate, geometry.half),
    )  # fmt: skip


def pack(axes: tuple[Axis, Axis, Axis], weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights by set, outer tap, inner tap, vector of input channels, row and lane; and the bias, for all outputs.

    Rows are phases, and then output channels.
    """
    dtype, lanes = values.dtype, VECTOR_BYTES // values.dtype.itemsize
    cin, cout = weight.shape[0], values.size  # a single input has its taps as channels
    taps = np.zeros((-(-cin // lanes) * lanes, cout, axes[0].kernel * axes[1].kernel, axes[2].kernel), dtype)
    taps[:cin] = weight.reshape(cin, *taps.shape[1:])
    packed = [np.zeros(0, dtype)]
    for each in sets_of(axes[2]):
        numbers = np.array([[tap for tap, _ in phase] for phase in each.taps], np.int64)
        rows = taps[..., numbers.reshape(-1)].reshape(-(-cin // lanes), lanes, *taps.shape[1:3], *numbers.shape)
        packed.append(rows.transpose(3, 5, 0, 4, 2, 1).reshape(-1))  # outer, inner, vector, phase, channel, lane
    return np.concatenate(packed), np.resize(values, cout * (FILTER_ROWS * 2 + 2 * lanes))


@kernel
def gather_filters(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a stretch of a row of blocks, whose outputs it owns.

    Reads the inputs that reach them, weight and bias; ``work[thread]`` holds a list of outer taps, a row of outputs,
    and the same by set.
    """
    job = unpack(GatherFilters, table)
    g, boxes, threads = job.geometry, box_count(job.part), job.part.threads
    tasks = g.batch * boxes
    outer, sums = words(work[thread][: job.outer]), work[thread][job.outer :]
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        block = box_of(job.part, task % boxes)
        for phase in range(g.stride_d * g.stride_h):
            o_d, o_h = block.d * g.stride_d + phase // g.stride_h, block.h * g.stride_h + phase % g.stride_h
            if o_d < g.out_d and o_h < g.out_h:
                box = Box(o_d, o_h, block.w, 1, 1, block.width)
                _filter_row(x, weight, bias, out, outer, sums, job, task // boxes, box, phase == 0)
    fence()
    return 0


@inner
def _filter_row(x, weight, bias, out, outer, sums, job, n, box, first):
    """Compute a stretch of a row of outputs; with the first one of a block what the next block reads is fetched."""
    g = job.geometry
    count, soon = 0, -1
    for k_d in range(g.kernel_d):
        for k_h in range(g.kernel_h):
            i_d = box.d // g.stride_d * job.step.d + g.shift_d[k_d]
            i_h = box.h // g.stride_h * job.step.h + g.shift_h[k_h]
            same = g.phase_d[k_d] == box.d % g.stride_d and g.phase_h[k_h] == box.h % g.stride_h
            if same and 0 <= i_d < g.in_d and 0 <= i_h < g.in_h:
                row = (n * g.in_d + i_d) * g.in_h + i_h
                outer[WORDS * count] = row * g.in_w * g.x_pixel
                outer[WORDS * count + 1] = k_d * g.kernel_h + k_h
                count += 1
                if first:
                    soon = max(soon, (row + 1) * g.in_w * g.x_pixel)
    whole = g.stride_w * g.cout  # outputs of a block
    start = 0
    for s in range(job.sets.shape[0]):
        rows = job.sets[s, PHASES] * g.cout
        target = address(sums, start if rows == whole else job.line + start)
        _filter_set(target, x, weight, bias, outer, job, s, box, count, soon)
        soon = -1
        start += rows * box.width
    start = job.line
    for s in range(job.sets.shape[0]):
        rows = job.sets[s, PHASES] * g.cout
        if rows < whole:
            to = address(sums, job.sets[s, PHASE] * g.cout)
            copy_block(to, whole, address(sums, start), rows, rows, box.width)
            start += rows * box.width
    outputs = min(box.width * g.stride_w, g.out_w - box.w * g.stride_w) * g.cout
    activate_run(sums, 0, outputs, g.activation, g.slope)
    pixel = ((n * g.out_d + box.d) * g.out_h + box.h) * g.out_w + box.w * g.stride_w
    interleave_rows(address(out, pixel * g.y_pixel), address(sums, 0), 0, 1, outputs, g.half, g.stream)


@inner
def _filter_set(target, x, weight, bias, outer, job, s, box, outers, soon):
    """Compute the outputs of set `s` in a stretch: blocks that the same inner taps reach are taken together."""
    g = job.geometry
    rows, taps = job.sets[s, PHASES] * g.cout, job.sets[s, TAPS]
    lanes = VECTOR_BYTES // weight.itemsize
    factors = address(weight, job.sets[s, WEIGHT])
    apart = taps * rows * job.parts * lanes
    most, step = filter_outputs(rows), job.step.w * g.x_pixel
    lines = most * step * x.itemsize // CACHE_LINE + 1
    for stretch in range(job.sets[s, FIRST], job.sets[s, END]):
        block, stop = max(box.w, job.stretches[stretch, BEGIN]), min(box.w + box.width, job.stretches[stretch, PAST])
        first, inners = job.stretches[stretch, LISTED], job.stretches[stretch, LISTED + 1]
        several = stop - block >= most
        while block < stop:
            at = min(block, stop - most) if several else block
            if soon >= 0:
                fetch(place(x, soon + at * step), lines)
            filter_tile(
                job.tile, offset(target, (at - box.w) * rows), address_as(weight, x, at * step), step, factors, apart,
                address(bias, 0), address(outer, 0), outers, address(job.inner, first * WORDS), inners, g.cin,
                rows, 1 if several else 0,
            )  # fmt: skip
            block = at + (most if several else 1)
