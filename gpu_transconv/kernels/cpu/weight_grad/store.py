"""From blocks of sums, whose input channels are innermost, to filters; and the sums of several pieces to one."""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import add_block, interleave_rows, turn_rows
from ..emit.pointers import address, address_as
from ..runtime.compiled import inner, kernel
from .partition import WeightGrad
from .tasks import ROOM, scratch_of, sums_of, task_of

#: Rows that are turned at once on their way to a half type: the lanes of the widest vectors.
_ROWS = 16


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
        add_pieces(work, job, blocks, number, f0 * row, f1 * row)
        store_block(out, sums_of(work, job, number), job, task, f0, f1, scratch_of(work, job, thread)[-ROOM:])
    return 0


@inner
def add_pieces(work, job, blocks, number, low, high):
    """Add the sums of all pieces of a block in pairs, in the place of the first piece's, from `low` to `high`."""
    step = 1
    while step < job.cut.pieces:
        for piece in range(0, job.cut.pieces - step, 2 * step):
            target = sums_of(work, job, piece * blocks + number)
            other = sums_of(work, job, (piece + step) * blocks + number)
            add_block(address(target, low), 0, address(other, low), 0, high - low, 1)
        step *= 2


@inner
def store_block(out, sums, job, task, f0, f1, room):
    """Store the filters of a block from output channel `f0` to `f1` of the block's."""
    g, cut = job.geometry, job.cut
    row = g.cout * g.volume  # distance of two input channels in the filters
    start = (task.group * g.cin + task.channel0) * row + (task.filter0 + f0) * g.volume
    if task.planes * task.taps == g.volume:  # filters follow each other
        some, length = sums[f0 * g.volume * cut.pitch :], (f1 - f0) * g.volume
        turn_into(out, start, row, some, cut.pitch, task.channels, length, g.half, room)
        return
    for f in range(f0, f1):
        for plane in range(task.planes):
            some = sums[(f * task.planes + plane) * task.taps * cut.pitch :]
            target = start + (f - f0) * g.volume + (task.plane0 + plane) * g.kernel_w + task.tap0
            turn_into(out, target, row, some, cut.pitch, task.channels, task.taps, g.half, room)


@inner
def turn_into(out, target, step, sums, pitch, count, length, half, room):
    """Store ``out[target + k*step + j] = sums[j*pitch + k]`` for `count` k, `length` j; half types by `room`."""
    if not half:
        turn_rows(address_as(sums, out, target), step, address(sums, 0), pitch, count, 0, length, length, 0)
        return
    most = ROOM // (_ROWS + 1)
    for k in range(0, count, _ROWS):
        rows = min(_ROWS, count - k)
        for j in range(0, length, most):
            columns = min(most, length - j)
            turn_rows(address(room, 0), most, address(sums, j * pitch + k), pitch, rows, 0, columns, columns, 0)
            for r in range(rows):
                to = address(out, target + (k + r) * step + j)
                interleave_rows(to, address(room, r * most), 0, 1, columns, half, 0)
