"""Weight gradient along lines of memory: lanes are pixels, and the sums of a few channels and taps stay in registers.

For layers whose output channels are few, depthwise ones above all, and channels first: x is read where it is, and the
lines of grad_output that a chunk meets are taken apart by phase, so that all taps of a phase read the same numbers at
places of their own. Outside of grad_output there are zeros; where x is infinite these make NaN, which is looked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arguments import unpack
from ..emit.intrinsics import copy_rows, interleave_rows, transpose
from ..emit.pointers import address, address_as, offset
from ..runtime.compiled import inner, kernel
from ..tiles.dot_tile import dot_tile
from .row_partition import WeightRows
from .store import add_pieces
from .tasks import inputs_of, lines_met, scratch_of, sums_of


class Patch(NamedTuple):
    """Lines of x of a few channels, and the tap of the outermost axis that they meet."""

    c0: int  # first input channel, within the block
    channels: int
    k_d: int
    h0: int  # first line
    rows: int  # lines
    length: int  # pixels of a line


@kernel
def weight_rows(x, grad_output, _zeros, out, table, work, thread):
    """Compute the tasks of one thread, into `out` or the sums of each task; return how many sums are not finite.

    Of `work` the thread has for itself a strip, a panel, a copy of the inputs of a tile, and the sums of a task; with
    several pieces these are the task's.
    """
    job = unpack(WeightRows, table)
    g, cut = job.geometry, job.cut
    blocks = g.groups * cut.channel_blocks
    tasks = cut.pieces * blocks
    scratch = scratch_of(work, job, thread)
    strip, panel = scratch[: cut.strip], scratch[cut.strip : cut.strip + cut.panel]
    inputs, own = scratch[cut.strip + cut.panel :], scratch[cut.strip + cut.panel + cut.height * cut.inputs :]
    lines = np.empty(2 * cut.rows, np.int64)
    chunks = g.batch * g.in_d * cut.row_groups * cut.segments
    wrong = 0
    for number in range(thread * tasks // job.threads, (thread + 1) * tasks // job.threads):
        piece, block = number // blocks, number % blocks
        sums = sums_of(work, job, number) if cut.pieces > 1 else own
        sums[: cut.sums] = 0
        for chunk in range(piece * chunks // cut.pieces, (piece + 1) * chunks // cut.pieces):
            _add_chunk(x, grad_output, strip, panel, inputs, sums, lines, job, block, chunk)
        if cut.pieces == 1:
            wrong += _store(out, sums, job, block, 0, 1)
    return wrong


@kernel
def weight_row_pieces(_x, _grad_output, _zeros, out, table, work, thread):
    """Add the sums of all pieces in pairs, in the place of the first piece's, and store them; return as `weight_rows`.

    Reads and writes what `weight_rows` left in `work`; a thread has sums of its own in all blocks.
    """
    job = unpack(WeightRows, table)
    cut = job.cut
    blocks = job.geometry.groups * cut.channel_blocks
    wrong = 0
    for block in range(blocks):
        low, high = thread * cut.sums // job.threads, (thread + 1) * cut.sums // job.threads
        add_pieces(work, job, blocks, block, low, high)
        wrong += _store(out, sums_of(work, job, block), job, block, thread, job.threads)
    return wrong


@inner
def _store(out, sums, job, block, part, parts):
    """Store part `part` of the sums of a block; return how many are not finite."""
    g, cut = job.geometry, job.cut
    row = g.cout * g.volume
    c0 = block % cut.channel_blocks * cut.channels
    count = min(cut.channels, g.cin - c0) * row
    low, high = part * cut.sums // parts, min(count, (part + 1) * cut.sums // parts)
    if low >= high:
        return 0
    start = (block // cut.channel_blocks * g.cin + c0) * row
    interleave_rows(address(out, start + low), address(sums, low), 0, 1, high - low, g.half, 0)
    wrong = 0
    for i in range(low, high):
        wrong += 0 if sums[i] - sums[i] == 0 else 1
    return wrong


@inner
def _add_chunk(x, grad_output, strip, panel, inputs, sums, lines, job, block, chunk):
    """Add the products of one chunk to the sums of a block of input channels."""
    g, cut = job.geometry, job.cut
    w0, rest = chunk % cut.segments * cut.segment, chunk // cut.segments
    h0, rest = rest % cut.row_groups * cut.rows, rest // cut.row_groups
    i_d, n = rest % g.in_d, rest // g.in_d
    rows, length = min(cut.rows, g.in_h - h0), min(cut.segment, g.in_w - w0)
    group, c0 = block // cut.channel_blocks, block % cut.channel_blocks * cut.channels
    channels = min(cut.channels, g.cin - c0)
    source = n * g.x_batch + (group * g.cin + c0) * g.x_channel + (i_d * g.in_h + h0) * g.in_w + w0
    for k_d in range(g.kernel_d):
        d0, d1 = inputs_of(g.in_d, g.out_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])
        if not d0 <= i_d < d1:
            continue
        o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
        line0 = (h0 - g.shift_h[0]) * g.stride_h + g.phase_h[0]
        _pack_lines(grad_output, strip, panel, job, group, n, o_d, line0, w0)
        for c in range(0, channels, cut.height):
            height = min(cut.height, channels - c)
            start, step, pitch = source + c * g.x_channel, g.x_channel, g.in_w
            at = address_as(sums, x, start)
            if g.half:
                step, pitch = cut.inputs, cut.segment
                at = address(inputs, 0)
                for row in range(rows):
                    target, of = address(inputs, row * pitch), address(x, start + row * g.in_w)
                    copy_rows(target, step, of, g.x_channel, height, 0, length, length, g.half)
            _multiply(at, (step, pitch), panel, sums, lines, job, Patch(c, height, k_d, h0, rows, length))


@inner
def _pack_lines(grad_output, strip, panel, job, group, n, o_d, line0, w0):
    """Copy the lines of grad_output from `line0` on, taken apart by phase; those outside of it are left as they are."""
    g, cut = job.geometry, job.cut
    first = (w0 - cut.most_shift) * g.stride_w
    total = cut.blocks * g.stride_w
    low = min(max(0, -first), total)
    high = max(low, min(total, g.out_w - first))
    line1, line2 = max(0, -line0), min(cut.lines, g.out_h - line0)
    if line1 >= line2:
        return
    size = cut.lines * total
    for co in range(g.cout):
        source = n * g.y_batch + (group * g.cout + co) * g.y_channel + (o_d * g.out_h + line0 + line1) * g.out_w + first
        of, plane = address(grad_output, source), address(panel, co * size)
        to = plane if g.stride_w == 1 else address(strip, 0)
        copy_rows(offset(to, line1 * total), total, of, g.out_w, line2 - line1, low, high, total, g.half)
        if g.stride_w > 1:
            transpose(plane, cut.lines * cut.blocks, to, cut.lines * cut.blocks, g.stride_w)


@inner
def _multiply(at, distances, panel, sums, lines, job, patch):
    """Run the tiles of a patch, whose inputs begin at address `at`; `distances` are those of channels and of lines."""
    g, cut = job.geometry, job.cut
    columns, (step, pitch) = g.cout * g.kernel_w, distances
    for k_h in range(g.kernel_h):
        count = lines_met(lines, job, k_h, patch.h0, patch.rows, pitch)
        if not count:
            continue
        start = patch.c0 * g.cout * g.volume + (patch.k_d * g.kernel_h + k_h) * g.kernel_w
        for part in range(cut.parts):
            first, last = part * columns // cut.parts, (part + 1) * columns // cut.parts
            dot_tile(
                cut.tile,
                address(sums, start), g.cout * g.volume, address(cut.places, first),
                at, step, address(lines, 0),
                address(panel, 0), address(cut.columns, first), address(lines, cut.rows),
                count, patch.length, patch.channels, last - first,
            )  # fmt: skip
