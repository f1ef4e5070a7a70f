"""Scatter: every input element stamps its filter into the output.

Stamps overlap, so the output is cut into tiles, a range of one axis of one channel, and each tile has one owner, which adds
all stamps that reach it. No element has two writers, and the order of its sum does not depend on the tiles.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from .activation import activate


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def scatter(x: Any, weight: Any, bias: Any, out: Any, g: Any, pieces: int) -> None:
    """Fill the flat array `out`; `pieces` is the number of tiles per channel, along the longest output axis."""
    channels = g.groups * g.cout
    longest = max(g.out_d, g.out_h, g.out_w)
    axis = 2 if g.out_w == longest else 1 if g.out_h == longest else 0
    for task in prange(g.batch * channels * pieces):
        piece, rest = task % pieces, task // pieces
        low, high = piece * longest // pieces, (piece + 1) * longest // pieces
        d = (low, high) if axis == 0 else (0, g.out_d)
        h = (low, high) if axis == 1 else (0, g.out_h)
        w = (low, high) if axis == 2 else (0, g.out_w)
        _own_tile(x, weight, bias, out, g, rest // channels, rest % channels, d, h, w)


@njit(nogil=True, error_model="numpy")
def _own_tile(x: Any, weight: Any, bias: Any, out: Any, g: Any, n: int, channel: int, d: Any, h: Any, w: Any) -> None:
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


@njit(nogil=True, error_model="numpy")
def _add_stamps(x: Any, image: int, weight: Any, stamp: int, out: Any, start: int, g: Any, d: Any, h: Any, w: Any) -> None:
    for k_d in range(g.kernel_d):
        for i_d in range(*_inputs(d, g.in_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])):
            o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
            for k_h in range(g.kernel_h):
                for i_h in range(*_inputs(h, g.in_h, g.stride_h, g.phase_h[k_h], g.shift_h[k_h])):
                    o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
                    source = image + (i_d * g.in_h + i_h) * g.in_w * g.x_pixel
                    target = start + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
                    for k_w in range(g.kernel_w):
                        value = weight[stamp + (k_d * g.kernel_h + k_h) * g.kernel_w + k_w]
                        offset = g.phase_w[k_w] - g.shift_w[k_w] * g.stride_w
                        for i_w in range(*_inputs(w, g.in_w, g.stride_w, g.phase_w[k_w], g.shift_w[k_w])):
                            out[target + (i_w * g.stride_w + offset) * g.y_pixel] += value * x[source + i_w * g.x_pixel]


@njit(nogil=True, error_model="numpy")
def _inputs(outputs: Any, size: int, stride: int, phase: int, shift: int) -> Any:
    """Range of the inputs whose stamp, through one tap, lands in the range `outputs`."""
    low, high = (outputs[0] - phase + stride - 1) // stride + shift, (outputs[1] - 1 - phase) // stride + shift + 1
    return max(0, low), min(size, high)
