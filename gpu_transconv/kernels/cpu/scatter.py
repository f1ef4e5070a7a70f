"""Scatter: every input element stamps its filter into the output; a matrix product whose rows are stamps.

The output is cut into boxes of blocks; one task owns a box and adds every stamp that reaches it into sums
in cache, one plane per (phase, channel). The input of the box, with the margin that the filter needs, is
copied into a panel of the same row length; then a tap is a fixed distance between panel and plane, and the
tile adds straight into the planes. What a stamp leaves beyond the box lands in the margin and is dropped:
the neighbour computes it for itself. So there are no atomics, no column buffer in memory, and the order of
every sum is fixed.
"""

from __future__ import annotations

from .activation import activate
from .blocking import STAMPS, Boxes
from .compiled import inner, kernel
from .geometry import Geometry
from .halves import narrow, widen
from .layout import CUT, LAYOUT, Layout, Stamps
from .microkernel import ADD, tile
from .packing import VECTOR_BYTES, tile_count, tile_range, tile_vectors
from .store import interleave
from .tables import unpack
from .vectors import address, copy_row, fence, place


@kernel
def scatter(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of one image and one chunk of channels."""
    g, lay = unpack(Geometry, table, 0), unpack(Layout, table, LAYOUT)
    stamps, b = unpack(Stamps, table, STAMPS), unpack(Boxes, table, CUT)
    boxes = b.boxes_d * b.boxes_h * b.boxes_w
    chunks = g.groups * lay.chunks.shape[0]
    tasks = g.batch * chunks * boxes
    for task in range(thread * tasks // b.threads, (thread + 1) * tasks // b.threads):
        box, rest = task % boxes, task // boxes
        _own_box(x, weight, bias, out, g, lay, stamps, b, work[thread], box, rest % chunks, rest // chunks)
    fence()
    return 0


@inner
def _own_box(x, weight, bias, out, g, lay, stamps, b, work, box, chunk, n):
    group, c = chunk // lay.chunks.shape[0], chunk % lay.chunks.shape[0]
    channel = group * g.cout + lay.chunks[c, 2]
    count, set0, set1 = lay.chunks[c, 3], lay.chunks[c, 4], lay.chunks[c, 5]
    w0, rest = box % b.boxes_w * b.box_w, box // b.boxes_w
    h0, d0 = rest % b.boxes_h * b.box_h, rest // b.boxes_h * b.box_d
    depth_d, height, width = (
        min(b.box_d, b.blocks_d - d0),
        min(b.box_h, b.blocks_h - h0),
        min(b.box_w, b.blocks_w - w0),
    )
    line, panel, sums = work[: b.line], work[b.line : b.line + b.panel], work[b.line + b.panel :]
    planes = g.stride_d * g.stride_h * g.stride_w
    for i in range(planes * count):
        for j in range(i * b.plane, (i + 1) * b.plane):
            sums[j] = bias[channel + i % count]
    for k0 in range(0, g.cin, b.depth):
        depth = min(b.depth, g.cin - k0)
        _pack_box(x, panel, g, b, n, group, k0, depth, d0, h0, w0, depth_d, height, width)
        for s in range(set0, set1):
            # The rows of the box whose input, through this tap of the outer axes, exists.
            shift_d, shift_h = stamps.sets[s, 1], stamps.sets[s, 2]
            low_d, high_d = max(d0, -shift_d), min(d0 + depth_d, g.in_d - shift_d)
            low_h, high_h = max(h0, -shift_h), min(h0 + height, g.in_h - shift_h)
            if low_h >= high_h:
                continue
            for d in range(low_d, high_d):
                source = (d + shift_d - d0 - b.low_d) * b.panel_plane + (low_h + shift_h - h0 - b.low_h) * b.pitch
                target = stamps.sets[s, 0] * count * b.plane + b.margin + (d - d0) * b.plane_d + (low_h - h0) * b.pitch
                lanes = (high_h - low_h) * b.pitch
                _stamp(sums, target, panel, source, lanes, weight, g, lay, b, group, s, count, k0, depth)
    _store_box(out, sums, line, g, b, n, channel, count, d0, h0, w0, depth_d, height, width)


@inner
def _stamp(sums, target, panel, source, lanes, weight, g, lay, b, group, s, count, k0, depth):
    rows, first = lay.sets[s, 1], lay.sets[s, 4]
    lane = VECTOR_BYTES // sums.itemsize
    vectors = (lanes + lane - 1) // lane
    offsets = b.rows if count == b.channels else b.last_rows
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (group * lay.weights + first + low) * g.cin + k0 * m)
        v = 0
        while v < vectors:
            step = tile_vectors(m, vectors - v)
            tile(
                b.tile,
                address(sums, target + v * lane), address(offsets, low), 1,
                a, 1, m, address(b.iota, 0), 0,
                address(panel, source + v * lane), b.panel_step, address(b.iota, 0), 0,
                a, ADD, 1, depth, place(panel, 0), 0, m, step,
            )  # fmt: skip
            v += step


@inner
def _pack_box(x, panel, g, b, n, group, k0, depth, d0, h0, w0, depth_d, height, width):
    """Copy the input that the box reads, zero outside the image; ordered channel, d, h, w."""
    start = w0 + b.low_w
    low = max(0, -start)
    high = max(low, min(width + b.span_w, g.in_w - start))
    for k in range(depth):
        channel = n * g.x_batch + (group * g.cin + k0 + k) * g.x_channel
        for d in range(depth_d + b.span_d):
            i_d = d0 + b.low_d + d
            for h in range(height + b.span_h):
                i_h = h0 + b.low_h + h
                inside = 0 <= i_d < g.in_d and 0 <= i_h < g.in_h
                source = channel + ((i_d * g.in_h + i_h) * g.in_w + start) * g.x_pixel
                target = k * b.panel_step + d * b.panel_plane + h * b.pitch
                present = high if inside else low
                row = address(x, source)
                copy_row(address(panel, target), row, low, low if g.last else present, b.pitch, g.half)
                if g.last:
                    for j in range(low, present):
                        panel[target + j] = widen(x[source + j * g.x_pixel], g.half)
            # Whole vectors may read past the last row.
            end = k * b.panel_step + d * b.panel_plane + (height + b.span_h) * b.pitch
            for j in range(end, end + b.slack):
                panel[j] = 0


@inner
def _store_box(out, sums, line, g, b, n, channel, count, d0, h0, w0, depth_d, height, width):
    outputs = min(width * g.stride_w, g.out_w - w0 * g.stride_w)
    for o_d in range(d0 * g.stride_d, min((d0 + depth_d) * g.stride_d, g.out_d)):
        for o_h in range(h0 * g.stride_h, min((h0 + height) * g.stride_h, g.out_h)):
            phases = (o_d % g.stride_d * g.stride_h + o_h % g.stride_h) * g.stride_w
            source = phases * count * b.plane + b.margin
            source += (o_d // g.stride_d - d0) * b.plane_d + (o_h // g.stride_h - h0) * b.pitch
            if g.activation:
                for i in range(g.stride_w * count):
                    for j in range(source + i * b.plane, source + i * b.plane + width):
                        sums[j] = activate(sums[j], g.activation, g.slope)
            pixel = (o_d * g.out_h + o_h) * g.out_w + w0 * g.stride_w
            target = n * g.y_batch + channel * g.y_channel + pixel * g.y_pixel
            if g.last:
                _store_last(out, target, sums, source, b.plane, count, g.stride_w, outputs, g.y_pixel, g.half)
            else:
                interleave(
                    out, target, g.y_channel, sums, source, b.plane, count, g.stride_w, outputs, g.half, g.stream, line
                )  # fmt: skip


@inner
def _store_last(out, target, sums, source, plane, count, stride, outputs, pixel, half):
    for o in range(outputs):
        at = source + o % stride * count * plane + o // stride
        for k in range(count):
            out[target + o * pixel + k] = narrow(sums[at + k * plane], out, half)
