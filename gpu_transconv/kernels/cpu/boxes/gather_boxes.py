"""Gather for few output channels: the panel is a box of the input with its margin.

Where a channel meets few others, copying the input once per slot would cost more than the products. So a box is
copied once, and the shifts are distances in it; that the tiles then read across cache lines costs less. Where the input
has a step, as in the gradient by the input, every place of its source blocks has a panel of its own; there the few
channels are those of the input, grad_output, and sums run over channels and taps in one loop.
"""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import copy_every, copy_rows, turn_rows
from ..emit.numbers import BFLOAT16, COUPLED
from ..emit.pointers import address, address_as, cast, fence, place, words
from ..emit.registers import VECTOR_BYTES
from ..gemm import layout as at
from ..gemm.moves import coming_panel, list_lines, list_moves, make_moves
from ..gemm.store import store_box
from ..partition import Slab, box_count, box_of
from ..runtime.compiled import inner, kernel
from ..tiles.box_tile import MOVE_WORDS, box_tile
from ..tiles.flat_tile import flat_tile
from ..tiles.gemm_tile import tile_count, tile_range, tile_vectors
from ..tiles.tile_frame import ADD, PER_ROW
from .box_partition import GatherBoxes


@kernel
def gather_boxes(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of an image and group, whose outputs it owns."""
    job = unpack(GatherBoxes, table)
    boxes, groups, threads = box_count(job.part), job.geometry.groups, job.part.threads
    tasks = job.geometry.batch * groups * boxes
    first, end = thread * tasks // threads, (thread + 1) * tasks // threads
    listed = 0
    for task in range(first, end):
        listed = _gather_box(x, weight, bias, out, job, work[thread], task, task - first, end, listed)
    fence()
    return 0


@inner
def _gather_box(x, weight, bias, out, job, work, task, number, end, listed):
    """Compute the box of a task, all its output channels; it is that `number` of the thread, whose tasks stop at `end`.

    Reads the input of the box with its margin, weight and bias; writes the box's outputs. `work` holds a list of
    moves, a panel of some input channels and perhaps that which comes next, and the sums of one chunk, or of all
    where the channels come in several panels. The number of moves that are `listed` comes from the task before, and is
    returned for the next.
    """
    g, lay, part, cut = job.geometry, job.layout, job.part, job.cut
    boxes = box_count(part)
    box, group, n = box_of(part, task % boxes), task // boxes % g.groups, task // boxes // g.groups
    moves, panels = words(work[: cut.moves]), work[cut.moves :]
    sums = panels[cut.panels * cut.panel :]
    slabs = (g.cin + cut.depth - 1) // cut.depth
    if cut.panels == 1 and number == 0:
        listed = list_lines(moves, job)
    elif number == 0:
        if part.boxes_w == 1:
            panels[: cut.panels * cut.panel] = 0
        listed = list_moves(moves, job, task)
        coming = coming_panel(x, panels, moves, job, task, 0, listed)
        make_moves(coming, 0, coming.total)
    for k in range(slabs):
        slab = Slab(group, k * cut.depth, min(cut.depth, g.cin - k * cut.depth))
        last = k + 1 == slabs
        turn = (number * slabs + k) % cut.panels
        panel = panels[turn * cut.panel : (turn + 1) * cut.panel]
        following = panels[(1 - turn) * cut.panel :] if cut.panels > 1 else work[cut.moves - cut.lanes :]
        if cut.panels == 1:
            channel = n * g.x_batch + (group * g.cin + slab.k0) * g.x_channel
            if cut.step.w > 1 and not g.last:
                _copy_thinned(x, panel, job, box, channel, slab.depth)
            else:
                _copy_box(x, panel, job, box, channel, slab)
        if not last:
            coming = coming_panel(x, following, moves, job, task, slab.k0 + cut.depth, listed)
        else:
            more = task + 1 < end
            listed = list_moves(moves, job, task + 1) if cut.panels > 1 and more else listed
            coming = coming_panel(x, following, moves, job, task + more, 0, listed * more)
        done = 0
        for c in range(lay.chunks.shape[0]):
            chunk = lay.chunks[c]
            row = chunk[at.FIRST_ROW]
            base = row * cut.plane if cut.depth < g.cin else 0
            for s in range(chunk[at.FIRST_SET], chunk[at.END_SET]):
                done = _multiply(sums[base:], panel, weight, bias[row:], job, box, slab, s, coming, done)
            if last:
                store_box(out, sums, base, job, chunk, box, n, group)
        if cut.panels > 1:
            make_moves(coming, done, coming.total)
    return listed


@inner
def _copy_box(x, panel, job, box, channel, slab):
    """Copy the slab's channels of the input that the box reads, from element `channel` of x on; zero outside the image.

    The panel is ordered channel, place in a source block, d, h, w.
    """
    g, part, cut, depth = job.geometry, job.part, job.cut, slab.depth
    places = cut.step.d * cut.step.h * cut.step.w
    for i in range(places * (1 if g.last else depth)):
        k, place_h, place_w = i // places, i // cut.step.w % cut.step.h, i % cut.step.w
        half = BFLOAT16 if g.alone and slab.k0 + k + 1 == g.cin else g.half
        place_d = i % places // (cut.step.h * cut.step.w)
        start = (box.w + part.low_w) * cut.step.w + place_w
        low = max(0, -start)
        high = max(low, min((box.width + part.span_w) * cut.step.w, g.in_w - start))
        for d in range(box.depth + part.span_d):
            i_d = (box.d + part.low_d + d) * cut.step.d + place_d
            for h in range(box.height + part.span_h):
                i_h = (box.h + part.low_h + h) * cut.step.h + place_h
                present = high if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
                pixel = (i_d * g.in_h + i_h) * g.in_w + start
                source = address(x, channel + k * g.x_channel + pixel * g.x_pixel)
                row = (i * (part.box_d + part.span_d) + d) * (part.box_h + part.span_h) + h
                target = address(panel, row * cut.pitch)
                if g.last:
                    _turn_line(target, source, depth, low, present, g, cut)
                else:  # here, since a call with the geometry takes as long as a short row
                    copy_rows(target, 0, source, g.x_channel, 1, low, present, cut.pitch, half)


@inner
def _turn_line(target, source, depth, low, high, g, cut):
    """Channels last: copy a row of `depth` channels of the panel from the inputs between `low` and `high`."""
    step = cut.step.w
    first, end = (low + step - 1) // step, (high + step - 1) // step
    if g.half == COUPLED:  # couples lie as they are wanted
        words = cast(target, source)
        turn_rows(target, cut.channel, words, g.x_pixel // 2 * step, depth, first, end, cut.pitch, 0)
        return
    turn_rows(target, cut.channel, source, g.x_pixel * step, depth, first, end, cut.pitch, g.half)


@inner
def _copy_thinned(x, panel, job, box, channel, depth):
    """The same as `_copy_box`, channels first, where the input has a step on w: the rows of a plane in one call."""
    g, part, cut = job.geometry, job.part, job.cut
    places, step = cut.step.d * cut.step.h * cut.step.w, cut.step.h
    rows, tall = box.height + part.span_h, part.box_h + part.span_h
    for i in range(places * depth):
        k, place_h, place_w = i // places, i // cut.step.w % step, i % cut.step.w
        place_d = i % places // (step * cut.step.w)
        start = (box.w + part.low_w) * cut.step.w + place_w
        low = max(0, -start)
        high = max(low, min((box.width + part.span_w) * cut.step.w, g.in_w - start))
        first = (box.h + part.low_h) * step + place_h
        above = min(rows, max(0, (step - 1 - first) // step))
        below = max(above, min(rows, (g.in_h - 1 - first) // step + 1))
        for d in range(box.depth + part.span_d):
            i_d = (box.d + part.low_d + d) * cut.step.d + place_d
            begin, end = (above, below) if 0 <= i_d < g.in_d else (rows, rows)
            pixel = (i_d * g.in_h + first + begin * step) * g.in_w + start
            source = address(x, channel + k * g.x_channel + pixel)
            row = (i * (part.box_d + part.span_d) + d) * tall
            target = address(panel, row * cut.pitch)
            copy_every(target, cut.pitch, source, 0, begin, low, low, cut.pitch, cut.step.w, g.half)
            target = address(panel, (row + begin) * cut.pitch)
            next_row = step * g.in_w
            copy_every(target, cut.pitch, source, next_row, end - begin, low, high, cut.pitch, cut.step.w, g.half)
            target = address(panel, (row + end) * cut.pitch)
            copy_every(target, cut.pitch, source, 0, rows - end, low, low, cut.pitch, cut.step.w, g.half)


@inner
def _multiply(sums, panel, weight, bias, job, box, slab, s, coming, done):
    """Run the tiles of set `s` on the panel, added to the set's rows of `sums`, which begins with its chunk.

    Reads the set's weights, and `bias`, which begins with its chunk's, where this is the first panel. Of what comes,
    the moves from number `done` on are made meanwhile, in proportion to the products; that of the next is returned.
    """
    g, lay, cut = job.geometry, job.layout, job.cut
    row0, rows, taps = lay.sets[s, at.ROW], lay.sets[s, at.ROWS], lay.sets[s, at.TAPS]
    tap0, first = lay.sets[s, at.TAP], lay.sets[s, at.WEIGHT]
    lane = VECTOR_BYTES // sums.itemsize
    vectors = (box.height * cut.pitch + lane - 1) // lane
    products = max(1, lay.weights * box.depth * vectors)
    ahead = coming.x.itemsize * g.x_channel
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (slab.group * lay.weights + first + low * taps) * g.cin + slab.k0 * m)
        start = address(bias, slab.group * lay.row_channels.size + row0 + low)
        for d in range(box.depth):
            target = (row0 + low) * cut.plane + d * cut.plane_d
            source = d * (job.part.box_h + job.part.span_h) * cut.pitch
            v = 0
            while v < vectors:
                step = tile_vectors(m, vectors - v)
                if cut.flat:
                    flat_tile(
                        cut.flat, address(sums, target + v * lane), cut.plane, a,
                        address(panel, source + v * lane), address(cut.places, tap0 * g.cin), start,
                        taps * g.cin, m, step,
                    )  # fmt: skip
                    v += step
                    continue
                made = (first + low * taps) * box.depth * vectors + m * taps * (d * vectors + v + step)
                until = coming.total * made // products
                k, i = done // coming.listed, done % coming.listed
                count = max(0, min(until - done, min(coming.listed - i, taps * slab.depth)))
                bring = address_as(sums, coming.x, coming.first + k * g.x_channel)
                if cut.panels == 1:  # what is fetched is not touched, or the tile would wait for it
                    bring = address(panel, 0)
                    ahead = place(coming.x, coming.first + k * g.x_channel) - place(panel, 0)
                box_tile(
                    cut.tile,
                    address(sums, target + v * lane), cut.plane, a, address(cut.before, 0),
                    address(panel, source + v * lane), cut.channel, address(cut.offsets, tap0), start,
                    PER_ROW if slab.k0 == 0 else ADD, taps, slab.depth,
                    bring, address(coming.panel, k * coming.step),
                    address(coming.moves, MOVE_WORDS * i), count, ahead, coming.apart, m, step,
                )  # fmt: skip
                done += count
                if count == taps * slab.depth and cut.panels > 1:  # more than the tile could take
                    done = make_moves(coming, done, until)
                v += step
    return done
