"""What a task of the weight gradient is, its memory, and the lines of grad_output that a chunk meets."""

from __future__ import annotations

from typing import NamedTuple

from ..runtime.compiled import inner

#: Elements at the end of each thread's scratch memory, through which filters of a half type are turned.
ROOM = 17 * 64


class Task(NamedTuple):
    """A piece of the chunks, and a block of filters: the first of each, and how many."""

    piece: int
    group: int
    channel0: int  # input channel, within the group
    channels: int
    filter0: int  # output channel, within the group
    filters: int
    plane0: int  # tap of the outer axes
    planes: int
    tap0: int  # tap of the innermost axis
    taps: int


@inner
def scratch_of(work, job, thread):
    """Memory of one thread."""
    return work[0, thread * job.scratch : (thread + 1) * job.scratch]


@inner
def sums_of(work, job, number):
    """Sums of a task, which lie behind the memory of all threads where there are several pieces."""
    start = job.threads * job.scratch + number * job.sums
    return work[0, start : start + job.sums]


@inner
def inputs_of(size, outputs, stride, phase, shift):
    """Range of the inputs that a tap brings to an output, as `Axis.inputs_of` has it."""
    first = max(0, shift)
    return first, max(first, min(size, shift - (phase - outputs) // stride))


@inner
def task_of(job, number):
    """Task of that number, counted with the pieces outermost and the output channels innermost."""
    g, cut = job.geometry, job.cut
    f0, rest = number % cut.filter_blocks * cut.filters, number // cut.filter_blocks
    t0, rest = rest % cut.tap_blocks * cut.taps, rest // cut.tap_blocks
    p0, rest = rest % cut.plane_blocks * cut.planes, rest // cut.plane_blocks
    c0, rest = rest % cut.channel_blocks * cut.channels, rest // cut.channel_blocks
    planes = g.kernel_d * g.kernel_h
    return Task(
        rest // g.groups, rest % g.groups, c0, min(cut.channels, g.cin - c0), f0, min(cut.filters, g.cout - f0),
        p0, min(cut.planes, planes - p0), t0, min(cut.taps, g.kernel_w - t0),
    )  # fmt: skip


@inner
def strip_rows(lines, job, k_d, k_h, row0, rows):
    """Which rows of a chunk meet a line of grad_output through a tap of the outer axes; return how many.

    Writes, of each, the element at which that line begins, the number of the row in the chunk, and its own number.
    """
    g, cut = job.geometry, job.cut
    d0, d1 = inputs_of(g.in_d, g.out_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])
    h0, h1 = inputs_of(g.in_h, g.out_h, g.stride_h, g.phase_h[k_h], g.shift_h[k_h])
    count = 0
    for row in range(rows):
        i_h, rest = (row0 + row) % g.in_h, (row0 + row) // g.in_h
        i_d, n = rest % g.in_d, rest // g.in_d
        if d0 <= i_d < d1 and h0 <= i_h < h1:
            o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
            o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
            lines[count] = n * g.y_batch + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
            lines[cut.rows + count] = row
            lines[2 * cut.rows + count] = count
            count += 1
    return count


@inner
def lines_met(lines, job, k_h, h0, rows, pitch):
    """Which lines of a chunk of `rows` lines from `h0` on meet grad_output through tap `k_h`; return how many.

    Writes, of each, where its inputs are, `pitch` apart, and where in a panel of taken apart lines it is read.
    """
    g, cut = job.geometry, job.cut
    low, high = inputs_of(g.in_h, g.out_h, g.stride_h, g.phase_h[k_h], g.shift_h[k_h])
    low, high = max(0, low - h0), min(rows, high - h0)
    skip = (g.phase_h[k_h] - g.shift_h[k_h] * g.stride_h) - (g.phase_h[0] - g.shift_h[0] * g.stride_h)
    for row in range(low, high):
        lines[row - low] = row * pitch
        lines[cut.rows + row - low] = (row * g.stride_h + skip) * cut.blocks
    return max(0, high - low)
