"""Gather for depthwise layers: every channel by itself, as short filters over rows held in cache.

A task is one output channel of one image, or a box of it. The rows of input that the box reads are copied once, with
zeros around them; then every row of output is the sum of a few rows of input, filtered. Results that are too
large for the caches are put together first, as the run of memory that they are, and leave in whole lines.
"""

from __future__ import annotations

from .activation import activate
from .channel_boxes import ChannelBoxes
from .compiled import inner, kernel
from .fir import filter_rows
from .geometry import Geometry
from .layout import LAYOUT
from .packing import VECTOR_BYTES
from .tables import unpack
from .vectors import address, address_as, copy_row, fence, interleave_rows, lanes_past, offset


@kernel
def depthwise(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`, channels first; a task is a box of one channel of one image."""
    g, b = unpack(Geometry, table, 0), unpack(ChannelBoxes, table, LAYOUT)
    boxes = b.boxes_d * b.boxes_h * b.boxes_w
    channels = g.groups * b.multiplier
    tasks = g.batch * channels * boxes
    copied = -1
    for task in range(thread * tasks // b.threads, (thread + 1) * tasks // b.threads):
        rest = task // b.multiplier
        channel = rest // boxes % g.groups * b.multiplier + task % b.multiplier
        if rest != copied:  # the output channels of one input channel follow each other
            _copy_box(x, work[thread], g, b, rest % boxes, rest // boxes)
            copied = rest
        _filter_box(weight, bias, out, work[thread], g, b, rest % boxes, rest // boxes // g.groups, channel)
    fence()
    return 0


@inner
def _corner(b, box):
    w0, rest = box % b.boxes_w * b.box_w, box // b.boxes_w
    h0, d0 = rest % b.boxes_h * b.box_h, rest // b.boxes_h * b.box_d
    return d0, h0, w0, min(b.box_d, b.blocks_d - d0), min(b.box_h, b.blocks_h - h0), min(b.box_w, b.blocks_w - w0)


@inner
def _copy_box(x, panel, g, b, box, image):
    """Copy the rows of input that a box reads, zero outside the input; `image` counts images and channels."""
    d0, h0, w0, depth, height, width = _corner(b, box)
    start = w0 + b.low_w
    low = max(0, -start)
    high = max(low, min(width + b.span_w, g.in_w - start))
    for d in range(depth + b.span_d):
        i_d = d0 + b.low_d + d
        for h in range(height + b.span_h):
            i_h = h0 + b.low_h + h
            present = high if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
            source = address(x, image * g.x_channel + (i_d * g.in_h + i_h) * g.in_w + start)
            copy_row(address(panel, (d * (b.box_h + b.span_h) + h) * b.pitch), source, low, present, b.pitch, g.half)


@inner
def _filter_box(weight, bias, out, work, g, b, box, n, channel):
    d0, h0, w0, depth, height, width = _corner(b, box)
    lanes = VECTOR_BYTES // work.itemsize
    line = b.panel + (lanes - b.panel % lanes)
    outputs = min(width * g.stride_w, g.out_w - w0 * g.stride_w)
    whole = b.boxes_w == 1  # rows follow each other in memory
    first = h0 * g.stride_h
    count = min(height * g.stride_h, g.out_h - first)
    for d in range(depth):
        for phase_d in range(g.stride_d):
            o_d = (d0 + d) * g.stride_d + phase_d
            if o_d >= g.out_d:
                continue
            straight, past = True, 0
            target = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + first) * g.out_w + w0 * g.stride_w
            for phase_h in range(min(g.stride_h, count)):
                start = target if whole else target + phase_h * g.out_w
                past = lanes_past(out, start)
                straight = not g.half and not g.activation
                straight = straight and (not g.stream or (past == 0 and g.out_w % lanes == 0))
                s = phase_d * g.stride_h + phase_h
                blocks = (count - phase_h + g.stride_h - 1) // g.stride_h
                row = phase_h * g.out_w if whole else 0
                to = address_as(work, out, start + row) if straight else address(work, line + past + row)
                _filter_plane(
                    to, work, weight, bias, g, b, d * (b.box_h + b.span_h) * b.pitch, channel, s, blocks, width,
                    outputs, straight and g.stream,
                )  # fmt: skip
                if not straight and not whole:
                    _flush(out, start, work, line + past, outputs, g)
            if not straight and whole:
                _flush(out, target, work, line + past, count * g.out_w, g)


@inner
def _filter_plane(to, work, weight, bias, g, b, source, channel, s, blocks, width, outputs, stream):
    """Rows of one phase of the outer axes, `blocks` of them, written from address `to` on."""
    lanes = VECTOR_BYTES // work.itemsize
    vectors = (width + lanes - 1) // lanes
    step = g.stride_h * g.out_w
    offsets, taps = address(b.offsets, b.rows[s, 0]), b.rows[s, 1]
    inner, start = address(b.inner, 0), address(bias, channel)
    weights = address(weight, channel * g.volume + b.rows[s, 0] * g.kernel_w)
    h = 0
    while h < blocks:
        many = b.most if b.across else 1
        while many > blocks - h:
            many //= 2
        v = 0
        while v < vectors:
            few = 1 if b.across else b.most
            while few > vectors - v:
                few //= 2
            filter_rows(
                b.table, offset(to, h * step + v * lanes * g.stride_w),
                step if b.across else lanes * g.stride_w, 0 if b.across else lanes * g.stride_w,
                outputs - v * lanes * g.stride_w, 0, stream,
                address(work, source + h * b.pitch + v * lanes), b.pitch if b.across else lanes,
                offsets, taps, inner, weights, start, g.stride_w, many if b.across else few,
            )  # fmt: skip
            v += few
        h += many


@inner
def _flush(out, target, work, source, count, g):
    """Move a run of outputs to memory, whole lines past the caches."""
    if g.activation:
        for i in range(source, source + count):
            work[i] = activate(work[i], g.activation, g.slope)
    lanes = VECTOR_BYTES // work.itemsize
    head = min((lanes - lanes_past(out, target)) % lanes, count) if g.stream and not g.half else 0
    if head:
        interleave_rows(address(out, target), address(work, source), 0, 1, head, g.half, 0)
    interleave_rows(address(out, target + head), address(work, source + head), 0, 1, count - head, g.half, g.stream)
