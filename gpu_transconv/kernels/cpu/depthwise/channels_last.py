"""Depthwise layers with the channels last: every pixel of input and tap is a product of two rows of channels.

A task owns some outputs of a row, each of which is stored once, so no sum has two writers and its order is fixed. A
vector of channels of some blocks is summed in registers, over the taps that reach all of these, and stored where it
belongs, or to scratch memory where it is still activated, or where vectors that go past the caches are not aligned.
Other types than those of the sums, and channels that do not fill a vector, are summed in scratch memory, tap by tap.

There, outputs of a phase may be less than a vector apart. A pixel at a time would wait for the one before, whose store
its load overlaps, and leave most of the vector idle. So the weights of a tap are repeated, for as many pixels, and
outputs of one phase lie next to each other until they are stored.
"""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import copy_block, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, address_as, fence, lanes_past, offset, words
from ..emit.registers import VECTOR_BYTES
from ..emit.sums import add_products
from ..partition import Box, Memory, box_count, box_of
from ..runtime.compiled import inner, kernel
from ..stretches import BEGIN, LISTED, PAST
from ..tiles.channel_tile import WORDS, channel_blocks, channel_shape, channel_tile, channel_vectors
from .channel_rows import DepthwiseLast
from .channel_taps import COUNT, END, FIRST, PHASE


