"""From blocks of sums, whose input channels are innermost, to filters; and the sums of several pieces to one."""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import turn_rows
from ..emit.numbers import narrow
from ..emit.pointers import address, address_as
from ..runtime.compiled import inner, kernel
from .partition import WeightGrad
from .tasks import task_of


@kernel
def weight_pieces(_x, _grad_output, zeros, out, table, work, thread):
    """Add the sums of all pieces in pairs, in the place of the first piece's, and store them: a share of the rows.

    Reads and writes the blocks of sums that `weight_products` left in `work`; a thread has rows of its own in all.
    """
    job = unpack(WeightGrad, table)
    g, cut = job.geometry, job.cut
    blocks = g.groups * cut.channel_blocks * cut.filter_blocks * cut.plane_blocks * cut.tap_blocks
    for number in range(blocks):
        task = task_of(job, number)
        f0, f1 = thread * task.filters // job.threads, (thread + 1) * task.filters // job.threads
        row = task.planes * task.taps * cut.pitch
        step = 1
        while step < cut.pieces:
            for piece in range(0, cut.pieces - step, 2 * step):
                target = work[job.threads + piece * blocks + number]
                other = work[job.threads + (piece + step) * blocks + number]
                for i in range(f0 * row, f1 * row):
                    target[i] += other[i]
            step *= 2
        store_block(out, work[job.threads + number], job, task, f0, f1)
    return 0


@inner
def store_block(out, sums, job, task, f0, f1):
    """Store the filters of a block from output channel `f0` to `f1` of the block's."""
    g, cut = job.geometry, job.cut
    row = g.cout * g.volume  # distance of two input channels in the filters
    start = (task.group * g.cin + task.channel0) * row + (task.filter0 + f0) * g.volume
    if task.planes * task.taps == g.volume:  # filters follow each other
        _turn(out, start, row, sums, f0 * g.volume * cut.pitch, cut.pitch, task.channels, (f1 - f0) * g.volume, g.half)
        return
    for f in range(f0, f1):
        for plane in range(task.planes):
            source = (f * task.planes + plane) * task.taps * cut.pitch
            target = start + (f - f0) * g.volume + (task.plane0 + plane) * g.kernel_w + task.tap0
            _turn(out, target, row, sums, source, cut.pitch, task.channels, task.taps, g.half)


@inner
def _turn(out, target, step, sums, source, pitch, count, length, half):
    """Store ``out[target + k*step + j] = sums[source + j*pitch + k]``."""
    if not half:
        to = address_as(sums, out, target)
        turn_rows(to, step, address(sums, source), pitch, count, 0, length, length, 0)
        return
    for k in range(count):
        for j in range(length):
            out[target + k * step + j] = narrow(sums[source + j * pitch + k], out, half)
