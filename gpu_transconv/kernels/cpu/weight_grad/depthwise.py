"""Weight gradient of depthwise layers along lines of memory: as in `rows`, with a loop over channels inside.

The lines of a channel may be short and the channels many, so what is done once for a chunk is done for some channels
together: their lines of grad_output are taken apart by phase in one go, and the tables of lines are made once.
"""

from __future__ import annotations

import numpy as np

from ..arguments import unpack
from ..emit.intrinsics import copy_rows, interleave_rows, transpose
from ..emit.pointers import address, address_as, offset
from ..runtime.compiled import inner, kernel
from ..tiles.dot_tile import dot_tile
from .row_partition import WeightRows
from .tasks import inputs_of, lines_met, scratch_of


@kernel
def weight_depthwise(x, grad_output, _zeros, out, table, work, thread):
    """Fill the filters of the channels of one thread in the flat `out`; return how many elements are not finite.

    Reads x and grad_output. Of `work` the thread has for itself a strip, a panel, a copy of the inputs, the sums.
    """
    job = unpack(WeightRows, table)
    g, cut = job.geometry, job.cut
    scratch = scratch_of(work, job, thread)
    sums = scratch[cut.strip + cut.panel + cut.inputs :]
    lines = np.empty(2 * cut.rows, np.int64)
    chunks = g.batch * g.in_d * cut.row_groups * cut.segments
    wrong = 0
    last = (thread + 1) * g.groups // job.threads
    for first in range(thread * g.groups // job.threads, last, cut.together):
        channels = min(cut.together, last - first)
        count = channels * g.volume
        sums[:count] = 0
        for chunk in range(chunks):
            _add_chunk(x, grad_output, scratch, sums, lines, job, first, channels, chunk)
        interleave_rows(address(out, first * g.volume), address(sums, 0), 0, 1, count, g.half, 0)
        for i in range(count):
            wrong += 0 if sums[i] - sums[i] == 0 else 1
    return wrong


@inner
def _add_chunk(x, grad_output, scratch, sums, lines, job, first, channels, chunk):
    """Add the products of one chunk to the sums of some channels from `first` on."""
    g, cut = job.geometry, job.cut
    strip, panel = scratch[: cut.strip], scratch[cut.strip : cut.strip + cut.panel]
    w0, rest = chunk % cut.segments * cut.segment, chunk // cut.segments
    h0, rest = rest % cut.row_groups * cut.rows, rest // cut.row_groups
    i_d, n = rest % g.in_d, rest // g.in_d
    rows, length = min(cut.rows, g.in_h - h0), min(cut.segment, g.in_w - w0)
    start = n * g.x_batch + first * g.x_channel + (i_d * g.in_h + h0) * g.in_w + w0
    at, step, pitch = address_as(sums, x, start), g.x_channel, g.in_w
    if g.half:
        inputs = scratch[cut.strip + cut.panel :]
        at, step, pitch = address(inputs, 0), cut.rows * cut.segment, cut.segment
        for row in range(rows):
            target, source = address(inputs, row * pitch), address(x, start + row * g.in_w)
            copy_rows(target, step, source, g.x_channel, channels, 0, length, length, g.half)
    for k_d in range(g.kernel_d):
        d0, d1 = inputs_of(g.in_d, g.out_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])
        if not d0 <= i_d < d1:
            continue
        o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
        _pack_lines(grad_output, strip, panel, job, n * g.y_batch + first * g.y_channel, channels, o_d, h0, w0)
        for k_h in range(g.kernel_h):
            count = lines_met(lines, job, k_h, h0, rows, pitch)
            tap = (k_d * g.kernel_h + k_h) * g.kernel_w
            for part in range(cut.parts if count else 0):
                column, end = part * g.kernel_w // cut.parts, (part + 1) * g.kernel_w // cut.parts
                for c in range(channels):
                    dot_tile(
                        cut.tile,
                        address(sums, c * g.volume + tap), 0, address(cut.places, column),
                        offset(at, c * step), 0, address(lines, 0),
                        address(panel, c * cut.lines * cut.blocks), address(cut.columns, column),
                        address(lines, cut.rows), count, length, 1, end - column,
                    )  # fmt: skip


@inner
def _pack_lines(grad_output, strip, panel, job, start, channels, o_d, h0, w0):
    """Copy the lines of grad_output that a chunk meets, of each channel from `start` on, taken apart by phase."""
    g, cut = job.geometry, job.cut
    line0 = (h0 - g.shift_h[0]) * g.stride_h + g.phase_h[0]
    first = (w0 - cut.most_shift) * g.stride_w
    total = cut.blocks * g.stride_w
    low = min(max(0, -first), total)
    high = max(low, min(total, g.out_w - first))
    line1, line2 = max(0, -line0), min(cut.lines, g.out_h - line0)
    if line1 >= line2:
        return
    to = address(panel, line1 * total) if g.stride_w == 1 else address(strip, line1 * total)
    source = address(grad_output, start + (o_d * g.out_h + line0 + line1) * g.out_w + first)
    if cut.lines == 1:
        copy_rows(to, total, source, g.y_channel, channels, low, high, total, g.half)
    else:
        for c in range(channels):
            target, of = offset(to, c * cut.lines * total), offset(source, c * g.y_channel)
            copy_rows(target, total, of, g.out_w, line2 - line1, low, high, total, g.half)
    if g.stride_w > 1:
        rows = cut.together * cut.lines * cut.blocks
        transpose(address(panel, 0), rows, address(strip, 0), rows, g.stride_w)
