"""What the tiles of gather in boxes bring in meanwhile: the moves of the next panel, listed, counted and made."""

from __future__ import annotations

from typing import NamedTuple

from ....arrays.views import Array
from ..emit.box_tile import MOVE_WORDS, move_vectors
from ..emit.pointers import address, address_as
from ..partition import box_count, box_of
from ..runtime.compiled import inner


class Coming(NamedTuple):
    """The panel that comes next, which tiles bring in; the lists of moves are told at `box_tile`."""

    x: Array  # the input
    panel: Array  # what is filled
    moves: Array  # list of the moves of a channel
    first: int  # number of the input's first element, if the box of its first channel began there
    listed: int  # moves of a channel
    total: int  # of all its channels
    step: int  # elements of the panel from one channel to the next, or 0 where it is filled later and lines are fetched


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
            for first in range(begin, end, cut.lanes):
                below, above = min(max(low - first, 0), cut.lanes), min(max(present - first, 0), cut.lanes)
                moves[count] = source + first
                moves[count + 1] = target + first
                moves[count + 2] = (1 << above) - (1 << below) if above > below else 0
                count += MOVE_WORDS
    return count // MOVE_WORDS


@inner
def list_lines(moves, job):
    """List the cache lines of a channel of a box, as moves that read nothing, in `moves`; return how many these are."""
    for i in range(job.cut.fetched):
        moves[MOVE_WORDS * i], moves[MOVE_WORDS * i + 1], moves[MOVE_WORDS * i + 2] = i * job.cut.lanes, 0, 0
    return job.cut.fetched


@inner
def coming_panel(x, panel, moves, job, task, k0, listed):
    """The panel from input channel `k0` on of a task, each channel of which `listed` moves bring in."""
    g, cut, boxes = job.geometry, job.cut, box_count(job.part)
    group, n = task // boxes % g.groups, task // boxes // g.groups
    first = n * g.x_batch + (group * g.cin + k0) * g.x_channel
    total = listed * min(cut.depth, g.cin - k0)
    if cut.panels > 1:
        return Coming(x, panel, moves, first, max(1, listed), total, cut.channel)
    box = box_of(job.part, task % boxes)
    first += (box.d * cut.step.d * g.in_h + box.h * cut.step.h) * g.in_w + box.w * cut.step.w
    return Coming(x, panel, moves, first, max(1, listed), total, 0)


@inner
def make_moves(coming, job, done, end):
    """Make the moves from number `done` to `end` of what comes, without products; return the number of the next."""
    g, panel = job.geometry, coming.panel
    while done < end:
        k, i = done // coming.listed, done % coming.listed
        count = min(end - done, coming.listed - i)
        source = address_as(panel, coming.x, coming.first + k * g.x_channel)
        target, moves = address(panel, k * coming.step), address(coming.moves, MOVE_WORDS * i)
        move_vectors(source, target, moves, count, panel.itemsize * g.x_channel)
        done += count
    return done
