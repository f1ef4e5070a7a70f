"""Both formulations element by element, straight from the plan's tables.

Exact where the tiles are not: they skip what lies outside the input instead of multiplying it by zero, so
infinite weights do not turn into NaN at the borders. They also serve the dtypes and the very large strides
for which there are no tiles.

In `elementwise_gather` a task owns whole output rows. Along a row each phase is an ordinary correlation with
stride 1 over the input, summed in a buffer of its own; then the phases are interleaved. In `elementwise_scatter`
a task owns a tile of the output, a range of one axis of one channel, and adds every stamp that reaches it.
No element has two writers, and the order of its sum is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arguments import Table, unpack
from .emit.numbers import activate
from .geometry import Geometry, input_row
from .runtime.compiled import inner, kernel


class Elementwise(NamedTuple):
    """What both kernels unpack: which channels of the output are computed, and in how many pieces."""

    geometry: Geometry
    channels: Table
    pieces: int  # of all rows for gather; of each channel, along the longest axis, for scatter


@kernel
def elementwise_gather(x, weight, bias, out, table, _work, piece):
    """Fill one piece of the rows of the flat `out`, and of no others.

    Reads `weight` as it is, and `bias` with one value per output channel; the sums of a row are its own memory.
    """
    job = unpack(Elementwise, table)
    g, channels = job.geometry, job.channels
    rows = g.batch * channels.size * g.out_d * g.out_h
    sums = np.empty((g.offsets_w.size, (g.out_w + g.stride_w - 1) // g.stride_w), x.dtype)
    for row in range(piece * rows // job.pieces, (piece + 1) * rows // job.pieces):
        o_h, rest = row % g.out_h, row // g.out_h
        o_d, rest = rest % g.out_d, rest // g.out_d
        channel, n = channels[rest % channels.size], rest // channels.size
        sums[:] = bias[channel]
        _sum_row(sums, x, weight, g, n, channel, o_d, o_h)
        start = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
        _store_row(out, start, sums, bias[channel], g)
    return 0


@inner
def _sum_row(sums, x, weight, g, n, channel, o_d, o_h):
    """Add to `sums`, one row for each phase, all that reaches one row of outputs of a channel of image `n`."""
    group, co = channel // g.cout, channel % g.cout
    for k_d in range(g.kernel_d):
        for k_h in range(g.kernel_h):
            input_ = input_row(g, k_d, k_h, o_d, o_h)
            if input_ < 0:
                continue
            for ci in range(group * g.cin, (group + 1) * g.cin):
                source = n * g.x_batch + ci * g.x_channel + input_ * g.in_w * g.x_pixel
                taps = (((ci * g.cout + co) * g.kernel_d + k_d) * g.kernel_h + k_h) * g.kernel_w
                for k_w in range(g.kernel_w):
                    shift, w = g.shift_w[k_w], weight[taps + k_w]
                    row = sums[g.rank_w[k_w]]
                    for b in range(max(0, -shift), min(row.size, g.in_w - shift)):
                        row[b] += w * x[source + (b + shift) * g.x_pixel]


@inner
def _store_row(out, start, sums, bias, g):
    """Write a row of outputs from element `start` on, activated and interleaved from the sums of its phases."""
    if g.offsets_w.size < g.stride_w or g.out_w < g.stride_w:  # a phase without taps holds the bias
        for o in range(g.out_w):
            out[start + o * g.y_pixel] = activate(bias, g.activation, g.slope)
    for rank in range(g.offsets_w.size):
        for b in range((g.out_w - g.offsets_w[rank] + g.stride_w - 1) // g.stride_w):
            o = b * g.stride_w + g.offsets_w[rank]
            out[start + o * g.y_pixel] = activate(sums[rank, b], g.activation, g.slope)


@kernel
def elementwise_scatter(x, weight, bias, out, table, _work, task):
    """Fill one piece of one channel of the flat `out`, from the same."""
    job = unpack(Elementwise, table)
    g, channels, pieces = job.geometry, job.channels, job.pieces
    longest = max(g.out_d, g.out_h, g.out_w)
    axis = 2 if g.out_w == longest else 1 if g.out_h == longest else 0
    piece, rest = task % pieces, task // pieces
    low, high = piece * longest // pieces, (piece + 1) * longest // pieces
    d = (low, high) if axis == 0 else (0, g.out_d)
    h = (low, high) if axis == 1 else (0, g.out_h)
    w = (low, high) if axis == 2 else (0, g.out_w)
    _own_tile(x, weight, bias, out, g, rest // channels.size, channels[rest % channels.size], d, h, w)
    return 0


@inner
def _own_tile(x, weight, bias, out, g, n, channel, d, h, w):
    """Compute the outputs in the ranges `d`, `h` and `w` of a channel of image `n`, in their own places in `out`."""
    group, co = channel // g.cout, channel % g.cout
    start = n * g.y_batch + channel * g.y_channel
    for o_d in range(*d):
        for o_h in range(*h):
            row = start + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
            for o_w in range(*w):
                out[row + o_w * g.y_pixel] = bias[channel]
    for ci in range(group * g.cin, (group + 1) * g.cin):
        image = n * g.x_batch + ci * g.x_channel
        stamp = (ci * g.cout + co) * g.kernel_d * g.kernel_h * g.kernel_w
        _add_stamps(x, image, weight, stamp, out, start, g, d, h, w)
    if g.activation:
        for o_d in range(*d):
            for o_h in range(*h):
                row = start + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
                for o_w in range(*w):
                    out[row + o_w * g.y_pixel] = activate(out[row + o_w * g.y_pixel], g.activation, g.slope)


@inner
def _add_stamps(x, image, weight, stamp, out, start, g, d, h, w):
    """Add the stamps of one input channel that reach the ranges `d`, `h` and `w` of a channel's outputs.

    Reads x from element `image` and weight from element `stamp` on; adds to `out` from element `start` on.
    """
    for k_d in range(g.kernel_d):
        for i_d in range(*inputs_within(d, g.in_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])):
            o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
            for k_h in range(g.kernel_h):
                for i_h in range(*inputs_within(h, g.in_h, g.stride_h, g.phase_h[k_h], g.shift_h[k_h])):
                    o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
                    source = image + (i_d * g.in_h + i_h) * g.in_w * g.x_pixel
                    target = start + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
                    for k_w in range(g.kernel_w):
                        value = weight[stamp + (k_d * g.kernel_h + k_h) * g.kernel_w + k_w]
                        offset = g.phase_w[k_w] - g.shift_w[k_w] * g.stride_w
                        for i_w in range(*inputs_within(w, g.in_w, g.stride_w, g.phase_w[k_w], g.shift_w[k_w])):
                            out[target + (i_w * g.stride_w + offset) * g.y_pixel] += value * x[source + i_w * g.x_pixel]


@inner
def inputs_within(outputs, size, stride, phase, shift):
    """Range of the inputs whose stamp, through one tap, lands in the range `outputs`."""
    low, high = (
        (outputs[0] - phase + stride - 1) // stride + shift,
        (outputs[1] - 1 - phase) // stride + shift + 1,
    )
    return max(0, low), min(size, high)
