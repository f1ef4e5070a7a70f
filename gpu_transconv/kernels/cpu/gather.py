"""Gather: every output element collects its contributions.

A task owns whole output rows. Along a row each phase is an ordinary correlation with stride 1 over the input, summed in a
buffer of its own; then the phases are interleaved. No element has two writers, and the order of its sum is fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .activation import activate


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def gather(x: Any, weight: Any, bias: Any, out: Any, g: Any, chunks: int) -> None:
    """Fill the flat array `out` from flat `x`, `weight` and `bias` (one value per output channel)."""
    rows = g.batch * g.groups * g.cout * g.out_d * g.out_h
    blocks = (g.out_w + g.stride_w - 1) // g.stride_w
    for chunk in prange(chunks):
        sums = np.empty((g.offsets_w.size, blocks), x.dtype)
        for row in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            o_h, rest = row % g.out_h, row // g.out_h
            o_d, rest = rest % g.out_d, rest // g.out_d
            channel, n = rest % (g.groups * g.cout), rest // (g.groups * g.cout)
            sums[:] = bias[channel]
            _sum_row(sums, x, weight, g, n, channel, o_d, o_h)
            start = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
            _store_row(out, start, sums, bias[channel], g)


@njit(nogil=True, error_model="numpy")
def _sum_row(sums: Any, x: Any, weight: Any, g: Any, n: int, channel: int, o_d: int, o_h: int) -> None:
    group, co = channel // g.cout, channel % g.cout
    for k_d in range(g.kernel_d):
        i_d = o_d // g.stride_d + g.shift_d[k_d]
        if g.phase_d[k_d] != o_d % g.stride_d or not 0 <= i_d < g.in_d:
            continue
        for k_h in range(g.kernel_h):
            i_h = o_h // g.stride_h + g.shift_h[k_h]
            if g.phase_h[k_h] != o_h % g.stride_h or not 0 <= i_h < g.in_h:
                continue
            for ci in range(group * g.cin, (group + 1) * g.cin):
                source = n * g.x_batch + ci * g.x_channel + (i_d * g.in_h + i_h) * g.in_w * g.x_pixel
                taps = (((ci * g.cout + co) * g.kernel_d + k_d) * g.kernel_h + k_h) * g.kernel_w
                for k_w in range(g.kernel_w):
                    shift, w = g.shift_w[k_w], weight[taps + k_w]
                    row = sums[g.rank_w[k_w]]
                    for b in range(max(0, -shift), min(row.size, g.in_w - shift)):
                        row[b] += w * x[source + (b + shift) * g.x_pixel]


@njit(nogil=True, error_model="numpy")
def _store_row(out: Any, start: int, sums: Any, bias: Any, g: Any) -> None:
    if g.offsets_w.size < g.stride_w or g.out_w < g.stride_w:  # a phase without taps holds the bias
        for o in range(g.out_w):
            out[start + o * g.y_pixel] = activate(bias, g.activation, g.slope)
    for rank in range(g.offsets_w.size):
        for b in range((g.out_w - g.offsets_w[rank] + g.stride_w - 1) // g.stride_w):
            o = b * g.stride_w + g.offsets_w[rank]
            out[start + o * g.y_pixel] = activate(sums[rank, b], g.activation, g.slope)
