"""Finished sums that are written past the caches while the next ones are computed; channels last.

Such writes take as long as memory does, and products need none of it. So the sums of a chunk stay where they are, the
next chunk has another place, and with each of its tiles some of the results before it leave, in the order of memory.
"""

from __future__ import annotations

import numpy as np

from ..emit.intrinsics import interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, lanes_past, vector_lanes, words
from ..gemm import layout as at
from ..gemm.layout import Layout
from ..gemm.zones import next_stretch, stretch_of
from ..geometry import Geometry
from ..runtime.compiled import inner

#: Elements of a thread's line before what is pending, and words of that: some, and three for each block of a run.
_BEFORE, _WORDS = 1024, 4096
# Of the latter: whether they are in the second of two places, how many runs are left, which is next, and how much of it
# is done; and for each run where it goes, where it is, and its size.
SECOND, LEFT, NEXT, DONE, RUNS = range(5)
TO, FROM, SIZE = range(3)


def has_runs(g: Geometry, layout: Layout) -> bool:
    """Whether the results of every chunk of blocks that follow each other do so too."""
    ends = np.append(layout.chunks[1:, at.FIRST_ROW], layout.row_channels.size)
    rows, channels = ends - layout.chunks[:, at.FIRST_ROW], layout.chunks[:, at.CHANNELS]
    return bool((channels == g.y_pixel).all() and (rows == channels * g.stride_w).all())


@inner
def pending_of(line):
    """What is pending, in the line of a thread."""
    return words(line[_BEFORE : _BEFORE + 2 * _WORDS])


@inner
def forget(pending):
    """Begin with nothing that is pending."""
    pending[SECOND] = pending[LEFT] = 0


@inner
def place_of_sums(pending, job, width):
    """Where sums begin while others are pending: there are two places for them."""
    return 0 if pending[SECOND] else width * job.runs.pixels


@inner
def store_later(out, sums, pending, job, slab, chunk, base, width):
    """List what of the finished sums of a chunk goes where: a run of results for every row of blocks."""
    g = job.geometry
    for i in range(slab.blocks if g.activation else 0):
        activate_run(sums, base + i * width, width, g.activation, g.slope)
    q, count = 0, 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        block, length = row.block, row.length
        o_d, o_h = block.d * g.stride_d + chunk[at.PHASE_D], block.h * g.stride_h + chunk[at.PHASE_H]
        if o_d < g.out_d and o_h < g.out_h:
            o_w, entry = block.w * g.stride_w, RUNS + 3 * count
            pending[entry + TO] = block.n * g.y_batch + ((o_d * g.out_h + o_h) * g.out_w + o_w) * g.y_pixel
            pending[entry + FROM] = base + q * width
            pending[entry + SIZE] = min(length * g.stride_w, g.out_w - o_w) * g.y_pixel
            count += 1
        q += length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)
    pending[SECOND], pending[LEFT], pending[NEXT], pending[DONE] = base, count, RUNS, 0


@inner
def store_some(out, sums, pending, job, most):
    """Write about as many results as that, of those that are pending."""
    g = job.geometry
    while most > 0 and pending[LEFT] > 0:
        entry, done = pending[NEXT], pending[DONE]
        target, size = pending[entry + TO] + done, pending[entry + SIZE] - done
        if lanes_past(out, target) % vector_lanes(address(sums, 0)) == 0:
            size = min(size, most)
        source = address(sums, pending[entry + FROM] + done)
        interleave_rows(address(out, target), source, 0, 1, size, g.half, g.stream)
        most -= size
        pending[DONE] = done + size
        if pending[DONE] == pending[entry + SIZE]:
            pending[LEFT] -= 1
            pending[NEXT], pending[DONE] = entry + 3, 0


@inner
def store_rest(out, sums, pending, job):
    """Write all results that are pending."""
    while pending[LEFT] > 0:
        store_some(out, sums, pending, job, pending[pending[NEXT] + SIZE])
