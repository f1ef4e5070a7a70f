"""Kernels that touch every element once; each thread takes every so-many-th, whatever the launch.

The weights in the order in which kernels read them. For scatter with atomics: the bias before, the activation after.
For the gradient by the weight: the sum over the parts. For the caller: copies from and to arrays that are not
contiguous.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import KernelFunction, cuda, types
from .numbers import make_activation, make_integers
from .stamps import make_find_taps
from .traits import Traits


def make_pack(traits: Traits) -> KernelFunction:  # noqa: ARG001
    """Build the kernel that moves the weights into the order (tap, group, channel read, channel of the result)."""

    def pack_weight(weight, packed, g):
        taps = g[at.KERNEL_D] * g[at.KERNEL_H] * g[at.KERNEL_W]
        filters = g[at.GROUPS] * g[at.CIN] * g[at.COUT]
        for e in range(cuda.grid(1), filters * taps, cuda.gridsize(1)):
            tap, rest = e // filters, e % filters
            rest, row = rest // g[at.COUT], rest % g[at.COUT]
            group, channel = rest // g[at.CIN], rest % g[at.CIN]
            place = group * g[at.CIN] * g[at.COUT] * taps + channel * g[at.W_IN] + row * g[at.W_OUT]
            packed[e] = weight[place + tap]

    return pack_weight


def make_pack_stamps(traits: Traits) -> KernelFunction:
    """Build the kernel that moves the weights into the order in which scatter stamps them.

    Phase by phase of what is read, (group, channel read, channel of the result, tap of the phase).
    """
    find_taps, split = make_find_taps(traits), make_integers(traits.index).split

    def pack_stamps(weight, packed, g):
        """Read the weights as the caller has them, and write `packed`; a thread owns every so-many-th element."""
        filters = g[at.GROUPS] * g[at.CIN] * g[at.COUT]
        all_taps = g[at.KERNEL_D] * g[at.KERNEL_H] * g[at.KERNEL_W]
        for number in range(g[at.PHASES_D] * g[at.PHASES_H] * g[at.PHASES_W]):
            rest, phase_w = split(number, g[at.PHASES_W])
            phase_d, phase_h = split(rest, g[at.PHASES_H])
            (d, h, w), taps, before = find_taps((phase_d, phase_h, phase_w), g)
            for e in range(cuda.grid(1), filters * taps, cuda.gridsize(1)):
                rest, tap = e // taps, e % taps
                rest, row = rest // g[at.COUT], rest % g[at.COUT]
                group, channel = rest // g[at.CIN], rest % g[at.CIN]
                rest, c = tap // g[w + at.TAPS], tap % g[w + at.TAPS]
                a, b = rest // g[h + at.TAPS], rest % g[h + at.TAPS]
                k_d = g[d + at.FIRST_TAP] + a * g[at.TAP_STEP_D]
                k_h = g[h + at.FIRST_TAP] + b * g[at.TAP_STEP_H]
                k_w = g[w + at.FIRST_TAP] + c * g[at.TAP_STEP_W]
                place = group * g[at.CIN] * g[at.COUT] * all_taps + channel * g[at.W_IN] + row * g[at.W_OUT]
                place += (k_d * g[at.KERNEL_H] + k_h) * g[at.KERNEL_W] + k_w
                packed[before * filters + e] = weight[place]

    return pack_stamps


def make_fill(traits: Traits) -> KernelFunction:
    """Build the kernel that sets every sum to the bias of its channel, or to zero."""
    number, has_bias = getattr(types, traits.accumulate), traits.has_bias

    def scatter_fill(bias, sums, g):
        channels = g[at.GROUPS] * g[at.COUT]
        for e in range(cuda.grid(1), g[at.RESULT], cuda.gridsize(1)):
            sums[e] = number(bias[e // g[at.Y_CHANNEL] % channels]) if has_bias else number(0)

    return scatter_fill


def make_finish(traits: Traits) -> KernelFunction:
    """Build the kernel that applies the activation and rounds; `out` may be `sums` itself."""
    number, element = getattr(types, traits.accumulate), getattr(types, traits.dtype)
    activate = make_activation(traits.activation, number)

    def scatter_finish(sums, slope, out, g):
        for e in range(cuda.grid(1), g[at.RESULT], cuda.gridsize(1)):
            out[e] = element(activate(sums[e], slope))

    return scatter_finish


def make_add_parts(traits: Traits) -> KernelFunction:
    """Build the kernel that adds partial sums, always in the same order, and rounds once."""
    number, element = getattr(types, traits.accumulate), getattr(types, traits.dtype)

    def add_parts(partial, out, g):
        for e in range(cuda.grid(1), g[at.RESULT], cuda.gridsize(1)):
            value = number(0)
            for part in range(g[at.PARTS]):
                value += partial[part * g[at.RESULT] + e]
            out[e] = element(value)

    return add_parts


def make_copy() -> KernelFunction:
    """Build the kernel that copies between arrays with five axes and any strides."""

    def copy_elements(source, target):
        for e in range(cuda.grid(1), source.size, cuda.gridsize(1)):
            rest, m = e // source.shape[4], e % source.shape[4]
            rest, k = rest // source.shape[3], rest % source.shape[3]
            rest, j = rest // source.shape[2], rest % source.shape[2]
            h, i = rest // source.shape[1], rest % source.shape[1]
            target[h, i, j, k, m] = source[h, i, j, k, m]

    return copy_elements
