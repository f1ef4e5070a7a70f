"""Weight gradient as matrix products: rows are output channels or taps, columns input channels, the depth is pixels.

For a chunk of inputs x is copied into a panel, channels next to each other, and what of grad_output meets it through
some taps into strips. Every tap reads the strips at a place of its own, only where an input and it meet, so that no
zeros are multiplied. A block of sums has the input channels innermost; at the end it is turned into filters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arguments import unpack
from ..emit.intrinsics import copy_rows, turn_rows
from ..emit.pointers import address, place
from ..emit.registers import VECTOR_BYTES
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import ROWS_OF_4, TILE_ROWS, tile
from ..tiles.tile_frame import ADD, PER_ROW
from .partition import WeightGrad
from .store import store_block
from .tasks import ROOM, inputs_of, scratch_of, strip_rows, sums_of, task_of


class Lines(NamedTuple):
    """What of a chunk meets grad_output through a tap of the outer axes, and some output channels of a block."""

    plane: int  # tap of the outer axes
    filter0: int  # within the block
    filters: int
    present: int  # lines
    w0: int  # inputs of a line
    w1: int
    starts: bool  # whether the sums begin here


class Rows(NamedTuple):
    """Rows of sums of one tile: row m reads the strips from element `at` plus m times `across` on, tap `tap` of it."""

    first: int
    step: int
    height: int
    at: int
    across: int
    tap: int
    low: int  # inputs that all of them meet
    high: int


@kernel
def weight_products(x, grad_output, zeros, out, table, work, thread):
    """Compute the tasks of one thread: into the flat `out`, or with several pieces into the sums of each task.

    Reads x and grad_output, and `zeros`. Of `work` the thread has for itself a panel, the strips of a tile, and the
    sums of a block; with several pieces these are the task's.
    """
    job = unpack(WeightGrad, table)
    cut = job.cut
    tasks = cut.pieces * job.geometry.groups * cut.channel_blocks * cut.filter_blocks * cut.plane_blocks
    tasks *= cut.tap_blocks
    scratch = scratch_of(work, job, thread)
    panel, strips = scratch[: cut.panel], scratch[cut.panel : cut.panel + cut.strips]
    starts = np.empty(3 * cut.rows + 2 * cut.taps, np.int64)
    for number in range(thread * tasks // job.threads, (thread + 1) * tasks // job.threads):
        task = task_of(job, number)
        sums = sums_of(work, job, number) if cut.pieces > 1 else scratch[cut.panel + cut.strips :]
        for chunk in range(task.piece * cut.chunks // cut.pieces, (task.piece + 1) * cut.chunks // cut.pieces):
            _pack_inputs(x, panel, job, task, chunk)
            _add_chunk(grad_output, zeros, panel, strips, sums, starts, job, task, chunk)
        if cut.pieces == 1:
            store_block(out, sums, job, task, 0, task.filters, scratch[-ROOM:])
    return 0


@inner
def _segment_of(job, chunk):
    """First line of a chunk, how many, and its inputs of a line."""
    g, cut = job.geometry, job.cut
    row0, w0 = chunk // cut.segments * cut.rows, chunk % cut.segments * cut.segment
    return row0, min(cut.rows, g.batch * g.in_d * g.in_h - row0), w0, min(w0 + cut.segment, g.in_w)


@inner
def _add_chunk(grad_output, zeros, panel, strips, sums, starts, job, task, chunk):
    """Add the products of one chunk, whose inputs are in the panel, to the `sums` of a task, or begin them."""
    g, cut = job.geometry, job.cut
    row0, rows, w0, w1 = _segment_of(job, chunk)
    is_first = chunk == task.piece * cut.chunks // cut.pieces
    ranges = starts[3 * cut.rows :]
    for k in range(task.taps):
        tap = task.tap0 + k
        low, high = inputs_of(g.in_w, g.out_w, g.stride_w, g.phase_w[tap], g.shift_w[tap])
        ranges[2 * k], ranges[2 * k + 1] = max(low, w0), min(high, w1)
    for plane in range(task.plane0, task.plane0 + task.planes):
        count = strip_rows(starts, job, plane // g.kernel_h, plane % g.kernel_h, row0, rows)
        for f0 in range(0, task.filters, TILE_ROWS):
            lines = Lines(plane, f0, min(TILE_ROWS, task.filters - f0), count, w0, w1, is_first)
            _pack_strips(grad_output, strips, starts, job, task, lines)
            if cut.by_tap:
                _multiply_taps(panel, strips, sums, zeros, starts, ranges, job, task, lines)
            else:
                _multiply_channels(panel, strips, sums, zeros, starts, ranges, job, task, lines)


@inner
def _pack_inputs(x, panel, job, task, chunk):
    """Copy the inputs of a chunk into the panel, ordered columns of a tile, pixel, channel."""
    g, cut = job.geometry, job.cut
    row0, rows, w0, w1 = _segment_of(job, chunk)
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
def _first_output(g, tap):
    """Output of the innermost axis at which the first input and a tap meet, cut off or not."""
    return g.phase_w[tap] - g.shift_w[tap] * g.stride_w


@inner
def _pack_strips(grad_output, strips, starts, job, task, lines):
    """Copy what of some output channels meets a chunk through the taps of one line, zero outside of grad_output."""
    g, cut = job.geometry, job.cut
    channel = task.group * g.cout + task.filter0 + lines.filter0
    first = lines.w0 * g.stride_w + _first_output(g, task.tap0)
    low = min(max(0, -first), cut.reach)
    high = max(low, min(cut.reach, g.out_w - first))
    for t in range(lines.present):
        source = starts[t] + channel * g.y_channel + first * g.y_pixel
        if g.last:
            target = address(strips, (t * cut.reach + low) * TILE_ROWS)
            at = address(grad_output, source + low * g.y_pixel)
            copy_rows(target, TILE_ROWS, at, g.y_pixel, high - low, 0, lines.filters, lines.filters, g.half)
        else:
            target, at = address(strips, t * cut.reach), address(grad_output, source)
            copy_rows(target, cut.strip, at, g.y_channel, lines.filters, low, high, cut.reach, g.half)


@inner
def _multiply_channels(panel, strips, sums, zeros, starts, ranges, job, task, lines):
    """Products of each tap with the output channels as rows."""
    g, cut = job.geometry, job.cut
    step, across = task.planes * task.taps, 1 if g.last else cut.strip
    first = (lines.filter0 * task.planes + lines.plane - task.plane0) * task.taps
    for k in range(task.taps):
        rows = Rows(first + k, step, lines.filters, 0, across, task.tap0 + k, ranges[2 * k], ranges[2 * k + 1])
        _multiply(panel, strips, sums, zeros, starts, job, task, lines, rows)


@inner
def _multiply_taps(panel, strips, sums, zeros, starts, ranges, job, task, lines):
    """Products of each output channel with taps as rows: where all of a tile's meet inputs together, then the rest."""
    g, cut = job.geometry, job.cut
    parts = (task.taps - 1) // (TILE_ROWS if cut.vectors == 2 else ROWS_OF_4) + 1
    along, across = TILE_ROWS if g.last else 1, 1 if g.last else cut.strip
    dilation = (_first_output(g, 1) - _first_output(g, 0)) if g.kernel_w > 1 else 1
    after = Lines(lines.plane, lines.filter0, lines.filters, lines.present, lines.w0, lines.w1, False)
    for number in range(lines.filters * parts):
        f, part = number // parts, number % parts
        k0, k1 = part * task.taps // parts, (part + 1) * task.taps // parts
        row = ((lines.filter0 + f) * task.planes + lines.plane - task.plane0) * task.taps
        low, high = lines.w0, lines.w1
        for k in range(k0, k1):
            low, high = max(low, ranges[2 * k]), min(high, ranges[2 * k + 1])
        high = max(low, high)
        rows = Rows(row + k0, 1, k1 - k0, f * across, dilation * along, task.tap0 + k0, low, high)
        _multiply(panel, strips, sums, zeros, starts, job, task, lines, rows)
        for border in range(2 * (k1 - k0)):  # before and behind these inputs, tap by tap
            k = k0 + border // 2
            first, last = ranges[2 * k], ranges[2 * k + 1]
            first, last = (max(high, first), last) if border % 2 else (first, min(low, last))
            if first < last:
                rows = Rows(row + k, 1, 1, f * across, 0, task.tap0 + k, first, last)
                _multiply(panel, strips, sums, zeros, starts, job, task, after, rows)


