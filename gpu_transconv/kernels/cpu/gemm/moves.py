"""What the tiles of gather bring in meanwhile: the moves of the next panel, listed, counted and made."""

from __future__ import annotations

from typing import NamedTuple

from ....arrays.views import Array
from ..emit.numbers import COUPLED
from ..emit.pointers import address
from ..partition import box_count, box_of
from ..runtime.compiled import inner
from ..tiles.box_tile import MOVE_WORDS, move_vectors
from . import layout as at
from .zones import next_stretch, stretch_of


class Coming(NamedTuple):
    """The panel that comes next, which tiles bring in; the lists of moves are told at `box_tile`."""

    x: Array  # the input
    panel: Array  # what is filled
    moves: Array  # list of the moves of a channel
    first: int  # number of the input's first element, if the box of its first channel began there
    listed: int  # moves in the list: of a channel, or of a few
    total: int  # of all channels
    x_step: int  # elements of the input from one use of the list to the next
    step: int  # the same of the panel, or 0 where it is filled later and lines are fetched
    products: int  # of a panel, in a unit of the caller's
    apart: int  # elements of the input between both channels of a couple
    half: int  # see `numbers.HALF_CODES`


@inner
def list_moves(moves, job, task):
    """List what brings in a channel of the panel of a task, as whole vectors, in `moves`; return how many these are.

    The panel is ordered channel, d, h, w, and is filled in this order: the last vector of a row may reach beyond it.
    What is left and right of the image is zero in all boxes where a box has its whole width, and is not written then.
    """
    g, part, cut = job.geometry, job.part, job.cut
    box = box_of(part, task % box_count(part))
    start, width = box.w + part.low_w, box.width + part.span_w
    low = max(0, -start)
    high = max(low, min(width, g.in_w - start))
    begin, end = (low, high) if part.boxes_w == 1 else (0, width)
    count = 0
    for d in range(box.depth + part.span_d):
        i_d = box.d + part.low_d + d
        for h in range(box.height + part.span_h):
            i_h = box.h + part.low_h + h
            present = high if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
            source = (i_d * g.in_h + i_h) * g.in_w + start
            target = (d * (part.box_h + part.span_h) + h) * cut.pitch
            count = _list_row(moves, count, source, target, (begin, end), (low, present), cut.lanes)
    return count


@inner
def _list_row(moves, count, source, target, written, read, lanes):
    """Add to `count` moves those of a row: between two ends it is written, and between two others it is not zero."""
    (begin, end), (low, high) = written, read
    word = count * MOVE_WORDS
    for first in range(begin, end, lanes):
        below, above = min(max(low - first, 0), lanes), min(max(high - first, 0), lanes)
        some = above > below
        # What reads nothing still waits for a line, so it is one that was just read.
        moves[word] = source + first if some or word == 0 else moves[word - MOVE_WORDS]
        moves[word + 1] = target + first
        moves[word + 2] = (1 << above) - (1 << below) if some else 0
        word += MOVE_WORDS
    return word // MOVE_WORDS


@inner
def list_run(moves, job, slab):
    """List what brings in a few channels of a run of blocks, in `moves`; return how many, and how many moves each has.

    The panel is ordered slot, channel, block, and what the last vector of a row reaches beyond it is nobody's.
    """
    g, lay, cut = job.geometry, job.layout, job.runs
    count = q = 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        if cut.flat:
            pixels = g.in_d * g.in_h * g.in_w
            p, n = (slab.first + q) % pixels, (slab.first + q) // pixels
            length = min(pixels - p, slab.blocks - q)
            count = _list_row(moves, count, n * g.x_batch + p, q, (0, length), (0, length), cut.lanes)
            q += length
            continue
        for slot in range(lay.slots.shape[0] if row.exists else 0):
            if job.zones.boxes.shape[0] == 2 or job.zones.reads[row.zone, slot]:
                i_d, i_h = row.block.d + lay.slots[slot, at.SHIFT_D], row.block.h + lay.slots[slot, at.SHIFT_H]
                i_w = row.block.w + lay.slots[slot, at.SHIFT_W]
                low = min(max(0, -i_w), row.length)
                high = min(row.length, g.in_w - i_w) if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
                source = row.block.n * g.x_batch + (i_d * g.in_h + i_h) * g.in_w + i_w
                target = slot * cut.depth * cut.pitch + q
                count = _list_row(moves, count, source, target, (0, row.length), (low, high), cut.lanes)
        q += row.length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)
    channels = max(1, min(slab.depth, moves.size // MOVE_WORDS // max(1, count), cut.listed // max(1, count)))
    for i in range(count, channels * count):
        k, word, first = i // count, i * MOVE_WORDS, i % count * MOVE_WORDS
        moves[word] = moves[first] + k * g.x_channel
        moves[word + 1] = moves[first + 1] + k * cut.pitch
        moves[word + 2] = moves[first + 2]
    return channels, count


@inner
def list_lines(moves, job):
    """List the cache lines of a channel of a box, as moves that read nothing, in `moves`; return how many these are."""
    words = 2 * job.cut.lanes if job.geometry.half == COUPLED else job.cut.lanes
    for i in range(job.cut.fetched):
        moves[MOVE_WORDS * i], moves[MOVE_WORDS * i + 1], moves[MOVE_WORDS * i + 2] = i * words, 0, 0
    return job.cut.fetched


@inner
def coming_panel(x, panel, moves, job, task, k0, listed):
    """The panel from input channel `k0` on of a task, each channel of which `listed` moves bring in."""
    g, cut, boxes = job.geometry, job.cut, box_count(job.part)
    group, n = task // boxes % g.groups, task // boxes // g.groups
    first = n * g.x_batch + (group * g.cin + k0) * g.x_channel
    total = listed * min(cut.depth, g.cin - k0)
    if cut.panels == 1:
        box = box_of(job.part, task % boxes)
        first += (box.d * cut.step.d * g.in_h + box.h * cut.step.h) * g.in_w + box.w * cut.step.w
    step = cut.channel if cut.panels > 1 else 0
    apart = g.x_channel // 2 if cut.panels > 1 else 0  # what is only fetched is not touched, wherever it lies
    return Coming(x, panel, moves, first, max(1, listed), total, g.x_channel, step, 1, apart, g.half)


@inner
def coming_run(x, panel, moves, job, slab, products):
    """The panel of a slab, which the tiles of another with so many `products` bring in."""
    g, cut = job.geometry, job.runs
    channels, count = list_run(moves, job, slab)
    first = (slab.group * g.cin + slab.k0) * g.x_channel
    total = count * slab.depth
    return Coming(
        x, panel, moves, first, channels * count, total, channels * g.x_channel, channels * cut.pitch,
        max(1, products), g.x_channel // 2, g.half,
    )  # fmt: skip


@inner
def make_moves(coming, done, end):
    """Make the moves from number `done` to `end` of what comes, without products; return the number of the next."""
    panel = coming.panel
    while done < end:
        k, i = done // coming.listed, done % coming.listed
        count = min(end - done, coming.listed - i)
        source = address(coming.x, coming.first + k * coming.x_step)
        target, moves = address(panel, k * coming.step), address(coming.moves, MOVE_WORDS * i)
        ahead = coming.x.itemsize * coming.x_step
        move_vectors(source, target, moves, count, ahead, coming.apart, coming.half)
        done += count
    return done
