"""Gather for depthwise layers: every channel by itself, as short filters over rows held in cache.

A task is one output channel of one image, or a box of it. The rows of input that the box reads are copied once, with
zeros around them; then every row of output is the sum of a few rows of input, filtered. Results that are too
large for the caches are put together first, as the run of memory that they are, and leave in whole lines.
"""

from __future__ import annotations

from ..arguments import unpack, values_of
from ..emit.intrinsics import copy_row, copy_rows, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, address_as, fence, lanes_past, offset, offset_bytes, place, vector_lanes
from ..emit.registers import VECTOR_BYTES, selects
from ..emit.row_ir import ALIGNED_STREAMED, STREAMED
from ..partition import box_count, box_of
from ..runtime.compiled import inner, kernel
from ..tiles.fir_tile import filter_rows
from . import channel_boxes as at
from .channel_boxes import Depthwise

SELECTS = selects()  # a number that kernels can read


@kernel
def depthwise(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`, channels first; a task is a box of one channel of one image.

    Reads the box's input, weights and bias and owns its outputs; ``work[thread]`` holds the panel and a line.
    """
    job = values_of(unpack(Depthwise, table))
    # Taken apart once, and boxes handed on by number: 1.2 times as fast on a thousand short rows (kokoro_pool_dw).
    g, part, cut = job.geometry, job.part, job.cut
    boxes, threads = box_count(part), part.threads
    tasks = g.batch * g.groups * cut.multiplier * boxes
    first, end = thread * tasks // threads, (thread + 1) * tasks // threads
    rows = g.in_d * g.in_h * g.kernel_d * g.kernel_h * g.out_d * g.out_h
    if boxes * rows == 1 and part.low_d == part.low_h == 0:
        _filter_channels(x, weight, bias, out, work[thread], g, part, cut, first, end)
        fence()
        return 0
    copied = -1
    for task in range(first, end):
        rest = task // cut.multiplier
        channel = rest // boxes % g.groups * cut.multiplier + task % cut.multiplier
        if rest != copied:  # the output channels of one input channel follow each other
            _copy_box(x, work[thread], g, part, cut, rest % boxes, rest // boxes)
            copied = rest
        _filter_box(weight, bias, out, work[thread], g, part, cut, rest % boxes, rest // boxes // g.groups, channel)
    fence()
    return 0


@inner
def _filter_channels(x, weight, bias, out, work, g, part, cut, first, end):
    """Compute the output channels from `first` to `end`, counted over all images, that are a single row each.

    The same as a box of each of them, in one call: for a row of a few vectors another call for each takes twice as
    long as its filter.
    """
    lanes = VECTOR_BYTES // work.itemsize
    line = cut.panel + (lanes - cut.panel % lanes)
    low = max(0, -part.low_w)
    high = max(low, min(part.blocks_w + part.span_w, g.in_w - part.low_w))
    vectors = (part.blocks_w + lanes - 1) // lanes
    copied, plain = -1, cut.plain
    size = out.itemsize if plain else work.itemsize
    for task in range(first, end):
        image, channel = task // cut.multiplier, task % (g.groups * cut.multiplier)
        if image != copied:
            source = address(x, image * g.x_channel + part.low_w)
            copy_row(address(work, 0), source, low, high, cut.pitch, g.half)
            copied = image
        target = task * g.y_channel
        past = lanes_past(out, target) % lanes
        aligned = past == 0 and g.out_w % lanes == 0
        straight = plain and (not g.stream or SELECTS or aligned)
        stream = STREAMED if aligned else ALIGNED_STREAMED
        to = address_as(work, out, target) if straight else address(work, line + past)
        _filter_lines(
            cut.table, to, 0, 1, 0, (g.out_w, 0), address(work, cut.kept), stream if straight and g.stream else 0, 0,
            address(work, 0), 0, vectors, (0, cut.most), address(cut.outer, 0), address(cut.inner, 0),
            address(weight, channel * g.volume), address(bias, channel), (g.stride_w, cut.lines), size,
        )  # fmt: skip
        if not straight:
            _flush(out, target, work, line + past, g.out_w, g)


@inner
def _copy_box(x, panel, g, part, cut, number, image):
    """Copy the rows of input that a box reads, zero outside the input; `image` counts images and channels."""
    box = box_of(part, number)
    start = box.w + part.low_w
    low = max(0, -start)
    high = max(low, min(box.width + part.span_w, g.in_w - start))
    top, rows, pitch = box.h + part.low_h, box.height + part.span_h, cut.pitch
    above = min(rows, max(0, -top))
    below = max(above, min(rows, g.in_h - top))
    for d in range(box.depth + part.span_d):
        i_d, row = box.d + part.low_d + d, d * (part.box_h + part.span_h)
        first, end = (above, below) if 0 <= i_d < g.in_d else (rows, rows)
        source = address(x, image * g.x_channel + (i_d * g.in_h + top + first) * g.in_w + start)
        copy_rows(address(panel, row * pitch), pitch, source, 0, first, low, low, pitch, g.half)
        target = address(panel, (row + first) * pitch)
        copy_rows(target, pitch, source, g.in_w, end - first, low, high, pitch, g.half)
        copy_rows(address(panel, (row + end) * pitch), pitch, source, 0, rows - end, low, low, pitch, g.half)


@inner
def _filter_box(weight, bias, out, work, g, part, cut, number, n, channel):
    """Compute the outputs of a box of one channel of image `n`.

    Reads the panel at the start of `work`, weight and bias; writes the outputs straight to `out` where that needs
    neither activation nor another type and vectors that are streamed are aligned or can be rotated, else through the
    line behind the panel.
    """
    box = box_of(part, number)
    lanes = VECTOR_BYTES // work.itemsize
    line = cut.panel + (lanes - cut.panel % lanes)
    outputs = min(box.width * g.stride_w, g.out_w - box.w * g.stride_w)
    whole = part.boxes_w == 1  # rows follow each other in memory
    first, plain, size = box.h * g.stride_h, cut.plain, out.itemsize
    count = min(box.height * g.stride_h, g.out_h - first)
    for d in range(box.depth):
        for phase_d in range(g.stride_d):
            o_d = (box.d + d) * g.stride_d + phase_d
            if o_d >= g.out_d:
                continue
            straight, past, aside = True, 0, 0
            target = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + first) * g.out_w + box.w * g.stride_w
            for phase_h in range(0, min(g.stride_h, count), cut.lines):
                start = target if whole else target + phase_h * g.out_w
                past = lanes_past(out, start) % lanes
                aligned = past == 0 and g.out_w % lanes == 0
                straight = plain and (not g.stream or SELECTS or aligned)
                stream = STREAMED if aligned else ALIGNED_STREAMED
                # Vectors that two rows share are put together in the line.
                rotated = straight and g.stream and not aligned
                per = work.itemsize // size  # see `Streamer`
                aside = place(work, line + past) - per * place(out, start) if whole and rotated else 0
                s = (phase_d * g.stride_h + phase_h) // cut.lines
                blocks = (count - phase_h + g.stride_h - 1) // g.stride_h
                others = count // g.stride_h if cut.lines > 1 else 0
                row = phase_h * g.out_w if whole else 0
                to = address_as(work, out, start + row) if straight else address(work, line + past + row)
                source = d * (part.box_h + part.span_h) * cut.pitch
                _filter_plane(
                    to, work, weight, bias, g, cut, source, channel, s, (blocks, others),
                    g.out_w if straight or whole else outputs, box.width, outputs,
                    stream if straight and g.stream else 0, aside, size if straight else work.itemsize,
                )  # fmt: skip
                if not straight and not whole:
                    for row in range(1 + others):  # of boxes that are a part of one row of blocks
                        _flush(out, start + row * g.out_w, work, line + past + row * outputs, outputs, g)
            if not straight and whole:
                _flush(out, target, work, line + past, count * g.out_w, g)
            elif aside:
                _join_rows(out, target, work, line + past, count, g.out_w, g.half)


@inner
def _filter_plane(
    to, work, weight, bias, g, cut, source, channel, s, blocks, apart, width, outputs, stream, aside, size
):  # fmt: skip
    """Filter rows of one phase of the outer axes, or of two at once, and write them from address `to` on.

    Reads the panel, `work` from element `source` on, and the weights and bias of the channel; writes `outputs` outputs
    of each row, which has `width` blocks. `s` counts what is filtered at once of the outer axes; `blocks` is how many
    rows there are of a phase, and of another, which are `apart` from the former; `size` the bytes of an output.
    """
    lanes, (lines, others) = VECTOR_BYTES // work.itemsize, blocks
    step, vectors = g.stride_h * g.out_w, (width + lanes - 1) // lanes
    first = 0
    while first < lines:
        count = others if first < others else lines
        _filter_lines(
            cut.table, offset_bytes(to, first * step * size), step, count - first, apart,
            (outputs, outputs if first < others else 0), address(work, cut.kept), stream, aside,
            address(work, source + first * cut.pitch), cut.pitch, vectors, (cut.across, cut.most),
            address(cut.outer, cut.rows[s, at.FIRST_ROW]), address(cut.inner, 0),
            address(weight, channel * g.volume + cut.rows[s, at.FIRST_WEIGHT]), address(bias, channel),
            (g.stride_w, cut.lines), size,
        )  # fmt: skip
        first = count


@inner
def _filter_lines(
    table, to, step, lines, apart, outputs, kept, stream, aside, source, pitch, vectors, calls, outer, inner, weights,
    bias, shape, size,
):  # fmt: skip
    """Filter `lines` rows of `vectors` vectors of blocks each: from address `source` on, `pitch` apart, to `to`.

    The rows are `step` apart, and those of another phase `apart` from them; `outputs` is how many outputs each has, and
    of another phase. `calls` is whether a call takes a vector of several rows or several vectors of a row, and how many
    at most, `shape` the stride and how many phases a call takes, `size` the bytes of an output; the others are told at
    `fir_tile.filter_rows`.
    """
    lanes, (across, most), (stride, phases), (left, others) = vector_lanes(source), calls, shape, outputs
    h = 0
    while h < lines:
        many = most if across else 1
        while many > lines - h:
            many //= 2
        v = 0
        while v < vectors:
            few = 1 if across else most
            while few > vectors - v:
                few //= 2
            filter_rows(
                table, offset_bytes(to, (h * step + v * lanes * stride) * size),
                step if across else lanes * stride, apart, 0 if across else lanes * stride,
                left - v * lanes * stride, others - v * lanes * stride, kept, v == 0, stream, aside,
                offset(source, h * pitch + v * lanes), pitch if across else lanes,
                outer, inner, weights, bias, stride, many if across else few, phases,
            )  # fmt: skip
            v += few
        h += many


@inner
def _join_rows(out, target, work, source, count, width, half):
    """Write the vectors that rows share, and the first and the last one, from where the filters put them aside.

    The `count` rows of `width` follow each other from element `target` on; aside of it is element `source` of work.
    """
    lanes, end = VECTOR_BYTES // work.itemsize, count * width
    done = -(lanes_past(out, target) % lanes) - 1
    for row in range(count + 1):
        shared = row * width - lanes_past(out, target + row * width) % lanes
        if shared > done and shared < row * width:
            low, high = max(0, shared), min(end, shared + lanes)
            interleave_rows(
                address(out, target + low), address(work, source + low), 0, 1, high - low, half, ALIGNED_STREAMED
            )
            done = shared


@inner
def _flush(out, target, work, source, count, g):
    """Move a run of outputs to memory, whole lines past the caches."""
    activate_run(work, source, count, g.activation, g.slope)
    stream = ALIGNED_STREAMED if g.stream else 0
    interleave_rows(address(out, target), address(work, source), 0, 1, count, g.half, stream)
