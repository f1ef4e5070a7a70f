"""Gather for few output channels: the input is read where it lies, lines of blocks share what they read of it.

Where a channel meets one or two others, bringing it into a panel takes longer than its products. A task is a box of
whole lines; for some input channels at a time, tiles of several lines add to its sums, which stay in cache.
"""

from __future__ import annotations

from ..arguments import unpack
from ..emit.pointers import address, address_as, fence, place, words
from ..gemm import layout as at
from ..gemm.store import store_box
from ..partition import Slab, box_count, box_of
from ..runtime.compiled import inner, kernel
from ..tiles.stencil_tile import stencil_tile
from .stencil_boxes import ROW, ROWS, SHIFT_D, SHIFT_H, TAP, TAPS_H, TAPS_W, WEIGHT, WIDEST, GatherStencil


@kernel
def gather_stencil(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of an image and group, whose outputs it owns."""
    job = unpack(GatherStencil, table)
    g, lay, part, cut = job.geometry, job.layout, job.part, job.cut
    boxes, groups, threads = box_count(part), g.groups, part.threads
    tasks = g.batch * groups * boxes
    masks, sums = words(work[thread, : cut.masks]), work[thread, cut.masks :]
    rows = lay.row_channels.size
    listed = -1
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        box, group, n = box_of(part, task % boxes), task // boxes % groups, task // boxes // groups
        if listed != box.w:
            _list_masks(masks, job, box)
            listed = box.w
        for row in range(rows):
            start = bias[group * rows + row]
            for i in range(row * cut.plane, (row + 1) * cut.plane):
                sums[i] = start
        for k0 in range(0, g.cin, cut.depth):
            slab = Slab(group, k0, min(cut.depth, g.cin - k0))
            for h in range(0, box.height, cut.lines):
                _add_lines(sums, x, weight, masks, job, box, slab, n, h)
        for c in range(lay.chunks.shape[0]):
            store_box(out, sums, lay.chunks[c, at.FIRST_ROW] * cut.plane, job, lay.chunks[c], box, n, group)
    fence()
    return 0


@inner
def _list_masks(masks, job, box):
    """List the lanes of the vectors of a box that exist, by shift from the smallest and vector."""
    g, part, cut = job.geometry, job.part, job.cut
    lane = cut.lane
    vectors = cut.pitch // lane + 1
    for shift in range(part.span_w + 1):
        for v in range(vectors):
            first = box.w + part.low_w + shift + v * lane
            below, above = min(max(-first, 0), lane), min(max(g.in_w - first, 0), lane)
            masks[shift * vectors + v] = (1 << above) - (1 << below) if above > below else 0


@inner
def _add_lines(sums, x, weight, masks, job, box, slab, n, h):
    """Add what some input channels bring to some lines of a box, from line `h` on."""
    g, lay, part, cut = job.geometry, job.layout, job.part, job.cut
    vectors, masks_w = (box.width + cut.lane - 1) // cut.lane, cut.pitch // cut.lane + 1
    lines, x_channel, in_w, depth, plane = min(cut.lines, box.height - h), g.x_channel, g.in_w, slab.depth, cut.plane
    image = n * g.x_batch + slab.group * g.cin * x_channel
    first_weight = (slab.group * lay.weights) * g.cin
    more = slab.k0 + depth < g.cin
    next_channel = image + (slab.k0 + depth if more else 0) * x_channel
    for v in range(0, vectors, cut.vectors):
        some = min(cut.vectors, vectors - v)
        soon = 0
        if cut.ahead:
            line = (box.d + part.low_d + part.span_d) * g.in_h + box.h + h + part.low_h + part.span_h
            soon = place(x, next_channel + (line + (0 if more else cut.lines)) * in_w + cut.lines * in_w * v // vectors)
        for s in range(cut.steps.shape[0]):
            m, taps_h, taps_w = cut.steps[s, ROWS], cut.steps[s, TAPS_H], cut.steps[s, TAPS_W]
            i_d, i_h = box.d + cut.steps[s, SHIFT_D], box.h + h + cut.steps[s, SHIFT_H]
            first, end = max(0, -i_h), min(lines + taps_h - 1, g.in_h - i_h)
            if i_d < 0 or i_d >= g.in_d or first >= end:
                continue
            tap = g.cin * m  # weights from one tap to the next
            a = address(weight, first_weight + cut.steps[s, WEIGHT] * g.cin + slab.k0 * m)
            to = cut.steps[s, ROW] * plane + h * cut.pitch
            source = image + slab.k0 * x_channel + (i_d * g.in_h + i_h) * in_w + box.w + part.low_w
            shifts = address(cut.shifts, cut.steps[s, TAP])
            for u in range(v, v + some, cut.steps[s, WIDEST]):
                wide = min(cut.steps[s, WIDEST], v + some - u)
                stencil_tile(
                    cut.tile, address(sums, to + u * cut.lane), plane, cut.pitch, a, -taps_w * tap, tap,
                    address_as(sums, x, source + u * cut.lane), x_channel, in_w, shifts, address(masks, u), masks_w,
                    taps_w, depth, first, end, soon, 8 * m + taps_h, wide,
                )  # fmt: skip
                soon = 0
