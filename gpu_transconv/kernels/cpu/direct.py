"""Gather for few output channels, depthwise above all: the panel is a box of the input with its margin.

Where a channel meets few others, copying the input once per slot would cost more than the products. So a box is
copied once, and the shifts are distances in it; that the tiles then read across cache lines costs less.
"""

from __future__ import annotations

from .activation import activate
from .blocking import Direct
from .compiled import inner, kernel
from .geometry import Geometry
from .layout import CUT, LAYOUT, Layout
from .microkernel import ADD, CACHE_LINE, PER_ROW, tile
from .packing import VECTOR_BYTES, tile_count, tile_range, tile_vectors
from .store import interleave
from .tables import unpack
from .vectors import address, copy_row, fence, interleave_rows, place, turn_rows


@kernel
def gather_boxes(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of one image and group."""
    g, lay, b = unpack(Geometry, table, 0), unpack(Layout, table, LAYOUT), unpack(Direct, table, CUT)
    boxes = b.boxes_d * b.boxes_h * b.boxes_w
    tasks = g.batch * g.groups * boxes
    for task in range(thread * tasks // b.threads, (thread + 1) * tasks // b.threads):
        box, rest = task % boxes, task // boxes
        _gather_box(x, weight, bias, out, g, lay, b, work[thread], box, rest % g.groups, rest // g.groups)
    fence()
    return 0


@inner
def _gather_box(x, weight, bias, out, g, lay, b, work, box, group, n):
    w0, rest = box % b.boxes_w * b.box_w, box // b.boxes_w
    h0, d0 = rest % b.boxes_h * b.box_h, rest // b.boxes_h * b.box_d
    depth_d, height, width = (
        min(b.box_d, b.blocks_d - d0),
        min(b.box_h, b.blocks_h - h0),
        min(b.box_w, b.blocks_w - w0),
    )
    line, panel, sums = work[: b.line], work[b.line : b.line + b.panel], work[b.line + b.panel :]
    for k0 in range(0, g.cin, b.depth):
        depth = min(b.depth, g.cin - k0)
        channel = n * g.x_batch + (group * g.cin + k0) * g.x_channel
        start = w0 + b.low_w
        low = max(0, -start)
        high = max(low, min(width + b.span_w, g.in_w - start))
        # Channels first, one channel after the other, as they lie in memory.
        for k in range(1 if g.last else depth):
            for d in range(depth_d + b.span_d):
                i_d = d0 + b.low_d + d
                for h in range(height + b.span_h):
                    i_h = h0 + b.low_h + h
                    present = high if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
                    pixel = (i_d * g.in_h + i_h) * g.in_w + start
                    source = address(x, channel + k * g.x_channel + pixel * g.x_pixel)
                    target = address(panel, ((k * (b.box_d + b.span_d) + d) * (b.box_h + b.span_h) + h) * b.pitch)
                    if g.last:
                        turn_rows(target, b.channel, source, g.x_pixel, depth, low, present, b.pitch, g.half)
                    else:
                        copy_row(target, source, low, present, b.pitch, g.half)
        # While this panel is multiplied, the rows of the next one, where they follow each other, come to the caches.
        if k0 + depth < g.cin:
            ahead = place(x, channel + depth * g.x_channel + (d0 * g.in_h + h0) * g.in_w + w0)
        else:
            ahead = _next_box(x, g, b, box, group, n)
        rows = 0 if g.last else b.box_h + b.span_h if b.box_d == 1 else b.box_d * g.in_h if b.boxes_h == 1 else 0
        end = ahead + g.far * x.itemsize * rows * g.in_w
        for c in range(lay.chunks.shape[0]):
            chunk = lay.chunks[c]
            base = chunk[6] * b.plane if b.depth < g.cin else 0
            for s in range(chunk[4], chunk[5]):
                ahead = _multiply(
                    sums, base, panel, weight, bias, g, lay, b, group, s, chunk[6], k0, depth, depth_d, height,
                    ahead, x.itemsize * g.x_channel, end,
                )  # fmt: skip
            if k0 + depth == g.cin:
                _store(out, sums, line, base, g, b, chunk, n, group, d0, h0, w0, depth_d, height, width)


@inner
def _next_box(x, g, b, box, group, n):
    """Place of the first input of the box after this one."""
    boxes = b.boxes_d * b.boxes_h * b.boxes_w
    if box + 1 == boxes:
        box, group = -1, group + 1
        if group == g.groups:
            group, n = 0, n + 1
    w, rest = (box + 1) % b.boxes_w * b.box_w, (box + 1) // b.boxes_w
    h, d = rest % b.boxes_h * b.box_h, rest // b.boxes_h * b.box_d
    return place(x, n * g.x_batch + group * g.cin * g.x_channel + (d * g.in_h + h) * g.in_w + w)


@inner
def _multiply(
    sums, base, panel, weight, bias, g, lay, b, group, s, row_base, k0, depth, depth_d, height, ahead, ahead_step, end
):  # fmt: skip
    """Run the tiles of a set; each fetches some lines from `ahead`, and the place behind them is returned."""
    row0, rows, tap0, taps, first, _ = lay.sets[s]
    lane = VECTOR_BYTES // sums.itemsize
    vectors = (height * b.pitch + lane - 1) // lane
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (group * lay.weights + first + low * taps) * g.cin + k0 * m)
        start = address(bias, group * lay.row_channels.size + row_base + row0 + low)
        for d in range(depth_d):
            target = base + (row0 + low) * b.plane + d * b.plane_d
            source = d * (b.box_h + b.span_h) * b.pitch
            v = 0
            while v < vectors:
                step = tile_vectors(m, vectors - v)
                tile(
                    b.tile,
                    address(sums, target + v * lane), address(b.iota, 0), b.plane,
                    a, 1, m, address(b.iota, 0), g.cin * m,
                    address(panel, source + v * lane), b.channel, address(b.offsets, tap0), 1,
                    start, PER_ROW if k0 == 0 else ADD, taps, depth,
                    ahead if ahead < end else place(panel, 0), ahead_step if ahead < end else 0, m, step,
                )  # fmt: skip
                v += step
                ahead += taps * CACHE_LINE
    return ahead


@inner
def _store(out, sums, line, base, g, b, chunk, n, group, d0, h0, w0, depth_d, height, width):
    outputs = min(width * g.stride_w, g.out_w - w0 * g.stride_w)
    rows = chunk[3] * g.stride_w
    if g.activation:
        for j in range(base, base + rows * chunk[7] * b.plane):
            sums[j] = activate(sums[j], g.activation, g.slope)
    for d in range(depth_d):
        o_d = (d0 + d) * g.stride_d + chunk[0]
        for h in range(height):
            for phase in range(chunk[7] if o_d < g.out_d else 0):
                o_h = (h0 + h) * g.stride_h + chunk[1] + phase
                if o_h >= g.out_h:
                    break
                target = n * g.y_batch + (group * g.cout + chunk[2]) * g.y_channel
                target += ((o_d * g.out_h + o_h) * g.out_w + w0 * g.stride_w) * g.y_pixel
                source = base + phase * rows * b.plane + d * b.plane_d + h * b.pitch
                if g.last:  # all channels of a pixel follow each other
                    to, sources = address(out, target), address(sums, source)
                    interleave_rows(to, sources, b.plane, rows, outputs * g.cout, g.half, g.stream)
                    continue
                interleave(
                    out, target, g.y_channel, sums, source, b.plane, chunk[3],
                    g.stride_w, outputs, g.half, g.stream, line,
                )  # fmt: skip
