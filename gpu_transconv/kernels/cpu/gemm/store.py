"""From finished sums to the output: activation, rounding, and the interleaving of the phases."""

from __future__ import annotations

from ....problem.rewrites import MOST_PHASES
from ..emit.intrinsics import interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, lanes_past
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import ALIGNED, ALIGNED_STREAMED, LONG
from ..runtime.compiled import inner
from . import layout as at
from .fill import fill_chunk
from .zones import next_stretch, stretch_of

#: Elements of a row that is put together before it is stored: the outputs of one block must fit.
LINE = MOST_PHASES


@inner
def store_chunk(out, sums, line, job, slab, chunk, width):
    """Store a chunk for the blocks of the slab, activated; `sums`, activated in place, are its alone, and so is `line`.

    `sums` holds the chunk's rows, or with channels last one line of `width` for each block.
    """
    g, lay, pixels = job.geometry, job.layout, job.runs.pixels
    if g.activation:
        for i in range(slab.blocks if g.last else width):
            row, count = (i * width, width) if g.last else (i * pixels, slab.blocks)
            activate_run(sums, row, count, g.activation, g.slope)
    channel, channels = slab.group * g.cout + chunk[at.CHANNEL], chunk[at.CHANNELS]
    if job.runs.fills:
        fill_chunk(out, sums, job, slab, channel, chunk)
        return
    merged = job.zones.boxes.shape[0] == 2 and lay.paired_h * lay.paired_w == 1
    if merged and g.stride_d * g.stride_h * g.stride_w == 1:
        _store_pixels(out, sums, job, slab, channel, chunk, width)
        return
    if not g.last and g.stream and g.out_w % (VECTOR_BYTES // sums.itemsize) and g.out_w < LONG:
        for k in range(channels):
            _stream_channel(out, line, sums, k, job, channel + k, chunk, slab)
        return
    stride_h, stride_w = g.stride_h * lay.paired_h, g.stride_w * lay.paired_w
    q = 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        block, length = row.block, row.length
        o_d, o_w = block.d * g.stride_d + chunk[at.PHASE_D], block.w * stride_w
        for phase in range(chunk[at.PHASES_H] * lay.paired_h if row.exists else 0):
            o_h = block.h * stride_h + chunk[at.PHASE_H] + phase
            if o_d >= g.out_d or o_h >= g.out_h:
                continue
            pixel = (o_d * g.out_h + o_h) * g.out_w + o_w
            target = block.n * g.y_batch + channel * g.y_channel + pixel * g.y_pixel
            outputs = min(length * stride_w, g.out_w - o_w)
            if g.last:
                _copy_blocks(
                    out, target, sums, q * width, lay.sets, chunk, width, g.stride_w, g.y_pixel, outputs,
                    g.half, g.stream,
                )  # fmt: skip
            else:
                source = _first_row(lay, chunk, phase) * pixels + q
                interleave(
                    out, target, g.y_channel, sums, source, pixels, channels, stride_w, outputs, g.half, g.stream
                )  # fmt: skip
        q += length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)


@inner
def store_box(out, sums, base, job, chunk, box, n, group):
    """Write a chunk's outputs of the box, activated, from its rows of `sums`, which are activated in place."""
    g, cut, channels = job.geometry, job.cut, chunk[at.CHANNELS]
    outputs = min(box.width * g.stride_w, g.out_w - box.w * g.stride_w)
    rows = channels * g.stride_w
    activate_run(sums, base, rows * chunk[at.PHASES_H] * cut.plane, g.activation, g.slope)
    for d in range(box.depth):
        o_d = (box.d + d) * g.stride_d + chunk[at.PHASE_D]
        for h in range(box.height):
            for phase in range(chunk[at.PHASES_H] if o_d < g.out_d else 0):
                o_h = (box.h + h) * g.stride_h + chunk[at.PHASE_H] + phase
                if o_h >= g.out_h:
                    break
                target = n * g.y_batch + (group * g.cout + chunk[at.CHANNEL]) * g.y_channel
                target += ((o_d * g.out_h + o_h) * g.out_w + box.w * g.stride_w) * g.y_pixel
                source = base + phase * rows * cut.plane + d * cut.plane_d + h * cut.pitch
                if g.last:  # all channels of a pixel follow each other
                    to, sources = address(out, target), address(sums, source)
                    interleave_rows(to, sources, cut.plane, rows, outputs * g.cout, g.half, g.stream)
                    continue
                interleave(
                    out, target, g.y_channel, sums, source, cut.plane, channels,
                    g.stride_w, outputs, g.half, g.stream,
                )  # fmt: skip


