"""Weight gradient as matrix products for many input channels: rows are these, columns output channels and taps.

The columns lie in the filters as they do in a tile, so the sums go there at once and are not turned; x is read by rows,
where it is. For some pixels what meets them of grad_output is copied into a panel, zero outside of grad_output. Where
there are such zeros and x is not finite they make NaN of it, which is looked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arguments import unpack
from ..emit.intrinsics import copy_rows, interleave_rows, pick_places, turn_rows
from ..emit.numbers import widen
from ..emit.pointers import address, address_as, offset, place
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import TILE_ROWS, tile
from ..tiles.tile_frame import ADD, PER_ROW
from .column_partition import WeightColumns
from .tasks import scratch_of


class Task(NamedTuple):
    """Some input and output channels: the first of each, of all groups, and how many."""

    channel: int
    channels: int
    filter: int
    columns: int


class Chunk(NamedTuple):
    """Some pixels of all images, and whether the first time that sums are put down."""

    first: int
    pixels: int
    starts: bool


@kernel
def weight_columns(x, grad_output, zeros, out, table, work, thread):
    """Compute the tasks of one thread, filters of their own in `out`; return how many inputs are not finite.

    Reads x and grad_output, and `zeros`. Of `work` the thread has for itself a panel, the inputs of a tile, and the
    sums of a task where they do not go into the filters at once.
    """
    job = unpack(WeightColumns, table)
    g, cut = job.geometry, job.cut
    tasks = g.groups * cut.channel_blocks * cut.filter_blocks
    scratch = scratch_of(work, job, thread)
    panel, inputs = scratch[: cut.panel], scratch[cut.panel : cut.panel + cut.inputs]
    sums = scratch[cut.panel + cut.inputs :]
    pixels = np.empty(5 * cut.pixels, np.int64)
    wrong = 0
    for number in range(thread * tasks // job.threads, (thread + 1) * tasks // job.threads):
        f0, rest = number % cut.filter_blocks * cut.filters, number // cut.filter_blocks
        c0, group = rest % cut.channel_blocks * cut.channels, rest // cut.channel_blocks
        columns, row = min(cut.filters, g.cout - f0) * g.volume, g.cout * g.volume
        task = Task(group * g.cin + c0, min(cut.channels, g.cin - c0), group * g.cout + f0, columns)
        start = task.channel * row + f0 * g.volume
        to, pitch = address(sums, 0), cut.pitch
        if cut.direct:
            to, pitch = address_as(sums, out, start), row
        for number_ in range(cut.chunks):
            first = number_ * cut.pixels
            chunk = Chunk(first, min(cut.pixels, g.batch * g.in_d * g.in_h * g.in_w - first), first == 0)
            inside = _find_pixels(pixels, job, task, chunk)
            _pack_panel(grad_output, panel, pixels, job, task, chunk)
            wrong += _add_chunk(x, zeros, panel, inputs, to, pitch, job, task, chunk, inside)
        for c in range(0 if cut.direct else task.channels):
            interleave_rows(address(out, start + c * row), address(sums, c * cut.pitch), 0, 1, columns, g.half, 0)
    return wrong


@inner
def _find_pixels(pixels, job, task, chunk):
    """Where the outputs of the pixels of a chunk are; return whether all of them are there.

    Writes, of each, the element of its first output of the first channel, whether all taps meet outputs, and the first
    output on each axis.
    """
    g, cut = job.geometry, job.cut
    first_d = g.phase_d[0] - g.shift_d[0] * g.stride_d
    first_h = g.phase_h[0] - g.shift_h[0] * g.stride_h
    first_w = g.phase_w[0] - g.shift_w[0] * g.stride_w
    last_d = g.phase_d[g.kernel_d - 1] - g.shift_d[g.kernel_d - 1] * g.stride_d - first_d
    last_h = g.phase_h[g.kernel_h - 1] - g.shift_h[g.kernel_h - 1] * g.stride_h - first_h
    last_w = g.phase_w[g.kernel_w - 1] - g.shift_w[g.kernel_w - 1] * g.stride_w - first_w
    every = True
    for p in range(chunk.pixels):
        i_w, rest = (chunk.first + p) % g.in_w, (chunk.first + p) // g.in_w
        i_h, rest = rest % g.in_h, rest // g.in_h
        i_d, n = rest % g.in_d, rest // g.in_d
        o_d, o_h, o_w = i_d * g.stride_d + first_d, i_h * g.stride_h + first_h, i_w * g.stride_w + first_w
        inside = o_d >= 0 and o_d + last_d < g.out_d and o_h >= 0 and o_h + last_h < g.out_h
        inside = inside and o_w >= 0 and o_w + last_w < g.out_w
        every = every and inside
        line = (o_d * g.out_h + o_h) * g.out_w + o_w
        pixels[p] = n * g.y_batch + task.filter * g.y_channel + line * g.y_pixel
        pixels[cut.pixels + p] = inside
        pixels[2 * cut.pixels + p] = o_d
        pixels[3 * cut.pixels + p] = o_h
        pixels[4 * cut.pixels + p] = o_w
    return every


@inner
def _pack_panel(grad_output, panel, pixels, job, task, chunk):
    """Copy what the taps bring of grad_output to the pixels of a chunk: columns of a tile, pixel, column."""
    g, cut = job.geometry, job.cut
    step, p = g.stride_w * g.y_pixel, 0
    while p < chunk.pixels:
        q, inside = p + 1, pixels[cut.pixels + p]
        while inside and q < chunk.pixels and pixels[cut.pixels + q]:
            if cut.run and pixels[q] - pixels[q - 1] != step:
                break
            q += 1
        if cut.run:
            _copy_runs(grad_output, panel, pixels, job, task, p, q)
        elif not inside:
            _pick_met(grad_output, panel, pixels, job, task, p)
        else:
            for first in range(0, task.columns, cut.wide):
                pick_places(
                    address(panel, first * cut.pixels + p * cut.wide), cut.wide, address(grad_output, 0),
                    address(pixels, p), address(cut.columns, first), q - p, min(cut.wide, task.columns - first), g.half,
                )  # fmt: skip
        p = q


@inner
def _copy_runs(grad_output, panel, pixels, job, task, p, q):
    """The same for pixels `p` to `q` of a line, by columns whose outputs are next to each other."""
    g, cut = job.geometry, job.cut
    inside, step = pixels[cut.pixels + p], g.stride_w * g.y_pixel
    o_d, o_h, o_w = pixels[2 * cut.pixels + p], pixels[3 * cut.pixels + p], pixels[4 * cut.pixels + p]
    column = 0
    while column < task.columns:
        first = column // cut.wide * cut.wide
        length = min(cut.run - column % cut.run, first + cut.wide - column, task.columns - column)
        low, high = 0, length
        if not inside:
            w = o_w + cut.place_w[column]
            met = 0 <= o_d + cut.place_d[column] < g.out_d and 0 <= o_h + cut.place_h[column] < g.out_h
            if g.last:  # the columns are channels
                met = met and 0 <= w < g.out_w
            else:
                low, high = max(0, -w), min(length, g.out_w - w)
            high = max(low, high) if met else low
        target = address(panel, first * cut.pixels + p * cut.wide + column - first)
        source = address(grad_output, pixels[p] + cut.columns[column])
        copy_rows(target, cut.wide, source, step, q - p, low, high, length, g.half)
        column += length


@inner
def _pick_met(grad_output, panel, pixels, job, task, p):
    """The same for pixel `p`, some of whose taps meet no output, one by one."""
    g, cut = job.geometry, job.cut
    o_d, o_h, o_w = pixels[2 * cut.pixels + p], pixels[3 * cut.pixels + p], pixels[4 * cut.pixels + p]
    for column in range(task.columns):
        met = 0 <= o_d + cut.place_d[column] < g.out_d and 0 <= o_h + cut.place_h[column] < g.out_h
        value = panel.dtype.type(0)
        if met and 0 <= o_w + cut.place_w[column] < g.out_w:
            value = widen(grad_output[pixels[p] + cut.columns[column]], g.half)
        first = column // cut.wide * cut.wide
        panel[first * cut.pixels + p * cut.wide + column - first] = value


@inner
def _add_chunk(x, zeros, panel, inputs, to, pitch, job, task, chunk, inside):
    """Add the products of a chunk to the sums from address `to` on, rows `pitch` apart, or begin them.

    Returns how many inputs are not finite, where not all taps are inside.
    """
    cut = job.cut
    tiles = (task.channels + TILE_ROWS - 1) // TILE_ROWS
    wrong = 0
    mode = PER_ROW if chunk.starts else ADD
    for t in range(tiles):
        c0, c1 = t * task.channels // tiles, (t + 1) * task.channels // tiles
        _copy_inputs(x, inputs, job, task.channel + c0, c1 - c0, chunk)
        if not inside:
            for i in range((c1 - c0) * chunk.pixels):
                wrong += 0 if inputs[i] - inputs[i] == 0 else 1
        for first in range(0, task.columns, cut.wide):
            vectors = 2 if task.columns - first > cut.wide // 2 else 1
            tile(
                cut.tile,
                offset(to, c0 * pitch + first), address(cut.iota, 0), pitch,
                address(inputs, 0), chunk.pixels, 1, address(cut.iota, 0), 0,
                address(panel, first * cut.pixels), cut.wide, address(cut.iota, 0), 0,
                address(zeros, 0), mode, 1, chunk.pixels, place(panel, 0), 0, c1 - c0, vectors,
            )  # fmt: skip
    return wrong


@inner
def _copy_inputs(x, inputs, job, channel, channels, chunk):
    """Copy the pixels of a chunk of some channels, those of a channel next to each other."""
    g = job.geometry
    size = g.in_d * g.in_h * g.in_w
    done = 0
    while done < chunk.pixels:
        n, pixel = (chunk.first + done) // size, (chunk.first + done) % size
        many = min(size - pixel, chunk.pixels - done)
        target = address(inputs, done)
        source = address(x, n * g.x_batch + channel * g.x_channel + pixel * g.x_pixel)
        if g.last:
            turn_rows(target, chunk.pixels, source, g.x_pixel, channels, 0, many, many, g.half)
        else:
            copy_rows(target, chunk.pixels, source, g.x_channel, channels, 0, many, many, g.half)
        done += many
