"""Scatter: every input element stamps its filter into the output; a matrix product whose rows are stamps.

The output is cut into boxes of blocks; one task owns a box and adds every stamp that reaches it into sums
in cache, one plane per (phase, channel). The input of the box, with the margin that the filter needs, is
copied into a panel of the same row length; then a tap is a fixed distance between panel and plane, and the
tile adds straight into the planes. What a stamp leaves beyond the box lands in the margin and is dropped:
the neighbour computes it for itself. So there are no atomics, no column buffer in memory, and the order of
every sum is fixed.

Where the input has a step, as in the gradient by the input, every place of its source blocks has a panel of its own,
and the taps that read it are a set of rows.
"""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import copy_every, copy_rows
from ..emit.numbers import activate_run, narrow, widen
from ..emit.pointers import address, fence, place
from ..emit.registers import VECTOR_BYTES
from ..gemm import layout as at
from ..gemm.store import interleave
from ..partition import Slab, box_count, box_of
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import tile, tile_count, tile_range, tile_vectors
from ..tiles.tile_frame import ADD
from .stamp_boxes import Scatter


@kernel
def scatter(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`.

    A task is a box of one image and one chunk of channels, whose outputs it owns; ``work[thread]`` is the thread's.
    """
    job = unpack(Scatter, table)
    boxes, threads = box_count(job.part), job.part.threads
    chunks = job.geometry.groups * job.layout.chunks.shape[0]
    tasks = job.geometry.batch * chunks * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        number, rest = task % boxes, task // boxes
        _own_box(x, weight, bias, out, job, work[thread], number, rest % chunks, rest // chunks)
    fence()
    return 0


@inner
def _own_box(x, weight, bias, out, job, work, number, chunk, n):
    """Compute the box of that number of image `n`, for the channels of a chunk, counted over all groups.

    Reads the input whose stamps reach the box, weight and bias; writes the box's outputs. `work` holds a panel of
    some input channels, and the planes of sums.
    """
    g, lay, part, cut = job.geometry, job.layout, job.part, job.cut
    group, c = chunk // lay.chunks.shape[0], chunk % lay.chunks.shape[0]
    channel, count = group * g.cout + lay.chunks[c, at.CHANNEL], lay.chunks[c, at.CHANNELS]
    box = box_of(part, number)
    panel, sums = work[: cut.panel], work[cut.panel :]
    planes = g.stride_d * g.stride_h * g.stride_w
    for i in range(planes * count):
        for j in range(i * cut.plane, (i + 1) * cut.plane):
            sums[j] = bias[channel + i % count]
    for k0 in range(0, g.cin, cut.depth):
        slab = Slab(group, k0, min(cut.depth, g.cin - k0))
        _pack_box(x, panel, job, n, slab, box)
        for s in range(lay.chunks[c, at.FIRST_SET], lay.chunks[c, at.END_SET]):
            # The rows of the box whose input, through this tap of the outer axes, exists.
            stamp = job.stamps.sets[s]
            shift_d, shift_h = stamp[at.STAMP_D], stamp[at.STAMP_H]
            past_d = (g.in_d - 1 - stamp[at.PLACE_D]) // cut.step.d + 1
            past_h = (g.in_h - 1 - stamp[at.PLACE_H]) // cut.step.h + 1
            low_d, high_d = max(box.d, -shift_d), min(box.d + box.depth, past_d - shift_d)
            low_h, high_h = max(box.h, -shift_h), min(box.h + box.height, past_h - shift_h)
            if low_h >= high_h:
                continue
            planes_before = stamp[at.PLANE] * count
            lanes = (high_h - low_h) * cut.pitch
            for d in range(low_d, high_d):
                source = stamp[at.PLACE] * cut.place + (d + shift_d - box.d - part.low_d) * cut.panel_plane
                source += (low_h + shift_h - box.h - part.low_h) * cut.pitch
                target = planes_before * cut.plane + cut.margin + (d - box.d) * cut.plane_d
                target += (low_h - box.h) * cut.pitch
                _stamp(sums, target, panel, source, lanes, weight, job, slab, s, count)
    _store_box(out, sums, job, n, channel, count, box)


@inner
def _stamp(sums, target, panel, source, lanes, weight, job, slab, s, count):
    """Add the stamps of some rows of input, `lanes` elements of the panel from `source` on, through set `s`.

    Reads the panel and the set's weights for the slab; adds to the planes of `sums` from element `target` on, of a
    chunk of `count` channels. What lies beyond a row lands in the planes' margins. Where every sum has one order,
    columns are taken from the last to the first: later taps reach an output from earlier inputs, so it gets its stamps
    by tap, wherever it lies in a row.
    """
    g, lay, cut = job.geometry, job.layout, job.cut
    rows, first = lay.sets[s, at.ROWS], lay.sets[s, at.WEIGHT]
    lane = VECTOR_BYTES // sums.itemsize
    vectors = (lanes + lane - 1) // lane
    offsets = cut.rows if count == cut.channels else cut.last_rows
    before = job.stamps.sets[s, at.FIRST_TAP] * count
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (slab.group * lay.weights + first + low) * g.cin + slab.k0 * m)
        done = 0
        while done < vectors:
            step = tile_vectors(m, vectors - done)
            v = vectors - done - step if cut.backwards else done
            tile(
                cut.tile,
                address(sums, target + v * lane), address(offsets, before + low), 1,
                a, 1, m, address(cut.iota, 0), 0,
                address(panel, source + v * lane), cut.panel_step, address(cut.iota, 0), 0,
                a, ADD, 1, slab.depth, place(panel, 0), 0, m, step,
            )  # fmt: skip
            done += step


@inner
def _pack_box(x, panel, job, n, slab, box):
    """Copy the input that the box reads into the panel, zero outside the image.

    The panel is ordered channel, place in a source block, d, h, w.
    """
    g, part, cut = job.geometry, job.part, job.cut
    places = cut.step.d * cut.step.h * cut.step.w
    for i in range(slab.depth * places):
        place_d = i % places // (cut.step.h * cut.step.w)
        place_h, place_w = i // cut.step.w % cut.step.h, i % cut.step.w
        start = (box.w + part.low_w) * cut.step.w + place_w
        low = max(0, -start)
        high = max(low, min((box.width + part.span_w) * cut.step.w, g.in_w - start))
        channel = n * g.x_batch + (slab.group * g.cin + slab.k0 + i // places) * g.x_channel
        for d in range(box.depth + part.span_d):
            i_d = (box.d + part.low_d + d) * cut.step.d + place_d
            first = i * cut.place + d * cut.panel_plane
            for h in range(box.height + part.span_h):
                i_h = (box.h + part.low_h + h) * cut.step.h + place_h
                inside = 0 <= i_d < g.in_d and 0 <= i_h < g.in_h
                source = channel + ((i_d * g.in_h + i_h) * g.in_w + start) * g.x_pixel
                end = high if inside else low
                if g.last or cut.step.w > 1:
                    _copy_line(x, panel, first + h * cut.pitch, source, low, end, g, cut)
                else:  # here, since a call with the geometry takes as long as a short row
                    target = address(panel, first + h * cut.pitch)
                    copy_rows(target, 0, address(x, source), g.x_channel, 1, low, end, cut.pitch, g.half)
            # Whole vectors may read past the last row.
            slack = first + (box.height + part.span_h) * cut.pitch
            for j in range(slack, slack + cut.slack):
                panel[j] = 0


@inner
def _copy_line(x, panel, target, source, low, high, g, cut):
    """Copy a row of the panel from the inputs between `low` and `high`."""
    step = cut.step.w
    end = low if g.last else high
    copy_every(address(panel, target), 0, address(x, source), 0, 1, low, end, cut.pitch, step, g.half)
    if g.last:
        for j in range((low + step - 1) // step, (high + step - 1) // step):
            panel[target + j] = widen(x[source + j * step * g.x_pixel], g.half)


@inner
def _store_box(out, sums, job, n, channel, count, box):
    """Write the box's outputs of `count` channels from `channel` on, activated in place in the planes of `sums`."""
    g, cut = job.geometry, job.cut
    outputs = min(box.width * g.stride_w, g.out_w - box.w * g.stride_w)
    for o_d in range(box.d * g.stride_d, min((box.d + box.depth) * g.stride_d, g.out_d)):
        for o_h in range(box.h * g.stride_h, min((box.h + box.height) * g.stride_h, g.out_h)):
            phases = (o_d % g.stride_d * g.stride_h + o_h % g.stride_h) * g.stride_w
            source = phases * count * cut.plane + cut.margin
            source += (o_d // g.stride_d - box.d) * cut.plane_d + (o_h // g.stride_h - box.h) * cut.pitch
            if g.activation:
                for i in range(g.stride_w * count):
                    activate_run(sums, source + i * cut.plane, box.width, g.activation, g.slope)
            pixel = (o_d * g.out_h + o_h) * g.out_w + box.w * g.stride_w
            target = n * g.y_batch + channel * g.y_channel + pixel * g.y_pixel
            if g.last:
                _store_last(out, target, sums, source, cut.plane, count, g.stride_w, outputs, g.y_pixel, g.half)
            else:
                interleave(
                    out, target, g.y_channel, sums, source, cut.plane, count, g.stride_w, outputs, g.half, g.stream
                )


@inner
def _store_last(out, target, sums, source, plane, count, stride, outputs, pixel, half):
    """Channels last: write `outputs` pixels of `count` channels, from planes to neighbours, one element at a time."""
    for o in range(outputs):
        begin = source + o % stride * count * plane + o // stride
        for k in range(count):
            out[target + o * pixel + k] = narrow(sums[begin + k * plane], out, half)