@inner
def _multiply(panel, strips, sums, zeros, starts, job, task, lines, rows):
    """Run the tiles of some rows of sums for their inputs of each line, or begin the sums."""
    g, cut = job.geometry, job.cut
    depth = max(0, rows.high - rows.low)
    if not lines.starts and (lines.present == 0 or depth == 0):
        return
    lanes = VECTOR_BYTES // panel.itemsize
    wide, along = cut.vectors * lanes, TILE_ROWS if g.last else 1
    first = (rows.low - lines.w0) * g.stride_w + _first_output(g, rows.tap) - _first_output(g, task.tap0)
    for c in range(0, task.channels, wide):
        vectors = (min(wide, task.channels - c) + lanes - 1) // lanes
        width = vectors * lanes
        done = 0
        while done < vectors:
            left = vectors - done
            some = 4 if left == 4 else min(2, left)
            tile(
                cut.tile,
                address(sums, rows.first * cut.pitch + c + done * lanes), address(cut.iota, 0), rows.step * cut.pitch,
                address(strips, rows.at + first * along), rows.across, g.stride_w * along,
                address(starts, 2 * cut.rows), cut.reach * along,
                address(panel, c * cut.segment * cut.rows + (rows.low - lines.w0) * width + done * lanes), width,
                address(starts, cut.rows), width * cut.segment,
                address(zeros, 0), PER_ROW if lines.starts else ADD, lines.present, depth,
                place(panel, 0), 0, rows.height, some,
            )  # fmt: skip
            done += some
