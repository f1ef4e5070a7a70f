"""Kernels that touch every element once; each thread takes every so-many-th, whatever the launch.

For gather: the weights in the order in which its kernels read them. For scatter with atomics: the bias before,
the activation after. For the caller: copies from and to arrays that are not contiguous.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import KernelFunction, cuda, types
from .numbers import make_activation
from .traits import Traits


def make_pack(traits: Traits) -> KernelFunction:  # noqa: ARG001
    """Build the kernel that moves the weights from (Cin, Cout / groups, tap) to (tap, Cin, Cout / groups)."""

    def pack_weight(weight, packed, g):
        taps = g[at.KERNEL_D] * g[at.KERNEL_H] * g[at.KERNEL_W]
        filters = g[at.GROUPS] * g[at.CIN] * g[at.COUT]
        for e in range(cuda.grid(1), filters * taps, cuda.gridsize(1)):
            packed[e] = weight[e % filters * taps + e // filters]

    return pack_weight


def make_fill(traits: Traits) -> KernelFunction:
    """Build the kernel that sets every sum to the bias of its channel, or to zero."""
    number, has_bias = getattr(types, traits.accumulate), traits.has_bias

    def scatter_fill(bias, sums, g):
        channels = g[at.GROUPS] * g[at.COUT]
        for e in range(cuda.grid(1), g[at.BATCH] * g[at.Y_BATCH], cuda.gridsize(1)):
            sums[e] = number(bias[e // g[at.Y_CHANNEL] % channels]) if has_bias else number(0)

    return scatter_fill


def make_finish(traits: Traits) -> KernelFunction:
    """Build the kernel that applies the activation and rounds; `out` may be `sums` itself."""
    number, element = getattr(types, traits.accumulate), getattr(types, traits.dtype)
    activate = make_activation(traits.activation, number)

    def scatter_finish(sums, slope, out, g):
        for e in range(cuda.grid(1), g[at.BATCH] * g[at.Y_BATCH], cuda.gridsize(1)):
            out[e] = element(activate(sums[e], slope))

    return scatter_finish


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