@kernel
def depthwise_last(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a part of a row of blocks, whose outputs it owns.

    Reads the inputs that reach them, weight and bias; ``work[thread]`` holds a list of outer taps, the sums of a row of
    outputs, and with few channels these outputs.
    """
    job = unpack(DepthwiseLast, table)
    g, threads = job.geometry, job.part.threads
    outer, sums = words(work[thread][: job.outer]), work[thread][job.outer :]
    memory, boxes = Memory(x, weight, bias, out), box_count(job.part)
    tasks = g.batch * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        block = box_of(job.part, task % boxes)
        for row in range(g.stride_d * g.stride_h):
            d, h = block.d * g.stride_d + row // g.stride_h, block.h * g.stride_h + row % g.stride_h
            if d < g.out_d and h < g.out_h:
                box = Box(d, h, block.w, 1, 1, block.width)
                _compute_row(memory, job, outer, sums, task // boxes, box)
    fence()
    return 0


@inner
def _compute_row(memory, job, outer, sums, n, box):
    """Compute the outputs of a box, which is a part of one row of them, of image `n`."""
    g, (x, weight, bias, out) = job.geometry, memory
    line = g.stride_w * job.plane if g.stride_w > 1 else 0
    pixel = ((n * g.out_d + box.d) * g.out_h + box.h) * g.out_w + box.w
    if job.tile:
        whole = g.groups % (VECTOR_BYTES // sums.itemsize) == 0 and lanes_past(out, 0) == 0
        direct = not g.activation and (whole or not g.stream)
        to = address_as(sums, out, pixel * g.groups) if direct else address(sums, 0)
        _sum_taps(to, direct and g.stream, memory, sums, job, outer, n, box)
        if direct:
            return
    else:
        size = g.stride_w * job.plane if job.plane else box.width * g.groups
        rows = size // job.row
        copy_block(address(sums, 0), job.row, address(bias, 0), 0, job.row, rows)
        copy_block(address(sums, rows * job.row), 0, address(bias, 0), 0, size - rows * job.row, 1)
        _add_taps(x, weight, sums, job, n, box)
    for phase in range(g.stride_w if line else 0):
        copy_block(
            address(sums, line + phase * g.groups), g.stride_w * g.groups, address(sums, phase * job.plane),
            g.groups, g.groups, (box.width - phase + g.stride_w - 1) // g.stride_w,
        )  # fmt: skip
    activate_run(sums, line, box.width * g.groups, g.activation, g.slope)
    interleave_rows(
        address(out, pixel * g.groups), address(sums, line), 0, 1, box.width * g.groups, g.half, g.stream
    )  # fmt: skip


@inner
def _sum_taps(to, bypass, memory, sums, job, outer, n, box):
    """Write the outputs of a box, which is a part of one row of them; `outer` gets the outer taps that reach it."""
    g, lanes = job.geometry, VECTOR_BYTES // sums.itemsize
    count = 0
    for k_d in range(g.kernel_d):
        for k_h in range(g.kernel_h):
            row = _row_of(job, box, n, k_d, k_h)
            if row >= 0:
                outer[WORDS * count] = row * g.in_w * g.groups
                outer[WORDS * count + 1] = (k_d * g.kernel_h + k_h) * g.kernel_w * lanes
                count += 1
    taps = job.taps
    begin, past = box.w // g.stride_w, (box.w + box.width + g.stride_w - 1) // g.stride_w
    for s in range(taps.sets.shape[0]):
        phase, phases = taps.sets[s, PHASE], taps.sets[s, COUNT]
        for stretch in range(taps.sets[s, FIRST], taps.sets[s, END]):
            first, end = max(begin, taps.stretches[stretch, BEGIN]), min(past, taps.stretches[stretch, PAST])
            if first < end:
                target = offset(to, ((first - begin) * g.stride_w + phase) * g.groups)
                _sum_blocks(target, bypass, memory, sums, job, (outer, count, stretch), phases, first, end - first)


@inner
def _sum_blocks(to, bypass, memory, sums, job, taps, phases, first, blocks):
    """Write the outputs of so many blocks, all of which the same taps reach, in tiles.

    The blocks are from the `first` one of a row on, and their outputs begin at `to`. `taps` are a list of outer taps,
    their number, and a stretch.
    """
    g, lanes = job.geometry, VECTOR_BYTES // sums.itemsize
    x, weight, bias, _ = memory
    outer, count, stretch = taps
    apart, step, every = g.stride_w * g.groups, job.step.w * g.groups, g.volume * lanes
    lists = address(job.taps.stretches, stretch * job.taps.stretches.shape[1] + LISTED)
    done = 0
    while done < blocks:
        size = channel_blocks(phases, blocks - done, blocks)
        done = min(done, blocks - size)
        vector, vectors = 0, g.groups // lanes
        while vector * lanes < g.groups:
            many = channel_vectors(phases, size, vectors - vector)
            times = max(1, (vectors - vector) // many)
            channel = min(vector * lanes, g.groups - lanes)
            channel_tile(
                job.tile, offset(to, done * apart + channel), address_as(sums, x, (first + done) * step + channel),
                address(weight, vector * every), address(bias, channel), address(job.steps, 0),
                address(outer, 0), count, address(job.taps.inner, 0), lists, 1, times, 0, bypass,
                size, channel_shape(phases, many),
            )  # fmt: skip
            vector += many * times
        done += size


@inner
def _row_of(job, box, n, k_d, k_h):
    """Number of the row of the input that a tap of the outer axes brings to a row of outputs, or -1."""
    g = job.geometry
    i_d = box.d // g.stride_d * job.step.d + g.shift_d[k_d]
    i_h = box.h // g.stride_h * job.step.h + g.shift_h[k_h]
    same_phase = g.phase_d[k_d] == box.d % g.stride_d and g.phase_h[k_h] == box.h % g.stride_h
    exists = same_phase and 0 <= i_d < g.in_d and 0 <= i_h < g.in_h
    return (n * g.in_d + i_d) * g.in_h + i_h if exists else -1


@inner
def _add_taps(x, weight, sums, job, n, box):
    """Add every tap that reaches them to the sums of a box, which is a part of one row of outputs."""
    g, step = job.geometry, job.step.w
    for k_d in range(g.kernel_d):
        for k_h in range(g.kernel_h):
            row = _row_of(job, box, n, k_d, k_h)
            if row < 0:
                continue
            source = row * g.in_w
            for k_w in range(g.kernel_w):
                # Blocks whose output of this phase is asked for and whose input exists.
                phase, shift = g.phase_w[k_w], g.shift_w[k_w]
                low = max(-((phase - box.w) // g.stride_w), -(shift // step))
                high = min((box.w + box.width - 1 - phase) // g.stride_w + 1, (g.in_w - 1 - shift) // step + 1)
                tap = (k_d * g.kernel_h + k_h) * g.kernel_w + k_w
                if low >= high:
                    continue
                target, apart = (low * g.stride_w + phase - box.w) * g.groups, g.stride_w * g.groups
                if job.plane:
                    target, apart = phase * job.plane + (low - box.w // g.stride_w) * g.groups, g.groups
                begin, factors = (source + low * step + shift) * g.groups, address(weight, tap * job.row)
                if job.plane and step == 1:  # whole rows of repeated weights
                    rows = (high - low) * g.groups // job.row
                    done = rows * job.row
                    if rows:
                        add_products(
                            address(sums, target), job.row, address(x, begin), job.row, factors, job.row, rows, g.half
                        )
                    left = (high - low) * g.groups - done
                    add_products(address(sums, target + done), 0, address(x, begin + done), 0, factors, left, 1, g.half)
                    continue
                add_products(
                    address(sums, target), apart, address(x, begin), step * g.groups, factors, g.groups, high - low,
                    g.half,
                )  # fmt: skip