@inner
def _store_pixels(out, sums, job, slab, channel, chunk, width):
    """The same where block and output pixel are the same number: whole runs at once, whatever the rows."""
    g, pixels = job.geometry, job.runs.pixels
    image = g.out_d * g.out_h * g.out_w
    q = 0
    while q < slab.blocks:
        p, n = (slab.first + q) % image, (slab.first + q) // image
        length = min(image - p, slab.blocks - q)
        target = n * g.y_batch + channel * g.y_channel + p * g.y_pixel
        if g.last:
            _copy_blocks(
                out, target, sums, q * width, job.layout.sets, chunk, width, 1, g.y_pixel, length, g.half, g.stream
            )  # fmt: skip
        else:
            for k in range(chunk[at.CHANNELS]):
                to, begin = address(out, target + k * g.y_channel), address(sums, q + k * pixels)
                interleave_rows(to, begin, 0, 1, length, g.half, g.stream)
        q += length


@inner
def _stream_channel(out, line, sums, k, job, channel, chunk, slab):
    """Store one channel of a chunk past the caches, though its rows begin and end anywhere.

    Reads the rows of channel `k` of the chunk, `channel` of the output. Rows that follow each other in memory are put
    together in `line`, from which whole aligned vectors leave.
    """
    g, lay, pixels = job.geometry, job.layout, job.runs.pixels
    start, filled = 0, 0  # where the line's first element goes, and how many there are
    stride_h, stride_w = g.stride_h * lay.paired_h, g.stride_w * lay.paired_w
    q = 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        block, length = row.block, row.length
        o_d, o_w = block.d * g.stride_d + chunk[at.PHASE_D], block.w * stride_w
        outputs = min(length * stride_w, g.out_w - o_w)
        for phase in range(chunk[at.PHASES_H] * lay.paired_h if o_d < g.out_d and row.exists else 0):
            o_h = block.h * stride_h + chunk[at.PHASE_H] + phase
            if o_h >= g.out_h:
                break
            to = block.n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + o_h) * g.out_w + o_w
            if to != start + filled or filled + outputs > LINE:
                _flush(out, start, line, filled, g.half)
                start, filled = to, 0
            source = (_first_row(lay, chunk, phase) + k) * pixels + q
            place = address(line, lanes_past(out, start) + filled)
            interleave_rows(place, address(sums, source), chunk[at.CHANNELS] * pixels, stride_w, outputs, 0, ALIGNED)
            filled += outputs
        q += length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)
    _flush(out, start, line, filled, g.half)


@inner
def _first_row(lay, chunk, part):
    """First of a chunk's rows that hold the outputs of a phase_h, of the second block of a pair after the first's."""
    first, phases = chunk[at.PHASE_H], chunk[at.PHASES_H]
    phase, block = first + part % phases, part // phases
    return (lay.products_h[phase] - lay.products_h[first] + block) * lay.products_w * chunk[at.CHANNELS]


@inner
def _flush(out, start, line, count, half):
    """Write `count` elements of the line to `out`, whole aligned vectors past the caches."""
    interleave_rows(address(out, start), address(line, lanes_past(out, start)), 0, 1, count, half, ALIGNED_STREAMED)


@inner
def interleave(out, target, channel, sums, source, row, channels, stride, outputs, half, stream):
    """Write ``out[target + k*channel + j*stride + phase] = sums[phase][k][j]`` for every channel k."""
    for k in range(channels):
        to, begin = address(out, target + k * channel), address(sums, source + k * row)
        interleave_rows(to, begin, channels * row, stride, outputs, half, stream)


@inner
def _copy_blocks(out, target, sums, source, sets, chunk, width, stride, pixel, outputs, half, stream):
    """Channels last: write `outputs` pixels from element `target` on, from the blocks at element `source` of `sums`.

    A block holds, per set, its phases of the chunk's channels in the order of memory.
    """
    count = chunk[at.CHANNELS]
    if count == pixel and width == stride * count:  # blocks follow each other in both
        interleave_rows(address(out, target), address(sums, source), 0, 1, outputs * count, half, stream)
        return
    phase = 0
    for s in range(chunk[at.FIRST_SET], chunk[at.END_SET]):
        row0, phases = sets[s, at.ROW], sets[s, at.ROWS] // count
        for j in range((outputs - phase + stride - 1) // stride):
            o = j * stride + phase
            present = min(phases, outputs - o)
            begin = source + j * width + row0
            if count == pixel:  # the phases of all channels are one run of memory
                to = address(out, target + o * count)
                interleave_rows(to, address(sums, begin), 0, 1, present * count, half, stream)
            else:
                for r in range(present):
                    to = address(out, target + (o + r) * pixel)
                    interleave_rows(to, address(sums, begin + r * count), 0, 1, count, half, stream)
        phase += phases
