"""Storing where most phases have no taps: rows of sums with the bias around them, and no sums for the rest."""

from __future__ import annotations

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..emit.fill_ir import fill_between, fill_row
from ..emit.pointers import address
from ..emit.registers import VECTOR_BYTES, selects
from ..runtime.compiled import inner
from . import layout as at
from .layout import Layout
from .zones import stretch_of


def can_fill(plan: Plan, layout: Layout) -> bool:
    """Whether of every chunk at most one phase has taps, and others are the bias alone."""
    lanes = VECTOR_BYTES // DTYPES[plan.accumulate].size
    _, h, w = by_phase(plan).axes
    if not selects() or plan.channels_last or layout.paired_h * layout.paired_w > 1 or lanes % w.stride:
        return False
    if w.output_size < lanes + w.stride or h.stride * w.output_size % w.stride:
        return False
    for chunk in layout.chunks:
        sets = layout.sets[chunk[at.FIRST_SET] : chunk[at.END_SET]]
        rows = sets[sets[:, at.TAPS] > 0, at.ROWS]
        alone = len(rows) < 2 and rows.sum() <= chunk[at.CHANNELS]
        if chunk[at.PHASES_H] != h.stride or len(rows) == len(sets) or not alone:
            return False
    return True


@inner
def fill_chunk(out, sums, job, slab, channel, chunk):
    """Store a chunk for the blocks of the slab: of its phases one has taps, or none, and rows of `sums` of its own.

    The first number of another row is the bias, activated. Whole rows that follow each other are written as one run
    of memory.
    """
    g, part, pixels = job.geometry, job.part, job.runs.pixels
    sets, channels = job.layout.sets, chunk[at.CHANNELS]
    tapped, bare = -1, -1
    for s in range(chunk[at.FIRST_SET], chunk[at.END_SET]):
        if sets[s, at.TAPS]:
            tapped = sets[s, at.ROW]
        else:
            bare = sets[s, at.ROW]
    phase_h, phase_w = tapped // channels // g.stride_w, tapped // channels % g.stride_w
    period = g.stride_h * g.out_w
    q = 0
    while q < slab.blocks:
        row = stretch_of(job.zones, g, slab.first + q, slab.blocks - q)
        block, length, rows = row.block, row.length, 1
        whole = length == part.blocks_w
        if whole:
            rows = min(part.blocks_h - block.h, (slab.blocks - q) // length)
        o_d, o_h, o_w = block.d * g.stride_d + chunk[at.PHASE_D], block.h * g.stride_h, block.w * g.stride_w
        lines = min(rows * g.stride_h, g.out_h - o_h) if o_d < g.out_d else 0
        target = block.n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + o_h) * g.out_w + o_w
        outputs = lines * g.out_w if whole else min(length * g.stride_w, g.out_w - o_w)
        present = min(length, (g.out_w - o_w - phase_w + g.stride_w - 1) // g.stride_w)
        for k in range(channels if lines else 0):
            fill, to = address(sums, (bare + k) * pixels), target + k * g.y_channel
            source = address(sums, (tapped + k) * pixels + q)
            for line in range(1 if whole else lines):
                start = address(out, to + line * g.out_w)
                if tapped >= 0 and (whole or line == phase_h):
                    first = phase_w + (phase_h * g.out_w if whole else 0)
                    fill_between(
                        start, source, fill, length, present, period, first, g.stride_w, outputs, g.half, g.stream
                    )  # fmt: skip
                else:
                    fill_row(start, fill, outputs, g.half, g.stream)
        q += rows * length
