"""From finished sums to the output: activation, rounding, and the interleaving of the phases."""

from __future__ import annotations

from numba import njit

from .activation import activate
from .halves import narrow


@njit(nogil=True, error_model="numpy")
def store_chunk(out, c, g, lay, b, group, chunk, width, first, count):
    """Store the rows of one chunk for the blocks ``first ... first + count``; `c` holds rows, or blocks if channels are last."""
    if g.activation:
        for i in range(count if g.last else chunk[3] * g.stride_w):
            line = i * (width if g.last else b.pixels)
            for j in range(width if g.last else count):
                c[line + j] = activate(c[line + j], g.activation, g.slope)
    q = 0
    while q < count:
        p = first + q
        b_w, rest = p % b.blocks_w, p // b.blocks_w
        b_h, rest = rest % b.blocks_h, rest // b.blocks_h
        b_d, n = rest % b.blocks_d, rest // b.blocks_d
        length = min(b.blocks_w - b_w, count - q)
        o_d, o_h, o_w = b_d * g.stride_d + chunk[0], b_h * g.stride_h + chunk[1], b_w * g.stride_w
        if o_d < g.out_d and o_h < g.out_h:
            channel = group * g.cout + chunk[2]
            target = n * g.y_batch + channel * g.y_channel + ((o_d * g.out_h + o_h) * g.out_w + o_w) * g.y_pixel
            outputs = min(length * g.stride_w, g.out_w - o_w)
            if g.last:
                _copy_blocks(out, target, c, q * width, g, lay, chunk, width, outputs)
            else:
                for k in range(chunk[3]):
                    interleave(out, target + k * g.y_channel, c, k * b.pixels + q, chunk[3] * b.pixels, g, outputs)
        q += length


@njit(nogil=True, error_model="numpy")
def interleave(out, target, c, source, step, g, outputs):
    """Write ``out[j*stride + phase] = c[phase][j]``; the common strides in a form that becomes shuffles."""
    stride, half, pixel = g.stride_w, g.half, g.y_pixel
    if pixel == 1 and stride == 1:
        for j in range(outputs):
            out[target + j] = narrow(c[source + j], out, half)
    elif pixel == 1 and stride == 2:
        for j in range(outputs // 2):
            out[target + 2 * j] = narrow(c[source + j], out, half)
            out[target + 2 * j + 1] = narrow(c[source + step + j], out, half)
        if outputs % 2:
            out[target + outputs - 1] = narrow(c[source + outputs // 2], out, half)
    elif pixel == 1 and stride == 4:
        for j in range(outputs // 4):
            out[target + 4 * j] = narrow(c[source + j], out, half)
            out[target + 4 * j + 1] = narrow(c[source + step + j], out, half)
            out[target + 4 * j + 2] = narrow(c[source + 2 * step + j], out, half)
            out[target + 4 * j + 3] = narrow(c[source + 3 * step + j], out, half)
        for r in range(outputs % 4):
            out[target + outputs // 4 * 4 + r] = narrow(c[source + r * step + outputs // 4], out, half)
    else:
        for r in range(min(stride, outputs)):
            for j in range((outputs - r + stride - 1) // stride):
                out[target + (j * stride + r) * pixel] = narrow(c[source + r * step + j], out, half)


@njit(nogil=True, error_model="numpy")
def _copy_blocks(out, target, c, source, g, lay, chunk, width, outputs):
    """Channels last: a block holds, per set, its phases of the chunk's channels in the order of memory."""
    count = chunk[3]
    phase = 0
    for s in range(chunk[4], chunk[5]):
        row0, rows = lay.sets[s, 0], lay.sets[s, 1]
        for r in range(rows // count):
            for j in range((outputs - phase + g.stride_w - 1) // g.stride_w):
                to, at = target + (j * g.stride_w + phase) * g.y_pixel, source + j * width + row0 + r * count
                for k in range(count):
                    out[to + k] = narrow(c[at + k], out, g.half)
            phase += 1
