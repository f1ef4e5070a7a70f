"""Both formulations of the input gradient element by element, straight from the plan's tables.

They serve what `elementwise` serves in the forward direction: dtypes and strides without tiles, and input channels some
of whose weights are not finite. In `elementwise_input_gather` a task owns rows of the gradient, whose elements collect
their taps; in `elementwise_input_scatter` it owns a range of one axis of one channel, to which every element of
grad_output that reaches it adds its stamp. No element has two writers, and the order of its sum is fixed.
"""

from __future__ import annotations

from .arguments import unpack
from .elementwise import Elementwise, inputs_within
from .runtime.compiled import inner, kernel


@kernel
def elementwise_input_gather(grad, weight, _bias, out, table, _work, piece):
    """Fill one piece of the rows of the flat `out`, the gradient of the input, and no others.

    Reads grad_output and `weight` as they are; the channels that are computed are input channels.
    """
    job = unpack(Elementwise, table)
    g, channels = job.geometry, job.channels
    rows = g.batch * channels.size * g.in_d * g.in_h
    for row in range(piece * rows // job.pieces, (piece + 1) * rows // job.pieces):
        i_h, rest = row % g.in_h, row // g.in_h
        i_d, rest = rest % g.in_d, rest // g.in_d
        _sum_row(grad, weight, out, g, rest // channels.size, channels[rest % channels.size], i_d, i_h)
    return 0


@inner
def _sum_row(grad, weight, out, g, n, channel, i_d, i_h):
    """Compute one row of a channel of image `n`, in its place in `out`."""
    start = n * g.x_batch + channel * g.x_channel + (i_d * g.in_h + i_h) * g.in_w * g.x_pixel
    for i_w in range(g.in_w):
        out[start + i_w * g.x_pixel] = 0
    image = n * g.y_batch + channel // g.cin * g.cout * g.y_channel
    for k_d in range(g.kernel_d):
        o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
        for k_h in range(g.kernel_h):
            o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
            if not (0 <= o_d < g.out_d and 0 <= o_h < g.out_h):
                continue
            for co in range(g.cout):
                source = image + co * g.y_channel + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
                taps = (((channel * g.cout + co) * g.kernel_d + k_d) * g.kernel_h + k_h) * g.kernel_w
                for k_w in range(g.kernel_w):
                    value, offset = weight[taps + k_w], g.phase_w[k_w] - g.shift_w[k_w] * g.stride_w
                    for i_w in range(*inputs_within((0, g.out_w), g.in_w, g.stride_w, g.phase_w[k_w], g.shift_w[k_w])):
                        out[start + i_w * g.x_pixel] += value * grad[source + (i_w * g.stride_w + offset) * g.y_pixel]


@kernel
def elementwise_input_scatter(grad, weight, _bias, out, table, _work, task):
    """Fill one piece of one channel of the flat `out`, along its longest axis, from the same."""
    job = unpack(Elementwise, table)
    g, channels, pieces = job.geometry, job.channels, job.pieces
    longest = max(g.in_d, g.in_h, g.in_w)
    axis = 2 if g.in_w == longest else 1 if g.in_h == longest else 0
    piece, rest = task % pieces, task // pieces
    low, high = piece * longest // pieces, (piece + 1) * longest // pieces
    d = (low, high) if axis == 0 else (0, g.in_d)
    h = (low, high) if axis == 1 else (0, g.in_h)
    w = (low, high) if axis == 2 else (0, g.in_w)
    channel, n = channels[rest % channels.size], rest // channels.size
    start = n * g.x_batch + channel * g.x_channel
    for i_d in range(*d):
        for i_h in range(*h):
            for i_w in range(*w):
                out[start + ((i_d * g.in_h + i_h) * g.in_w + i_w) * g.x_pixel] = 0
    for co in range(g.cout):
        image = n * g.y_batch + (channel // g.cin * g.cout + co) * g.y_channel
        stamp = (channel * g.cout + co) * g.volume
        _add_stamps(grad, image, weight, stamp, out, start, g, d, h, w)
    return 0


@inner
def _add_stamps(grad, image, weight, stamp, out, start, g, d, h, w):
    """Add the stamps of one output channel that reach the ranges `d`, `h` and `w` of a channel of the gradient.

    Reads grad_output from element `image` and weight from element `stamp` on; adds to `out` from element `start` on.
    """
    for k_d in range(g.kernel_d):
        low_d, high_d = inputs_within((0, g.out_d), g.in_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])
        for i_d in range(max(d[0], low_d), min(d[1], high_d)):
            o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
            for k_h in range(g.kernel_h):
                low_h, high_h = inputs_within((0, g.out_h), g.in_h, g.stride_h, g.phase_h[k_h], g.shift_h[k_h])
                for i_h in range(max(h[0], low_h), min(h[1], high_h)):
                    o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
                    source = image + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
                    target = start + (i_d * g.in_h + i_h) * g.in_w * g.x_pixel
                    for k_w in range(g.kernel_w):
                        value = weight[stamp + (k_d * g.kernel_h + k_h) * g.kernel_w + k_w]
                        offset = g.phase_w[k_w] - g.shift_w[k_w] * g.stride_w
                        low_w, high_w = inputs_within((0, g.out_w), g.in_w, g.stride_w, g.phase_w[k_w], g.shift_w[k_w])
                        for i_w in range(max(w[0], low_w), min(w[1], high_w)):
                            out[target + i_w * g.x_pixel] += (
                                value * grad[source + (i_w * g.stride_w + offset) * g.y_pixel]
                            )
