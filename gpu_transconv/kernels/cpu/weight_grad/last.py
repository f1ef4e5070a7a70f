"""Weight gradient of depthwise layers with the channels last: lanes are channels, and only the filters are turned.

Every input is multiplied by what its taps bring of grad_output, and only by that; the products of a segment of a line
are added on their own before they go to the sums of a task.
"""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import add_block, copy_rows
from ..emit.pointers import address, address_as, offset
from ..emit.sums import add_products
from ..runtime.compiled import inner, kernel
from .last_partition import WeightLast
from .store import add_pieces, turn_into
from .tasks import ROOM, scratch_of, sums_of


@kernel
def weight_last(x, grad_output, _zeros, out, table, work, thread):
    """Compute the tasks of one thread: into the flat `out`, or with several pieces into the sums of each task.

    Reads x and grad_output. Of `work` the thread has for itself the sums of a line of taps, a copy of the inputs of a
    chunk, and the sums of a task.
    """
    job = unpack(WeightLast, table)
    g, cut = job.geometry, job.cut
    tasks = cut.pieces * cut.channel_blocks
    scratch = scratch_of(work, job, thread)
    for number in range(thread * tasks // job.threads, (thread + 1) * tasks // job.threads):
        piece, block = number // cut.channel_blocks, number % cut.channel_blocks
        sums = sums_of(work, job, number) if cut.pieces > 1 else scratch[cut.line + cut.inputs :]
        sums[: cut.sums] = 0
        first = block * cut.channels
        channels = min(cut.channels, g.groups - first)
        for chunk in range(piece * cut.chunks // cut.pieces, (piece + 1) * cut.chunks // cut.pieces):
            _add_chunk(x, grad_output, scratch, sums, job, first, channels, chunk)
        if cut.pieces == 1:
            turn_into(out, first * g.volume, g.volume, sums, cut.pitch, channels, g.volume, g.half, scratch[-ROOM:])
    return 0


@kernel
def weight_last_pieces(_x, _grad_output, _zeros, out, table, work, thread):
    """Add the sums of all pieces in pairs, in the place of the first piece's, and store them: a share of the blocks."""
    job = unpack(WeightLast, table)
    g, cut = job.geometry, job.cut
    blocks = cut.channel_blocks
    for block in range(thread * blocks // job.threads, (thread + 1) * blocks // job.threads):
        add_pieces(work, job, blocks, block, 0, cut.sums)
        first = block * cut.channels
        sums, room = sums_of(work, job, block), scratch_of(work, job, thread)[-ROOM:]
        channels = min(cut.channels, g.groups - first)
        turn_into(out, first * g.volume, g.volume, sums, cut.pitch, channels, g.volume, g.half, room)
    return 0


@inner
def _add_chunk(x, grad_output, scratch, sums, job, first, channels, chunk):
    """Add the products of one chunk to the sums of some channels from `first` on."""
    g, cut = job.geometry, job.cut
    w0, rest = chunk % cut.segments * cut.segment, chunk // cut.segments
    i_h, rest = rest % g.in_h, rest // g.in_h
    i_d, n = rest % g.in_d, rest // g.in_d
    w1 = min(w0 + cut.segment, g.in_w)
    start = n * g.x_batch + ((i_d * g.in_h + i_h) * g.in_w + w0) * g.x_pixel + first
    at, step = address_as(sums, x, start), g.x_pixel
    if g.half:
        at, step = address(scratch, cut.line), channels
        copy_rows(at, step, address(x, start), g.x_pixel, w1 - w0, 0, channels, channels, g.half)
    for k_d in range(g.kernel_d):
        o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
        for k_h in range(g.kernel_h):
            o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
            if not (0 <= o_d < g.out_d and 0 <= o_h < g.out_h):
                continue
            line = n * g.y_batch + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel + first
            _multiply_line(at, step, grad_output, line, scratch, job, channels, w0, w1)
            to = address(sums, (k_d * g.kernel_h + k_h) * cut.line)
            add_block(to, cut.pitch, address(scratch, 0), cut.pitch, channels, g.kernel_w)


@inner
def _multiply_line(at, step, grad_output, line, scratch, job, channels, w0, w1):
    """Products of the inputs from `w0` to `w1`, at address `at`, with the line of grad_output at element `line`."""
    g, cut = job.geometry, job.cut
    scratch[: cut.line] = 0
    first = g.phase_w[0] - g.shift_w[0] * g.stride_w
    dilation = (g.phase_w[1] - g.shift_w[1] * g.stride_w - first) if g.kernel_w > 1 else 1
    for i_w in range(w0, w1):
        o_w = i_w * g.stride_w + first
        k0 = max(0, (dilation - 1 - o_w) // dilation)
        k1 = min(g.kernel_w, (g.out_w - 1 - o_w) // dilation + 1)
        if k0 < k1:
            source = address(grad_output, line + (o_w + k0 * dilation) * g.y_pixel)
            add_products(
                address(scratch, k0 * cut.pitch), cut.pitch, source, dilation * g.y_pixel,
                offset(at, (i_w - w0) * step), channels, k1 - k0, g.half,
            )  # fmt: skip
