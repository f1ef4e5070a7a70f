"""Gather along lines of memory: the gradient by the input where few results meet many weights, which stay as they are.

A row of the product, one input channel, has its weights behind each other: output channels, and taps of each. So lanes
lie along the sum, and a row of weights is multiplied with what a result reads of grad_output in the same order: read
where it lies if long lines of it follow each other, as they do where kernels are long, or else from a panel. Nothing is
packed, which for a few hundred results or less took longer than the products. Outside of grad_output a panel holds
zeros; where weights are infinite these make NaN, which is looked for.
"""

from __future__ import annotations

import numpy as np

from ..arguments import unpack
from ..emit.intrinsics import copy_block, fetch
from ..emit.pointers import address, address_as, place
from ..emit.registers import CACHE_LINE
from ..partition import block_of
from ..runtime.compiled import inner, kernel
from ..tiles.dot_tile import dot_tile
from . import line_partition as at
from .line_partition import GatherLines

#: Taps of a row up to which they are copied one by one: a vector for them would mostly cross a cache line.
_SHORT = 4


@kernel
def gather_lines(x, weight, _bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`, the gradient by the input; return how many are not finite.

    Reads `x`, which is grad_output, and `weight` as the caller has it. A task is a block of results of some rows of a
    group, which it owns; ``work[thread]``, a panel, is the thread's alone.
    """
    job = unpack(GatherLines, table)
    cut = job.lines
    tasks = job.geometry.groups * cut.blocks * cut.splits
    places = np.empty((2, cut.columns), np.int64)
    wrong = 0
    for task in range(thread * tasks // job.part.threads, (thread + 1) * tasks // job.part.threads):
        split, rest = task % cut.splits, task // cut.splits
        wrong += _sum_block(x, weight, out, job, work[thread], places, split, rest % cut.blocks, rest // cut.blocks)
    return wrong


@inner
def _sum_block(x, weight, out, job, panel, places, split, block, group):
    """Compute one task; return as `gather_lines` does.

    `places` holds for each result its place in `out` and that of what its first tap reads.
    """
    g, cut = job.geometry, job.lines
    first = block * cut.columns
    count = min(cut.columns, g.batch * g.out_d * g.out_h * g.out_w - first)
    tiles = (g.cout + cut.rows - 1) // cut.rows
    low, high = split * tiles // cut.splits * cut.rows, min(g.cout, (split + 1) * tiles // cut.splits * cut.rows)
    for j in range(count):
        b = block_of(job.part, first + j)
        places[0, j] = b.n * g.y_batch + group * g.cout * g.y_channel + (b.d * g.out_h + b.h) * g.out_w + b.w
        read = ((b.d * cut.step.d + cut.first.d) * g.in_h + b.h * cut.step.h + cut.first.h) * g.in_w
        read += b.w * cut.step.w + cut.first.w + b.n * g.x_batch + group * g.cin * g.x_channel
        places[1, j] = read if cut.direct else j * cut.pitch
    for row in range(low, high):
        for j in range(count):
            out[places[0, j] + row * g.y_channel] = 0
    for c in range(cut.chunks.shape[0]):
        chunk = cut.chunks[c]
        source = address_as(panel, x, chunk[at.START]) if cut.direct else address(panel, 0)
        if not cut.direct:
            for j in range(count):
                _copy_column(x, panel[j * cut.pitch :], job, block_of(job.part, first + j), group, chunk)
        _multiply(weight, out, source, job, places, chunk, group, low, high, count)
    wrong = 0
    for row in range(low, high):
        for j in range(count):
            value = out[places[0, j] + row * g.y_channel]
            wrong += 0 if value - value == 0 else 1
    return wrong


@inner
def _multiply(weight, out, source, job, places, chunk, group, low, high, count):
    """Add the products of a chunk of the rows from `low` to `high` to the results of `count` columns, in `out`.

    While the rows of a tile are multiplied, the weights of the next rows come to the caches.
    """
    g, cut = job.geometry, job.lines
    parts = (count + cut.most - 1) // cut.most
    size = chunk[at.LINES] * chunk[at.LENGTH]
    share = size // parts  # elements of the next rows to ask for at a time
    for row in range(low, high, cut.rows):
        rows = min(cut.rows, high - row)
        first = (group * g.cout + row) * cut.depth + chunk[at.FROM]
        for part in range(parts):
            p, q = part * count // parts, (part + 1) * count // parts
            for soon in range(rows, 2 * rows):
                start = place(weight, first + soon * cut.depth + part * share)
                fetch(start, share * weight.itemsize // CACHE_LINE + 1)
            dot_tile(
                cut.tile,
                address_as(weight, out, row * g.y_channel), g.y_channel, address(places[0], p),
                address(weight, first), cut.depth, address(cut.weight_lines, 0),
                source, address(places[1], p), address(cut.grad_lines, chunk[at.LINE]),
                chunk[at.LINES], chunk[at.LENGTH], rows, q - p,
            )  # fmt: skip


@inner
def _copy_column(x, column, job, block, group, chunk):
    """Copy what one result reads of the chunk's channels of grad_output, in the order of weights; zero outside."""
    g, cut = job.geometry, job.lines
    d0, h0 = block.d * cut.step.d + cut.first.d, block.h * cut.step.h + cut.first.h
    w0 = block.w * cut.step.w + cut.first.w
    d1, h1 = d0 + (g.kernel_d - 1) * cut.spread.d, h0 + (g.kernel_h - 1) * cut.spread.h
    low = min(g.kernel_w, max(0, (cut.spread.w - 1 - w0) // cut.spread.w))
    high = max(low, min(g.kernel_w, (g.in_w - 1 - w0) // cut.spread.w + 1))
    if min(d0, h0) < 0 or low > 0 or d1 >= g.in_d or h1 >= g.in_h or high < g.kernel_w:
        for j in range(chunk[at.CHANNELS] * g.volume):
            column[j] = 0
    channel = block.n * g.x_batch + (group * g.cin + chunk[at.CHANNEL]) * g.x_channel
    for k_d in range(g.kernel_d):
        i_d = d0 + k_d * cut.spread.d
        for k_h in range(g.kernel_h if 0 <= i_d < g.in_d else 0):
            i_h = h0 + k_h * cut.spread.h
            if not 0 <= i_h < g.in_h:
                continue
            start, tap = channel + (i_d * g.in_h + i_h) * g.in_w + w0, (k_d * g.kernel_h + k_h) * g.kernel_w
            if cut.spread.w == 1 and high - low > _SHORT:
                source = address_as(column, x, start + low)
                copy_block(address(column, tap + low), g.volume, source, g.x_channel, high - low, chunk[at.CHANNELS])
                continue
            for k in range(low, high):
                for c in range(chunk[at.CHANNELS]):
                    column[c * g.volume + tap + k] = x[start + c * g.x_channel + k * cut.spread.w]
