"""From finished sums to the output: activation, rounding, and the interleaving of the phases."""

from __future__ import annotations

from numba import njit

from .activation import activate
from .vectors import address, interleave_rows


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
            target = (
                n * g.y_batch + channel * g.y_channel + ((o_d * g.out_h + o_h) * g.out_w + o_w) * g.y_pixel
            )
            outputs = min(length * g.stride_w, g.out_w - o_w)
            if g.last:
                _copy_blocks(
                    out,
                    target,
                    c,
                    q * width,
                    lay.sets,
                    chunk,
                    width,
                    g.stride_w,
                    g.y_pixel,
                    outputs,
                    g.half,
                    g.stream,
                )
            else:
                interleave(
                    out, target, g.y_channel, c, q, b.pixels, chunk[3], g.stride_w, outputs, g.half, g.stream
                )
        q += length


@njit(nogil=True, error_model="numpy")
def interleave(out, target, channel, c, source, row, channels, stride, outputs, half, stream):
    """Write ``out[k*channel + j*stride + phase] = c[phase][k][j]`` for every channel k."""
    for k in range(channels):
        to, at = address(out, target + k * channel), address(c, source + k * row)
        interleave_rows(to, at, channels * row, stride, outputs, half, stream)


@njit(nogil=True, error_model="numpy")
def _copy_blocks(out, target, c, source, sets, chunk, width, stride, pixel, outputs, half, stream):
    """Channels last: a block holds, per set, its phases of the chunk's channels in the order of memory."""
    count = chunk[3]
    phase = 0
    for s in range(chunk[4], chunk[5]):
        row0, phases = sets[s, 0], sets[s, 1] // count
        for j in range((outputs - phase + stride - 1) // stride):
            o = j * stride + phase
            present = min(phases, outputs - o)
            at = source + j * width + row0
            if count == pixel:  # the phases of all channels are one run of memory
                interleave_rows(
                    address(out, target + o * count), address(c, at), 0, 1, present * count, half, stream
                )
            else:
                for r in range(present):
                    to = address(out, target + (o + r) * pixel)
                    interleave_rows(to, address(c, at + r * count), 0, 1, count, half, stream)
        phase += phases
