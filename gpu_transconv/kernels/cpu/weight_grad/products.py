"""Weight gradient as matrix products: rows are output channels or taps, columns input channels, the depth is pixels.

For a chunk of inputs x is copied into a panel, channels next to each other, and what of grad_output meets it through
some taps into strips. Every tap reads the strips at a place of its own, only where an input and it meet, so that no
zeros are multiplied. A block of sums has the input channels innermost; at the end it is turned into filters.
"""

from __future__ import annotations

import numpy as np

from ..arguments import unpack
from ..emit.gemm_tile import ADD, PER_ROW, ROWS_OF_4, TILE_ROWS, tile
from ..emit.intrinsics import copy_rows, turn_rows
from ..emit.pointers import address, place
from ..emit.registers import VECTOR_BYTES
from ..runtime.compiled import inner, kernel
from .elementwise import inputs_of
from .partition import WeightGrad
from .store import store_block
from .tasks import strip_rows, task_of


@kernel
def weight_products(x, grad_output, zeros, out, table, work, thread):
    """Compute the tasks of one thread: into the flat `out`, or with several pieces into the sums of each task.

    Reads x and grad_output, and `zeros`. ``work[thread]`` is the thread's alone: a panel, the strips of a tile, and the
    sums of a block; with several pieces the sums of task t are those of ``work[threads + t]``.
    """
    job = unpack(WeightGrad, table)
    cut = job.cut
    tasks = cut.pieces * job.geometry.groups * cut.channel_blocks * cut.filter_blocks * cut.plane_blocks
    tasks *= cut.tap_blocks
    scratch = work[thread]
    panel, strips = scratch[: cut.panel], scratch[cut.panel : cut.panel + TILE_ROWS * cut.strip]
    starts = np.empty(3 * cut.rows, np.int64)
    for number in range(thread * tasks // job.threads, (thread + 1) * tasks // job.threads):
        task = task_of(job, number)
        sums = work[job.threads + number] if cut.pieces > 1 else scratch[cut.panel + TILE_ROWS * cut.strip :]
        first, last = task.piece * cut.chunks // cut.pieces, (task.piece + 1) * cut.chunks // cut.pieces
        for chunk in range(first, last):
            _add_chunk(x, grad_output, zeros, panel, strips, sums, starts, job, task, chunk, chunk == first)
        if cut.pieces == 1:
            store_block(out, sums, job, task, 0, task.filters)
    return 0


@inner
def _add_chunk(x, grad_output, zeros, panel, strips, sums, starts, job, task, chunk, is_first):
    """Add the products of one chunk to the `sums` of a task, or begin them."""
    g, cut = job.geometry, job.cut
    row0 = chunk // cut.segments * cut.rows
    rows = min(cut.rows, g.batch * g.in_d * g.in_h - row0)
    w0 = chunk % cut.segments * cut.segment
    w1 = min(w0 + cut.segment, g.in_w)
    _pack_inputs(x, panel, job, task, row0, rows, w0, w1)
    for plane in range(task.plane0, task.plane0 + task.planes):
        k_d, k_h = plane // g.kernel_h, plane % g.kernel_h
        count = strip_rows(starts, job, k_d, k_h, row0, rows)
        for c0 in range(0, task.filters, TILE_ROWS):
            channels = min(TILE_ROWS, task.filters - c0)
            channel = task.group * g.cout + task.filter0 + c0
            _pack_strips(grad_output, strips, starts, job, channel, channels, count, w0)
            if cut.by_tap:
                for c in range(channels):
                    _multiply_taps(panel, strips, sums, zeros, starts, job, task, plane, c0, c, count, w0, w1, is_first)
            else:
                for k_w in range(task.tap0, task.tap0 + task.taps):
                    _multiply_channels(
                        panel, strips, sums, zeros, starts, job, task, plane, c0, channels, k_w, count, w0, w1, is_first
                    )


@inner
def _pack_inputs(x, panel, job, task, row0, rows, w0, w1):
    """Copy the inputs of a chunk into the panel, ordered columns of a tile, pixel, channel."""
    g, cut = job.geometry, job.cut
    lanes = VECTOR_BYTES // panel.itemsize
    wide, whole = cut.vectors * lanes, w1 - w0 == g.in_w
    lines = g.in_d * g.in_h
    row = 0
    while row < rows:
        n, line = (row0 + row) // lines, (row0 + row) % lines
        many = min(rows - row, lines - line) if whole else 1  # rows of an image follow each other
        pixels = many * (w1 - w0)
        channel = task.group * g.cin + task.channel0
        source = n * g.x_batch + channel * g.x_channel + (line * g.in_w + w0) * g.x_pixel
        for c in range(0, task.channels, wide):
            present = min(wide, task.channels - c)
            width = (present + lanes - 1) // lanes * lanes
            target = address(panel, c * cut.segment * cut.rows + row * cut.segment * width)
            at = address(x, source + c * g.x_channel)
            if g.last:
                copy_rows(target, width, at, g.x_pixel, pixels, 0, present, width, g.half)
            else:
                turn_rows(target, width, at, g.x_channel, pixels, 0, present, width, g.half)
        row += many


@inner
def _pack_strips(grad_output, strips, starts, job, channel, channels, count, w0):
    """Copy what of some output channels meets a chunk through the taps of one line, zero outside of grad_output."""
    g, cut = job.geometry, job.cut
    first = w0 * g.stride_w + g.phase_w[0] - g.shift_w[0] * g.stride_w
    low = min(max(0, -first), cut.reach)
    high = max(low, min(cut.reach, g.out_w - first))
    for t in range(count):
        source = starts[t] + channel * g.y_channel + first * g.y_pixel
        if g.last:
            target = address(strips, (t * cut.reach + low) * TILE_ROWS)
            at = address(grad_output, source + low * g.y_pixel)
            copy_rows(target, TILE_ROWS, at, g.y_pixel, high - low, 0, channels, channels, g.half)
        else:
            target = address(strips, t * cut.reach)
            at = address(grad_output, source)
            copy_rows(target, cut.strip, at, g.y_channel, channels, low, high, cut.reach, g.half)


@inner
def _multiply_channels(
    panel, strips, sums, zeros, starts, job, task, plane, c0, channels, k_w, count, w0, w1, is_first
):
    """Products of one tap with the output channels as rows."""
    g, cut = job.geometry, job.cut
    low, high = inputs_of(g.in_w, g.out_w, g.stride_w, g.phase_w[k_w], g.shift_w[k_w])
    low, high = max(low, w0), min(high, w1)
    row = (c0 * task.planes + plane - task.plane0) * task.taps + k_w - task.tap0
    step = task.planes * task.taps
    across = 1 if g.last else cut.strip
    _multiply(
        panel,
        strips,
        sums,
        zeros,
        starts,
        job,
        task,
        row,
        step,
        channels,
        0,
        across,
        k_w,
        count,
        w0,
        low,
        high,
        is_first,
    )


@inner
def _multiply_taps(panel, strips, sums, zeros, starts, job, task, plane, c0, c, count, w0, w1, is_first):
    """Products of one output channel with taps as rows: where all of a tile's meet inputs together, then the rest."""
    g, cut = job.geometry, job.cut
    most = TILE_ROWS if cut.vectors == 2 else ROWS_OF_4
    parts = (task.taps + most - 1) // most
    along = TILE_ROWS if g.last else 1
    dilation = (g.phase_w[1] - g.phase_w[0] - (g.shift_w[1] - g.shift_w[0]) * g.stride_w) if g.kernel_w > 1 else 1
    at = c if g.last else c * cut.strip
    row0 = ((c0 + c) * task.planes + plane - task.plane0) * task.taps
    for part in range(parts):
        k0, k1 = part * task.taps // parts, (part + 1) * task.taps // parts
        low, high = w0, w1
        for k in range(task.tap0 + k0, task.tap0 + k1):
            first, last = inputs_of(g.in_w, g.out_w, g.stride_w, g.phase_w[k], g.shift_w[k])
            low, high = max(low, first), min(high, last)
        high = max(low, high)
        _multiply(
            panel,
            strips,
            sums,
            zeros,
            starts,
            job,
            task,
            row0 + k0,
            1,
            k1 - k0,
            at,
            dilation * along,
            task.tap0 + k0,
            count,
            w0,
            low,
            high,
            is_first,
        )
        for k in range(task.tap0 + k0, task.tap0 + k1):
            first, last = inputs_of(g.in_w, g.out_w, g.stride_w, g.phase_w[k], g.shift_w[k])
            first, last = max(first, w0), min(last, w1)
            row = row0 + k - task.tap0
            if first < min(low, last):
                _multiply(
                    panel,
                    strips,
                    sums,
                    zeros,
                    starts,
                    job,
                    task,
                    row,
                    1,
                    1,
                    at,
                    0,
                    k,
                    count,
                    w0,
                    first,
                    min(low, last),
                    False,
                )
            if max(high, first) < last:
                _multiply(
                    panel,
                    strips,
                    sums,
                    zeros,
                    starts,
                    job,
                    task,
                    row,
                    1,
                    1,
                    at,
                    0,
                    k,
                    count,
                    w0,
                    max(high, first),
                    last,
                    False,
                )


@inner
def _multiply(
    panel, strips, sums, zeros, starts, job, task, row, step, rows, at, across, k_w, count, w0, low, high, is_first
):
    """Run the tiles of `rows` rows of sums, `step` apart from `row` on, for the inputs from `low` to `high` of a line.

    Row m reads the strips from element `at` plus m times `across` on, tap `k_w` of it.
    """
    g, cut = job.geometry, job.cut
    depth = max(0, high - low)
    if not is_first and (count == 0 or depth == 0):
        return
    lanes = VECTOR_BYTES // panel.itemsize
    wide, along = cut.vectors * lanes, TILE_ROWS if g.last else 1
    first = (low - w0) * g.stride_w
    first += (g.phase_w[k_w] - g.shift_w[k_w] * g.stride_w) - (g.phase_w[0] - g.shift_w[0] * g.stride_w)
    for c in range(0, task.channels, wide):
        vectors = (min(wide, task.channels - c) + lanes - 1) // lanes
        width = vectors * lanes
        done = 0
        while done < vectors:
            left = vectors - done
            some = 4 if left == 4 else min(2, left)
            tile(
                cut.tile,
                address(sums, row * cut.pitch + c + done * lanes), address(cut.iota, 0), step * cut.pitch,
                address(strips, at + first * along), across, g.stride_w * along,
                address(starts, 2 * cut.rows), cut.reach * along,
                address(panel, c * cut.segment * cut.rows + (low - w0) * width + done * lanes), width,
                address(starts, cut.rows), width * cut.segment,
                address(zeros, 0), PER_ROW if is_first else ADD, count, depth, place(panel, 0), 0, rows, some,
            )  # fmt: skip
            done += some
