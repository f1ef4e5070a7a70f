"""The weight gradient element by element, for every problem: what runs where tiles multiply zeros by infinities.

A task owns whole filters, and each of their taps collects a sum over the pixels of all images. Nothing is read that no
input and tap meet at, so no zero is multiplied by what is infinite. The order of a sum is fixed, and it is made of
short sums, which keeps single precision over a million pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import unpack
from ..geometry import Geometry
from ..runtime.compiled import inner, kernel
from .tasks import inputs_of

#: Pixels of a row whose products are added before their sum is.
_BLOCK = 64


class Filters(NamedTuple):
    """What the kernel unpacks, and in how many pieces the filters are computed."""

    geometry: Geometry
    pieces: int


@kernel
def elementwise_filters(x, grad_output, _bias, out, table, _work, piece):
    """Fill one piece of the filters of the flat `out`, and of no others, each from all pixels."""
    job = unpack(Filters, table)
    g = job.geometry
    filters = g.groups * g.cin * g.cout
    for number in range(piece * filters // job.pieces, (piece + 1) * filters // job.pieces):
        ci, co = number // g.cout, number % g.cout
        channel = ci // g.cin * g.cout + co
        for tap in range(g.volume):
            out[number * g.volume + tap] = _sum_tap(x, grad_output, g, ci, channel, tap)
    return 0


@inner
def _sum_tap(x, grad_output, g, ci, channel, tap):
    """Sum of the products of one tap: by blocks, rows, planes and images."""
    k_d, k_h, k_w = tap // (g.kernel_h * g.kernel_w), tap // g.kernel_w % g.kernel_h, tap % g.kernel_w
    d0, d1 = inputs_of(g.in_d, g.out_d, g.stride_d, g.phase_d[k_d], g.shift_d[k_d])
    h0, h1 = inputs_of(g.in_h, g.out_h, g.stride_h, g.phase_h[k_h], g.shift_h[k_h])
    w0, w1 = inputs_of(g.in_w, g.out_w, g.stride_w, g.phase_w[k_w], g.shift_w[k_w])
    zero = x.dtype.type(0)
    total = zero
    for n in range(g.batch):
        image = zero
        for i_d in range(d0, d1):
            plane = zero
            o_d = (i_d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
            for i_h in range(h0, h1):
                o_h = (i_h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
                source = n * g.x_batch + ci * g.x_channel + (i_d * g.in_h + i_h) * g.in_w * g.x_pixel
                other = n * g.y_batch + channel * g.y_channel + (o_d * g.out_h + o_h) * g.out_w * g.y_pixel
                other += (g.phase_w[k_w] - g.shift_w[k_w] * g.stride_w) * g.y_pixel
                step = g.stride_w * g.y_pixel
                row = zero
                for start in range(w0, w1, _BLOCK):
                    block = zero
                    for i in range(start, min(start + _BLOCK, w1)):
                        block += x[source + i * g.x_pixel] * grad_output[other + i * step]
                    row += block
                plane += row
            image += plane
        total += image
    return total
