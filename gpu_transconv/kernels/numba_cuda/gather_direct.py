"""Gather for few channels: a thread per output pixel; the idea is told in `gather`.

With few output channels a tile of `gather` would be mostly empty; the time goes into reading x and writing the
result, and the caches do what shared memory would. A thread computes `channels` output channels of one pixel.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, KernelFunction, cuda, inlined, types
from .numbers import make_activation, make_integers
from .traits import Traits


def make_gather_direct(traits: Traits) -> KernelFunction:
    """Build the direct kernel; neighbouring threads write neighbouring elements of the result."""
    number, channels, last = getattr(types, traits.accumulate), traits.channels, traits.channels_last
    collect, store, split = _make_collect(traits), _make_store(traits), make_integers(traits.index).split

    def gather_direct(x, weight, bias, slope, out, g):
        """Read x, the packed weights and the bias; write every element of `out` once.

        A thread owns one pixel after another, with `channels` of its output channels.
        """
        sums = cuda.local.array(channels, number)
        parts = (g[at.COUT] + channels - 1) // channels
        pieces = parts * g[at.GROUPS]  # of the output channels
        pixels = g[at.OUT_D] * g[at.OUT_H] * g[at.OUT_W]
        for item in range(cuda.grid(1), g[at.BATCH] * pieces * pixels, cuda.gridsize(1)):
            if last:
                rest, piece = split(item, pieces)
                n, pixel = split(rest, pixels)
            else:
                rest, pixel = split(item, pixels)
                n, piece = split(rest, pieces)
            group, part = split(piece, parts)
            row = part * channels
            for c in range(channels):
                sums[c] = number(0)
            collect(sums, x, weight, n, group, row, pixel, g)
            store(out, bias, slope, sums, n * g[at.Y_BATCH] + pixel * g[at.Y_PIXEL], group, row, g)

    return gather_direct


def _make_collect(traits: Traits) -> DeviceFunction:
    """Build ``collect``, the loop over the taps and input channels of one output pixel."""
    number, channels = getattr(types, traits.accumulate), traits.channels
    _, offset, split = make_integers(traits.index)

    @inlined
    def collect(sums, x, weight, n, group, row, pixel, g):
        """Add to the thread's own `sums` what reaches one output pixel, tap by tap; reads x and the packed weights.

        `row` is the first of its output channels in the group; those beyond the group's last get nothing.
        """
        rest, o_w = split(pixel, g[at.OUT_W])
        o_d, o_h = split(rest, g[at.OUT_H])
        block_d, phase_d = split(o_d, g[at.NEAR_STEP_D])
        block_h, phase_h = split(o_h, g[at.NEAR_STEP_H])
        block_w, phase_w = split(o_w, g[at.NEAR_STEP_W])
        taps_d = g[at.TABLE_D] + at.PHASE_SIZE * phase_d
        taps_h = g[at.TABLE_H] + at.PHASE_SIZE * phase_h
        taps_w = g[at.TABLE_W] + at.PHASE_SIZE * phase_w
        pitch = g[at.COUT]
        for a in range(g[taps_d + at.TAPS]):
            i_d = block_d * g[at.FAR_STEP_D] + g[taps_d + at.FIRST_SHIFT] + a * g[at.SHIFT_STEP_D]
            for b in range(g[taps_h + at.TAPS]):
                i_h = block_h * g[at.FAR_STEP_H] + g[taps_h + at.FIRST_SHIFT] + b * g[at.SHIFT_STEP_H]
                for c in range(g[taps_w + at.TAPS]):
                    i_w = block_w * g[at.FAR_STEP_W] + g[taps_w + at.FIRST_SHIFT] + c * g[at.SHIFT_STEP_W]
                    if 0 <= i_d < g[at.IN_D] and 0 <= i_h < g[at.IN_H] and 0 <= i_w < g[at.IN_W]:
                        k_d = g[taps_d + at.FIRST_TAP] + a * g[at.TAP_STEP_D]
                        k_h = g[taps_h + at.FIRST_TAP] + b * g[at.TAP_STEP_H]
                        k_w = g[taps_w + at.FIRST_TAP] + c * g[at.TAP_STEP_W]
                        tap = (k_d * g[at.KERNEL_H] + k_h) * g[at.KERNEL_W] + k_w
                        place = n * g[at.X_BATCH] + group * g[at.CIN] * g[at.X_CHANNEL]
                        place += ((i_d * g[at.IN_H] + i_h) * g[at.IN_W] + i_w) * g[at.X_PIXEL]
                        start = (tap * g[at.GROUPS] + group) * g[at.CIN] * pitch + row
                        for k in range(g[at.CIN]):
                            value = number(x[offset(place + k * g[at.X_CHANNEL])])
                            for r in range(channels):
                                if row + r < pitch:
                                    sums[r] += value * number(weight[offset(start + k * pitch + r)])

    return collect


def _make_store(traits: Traits) -> DeviceFunction:
    number, element = getattr(types, traits.accumulate), getattr(types, traits.dtype)
    activate, has_bias, channels = make_activation(traits.activation, number), traits.has_bias, traits.channels
    _, offset, _ = make_integers(traits.index)

    @inlined
    def store(out, bias, slope, sums, start, group, row, g):
        """Write the channels of one pixel, with bias and activation."""
        for r in range(channels):
            if row + r < g[at.COUT]:
                channel = group * g[at.COUT] + row + r
                value = sums[r]
                if has_bias:
                    value += number(bias[offset(channel)])
                out[offset(start + channel * g[at.Y_CHANNEL])] = element(activate(value, slope))

    return store
