"""Depthwise layers with the channels last: every pixel of input and tap is a product of two rows of channels.

A task owns some outputs of a row. Their sums start with the bias in scratch memory, take every tap that reaches
them, and are stored once, so no sum has two writers and its order is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...arrays.views import Array
from ...problem.plan import Plan
from .activation import activate
from .compiled import inner, kernel
from .geometry import Geometry, input_row
from .layout import LAYOUT
from .tables import unpack
from .vectors import add_products, address, copy_row, fence, interleave_rows

#: Sums of a task, which stay in the first-level cache.
_SUMS = 4096


class Parts(NamedTuple):
    """How rows of outputs are cut."""

    length: int  # outputs of a task
    parts: int  # of a row
    threads: int
    work: int  # elements of scratch memory, per thread


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    return plan.channels_last and plan.in_channels == plan.out_channels == plan.groups > 1


def make_parts(plan: Plan, threads: int) -> Parts:
    """Cut the rows; the order of every sum does not depend on it."""
    width = plan.out_spatial[2]
    length = min(width, max(1, _SUMS // plan.out_channels))
    return Parts(length, -(-width // length), threads, length * plan.out_channels + 64)


def pack(plan: Plan, weight: Array) -> Array:
    """Weights ordered tap, channel."""
    return np.ascontiguousarray(weight.reshape(plan.groups, -1).T, plan.accumulate).reshape(-1)


@kernel
def depthwise_last(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a part of one row of outputs."""
    g, b = unpack(Geometry, table, 0), unpack(Parts, table, LAYOUT)
    sums = work[thread]
    tasks = g.batch * g.out_d * g.out_h * b.parts
    for task in range(thread * tasks // b.threads, (thread + 1) * tasks // b.threads):
        row, first = task // b.parts, task % b.parts * b.length
        count = min(b.length, g.out_w - first)
        for j in range(count):
            copy_row(address(sums, j * g.groups), address(bias, 0), 0, g.groups, g.groups, 0)
        _add_taps(x, weight, sums, g, row // g.out_h // g.out_d, row // g.out_h % g.out_d, row % g.out_h, first, count)
        if g.activation:
            for i in range(count * g.groups):
                sums[i] = activate(sums[i], g.activation, g.slope)
        target = address(out, (row * g.out_w + first) * g.groups)
        interleave_rows(target, address(sums, 0), 0, 1, count * g.groups, g.half, g.stream)
    fence()
    return 0


@inner
def _add_taps(x, weight, sums, g, n, o_d, o_h, first, count):
    """Add every tap to the outputs of a row from `first` on."""
    for k_d in range(g.kernel_d):
        for k_h in range(g.kernel_h):
            row = input_row(g, k_d, k_h, o_d, o_h)
            if row < 0:
                continue
            source = (n * g.in_d * g.in_h + row) * g.in_w
            for k_w in range(g.kernel_w):
                # Blocks whose output of this phase is asked for and whose input exists.
                phase, shift = g.phase_w[k_w], g.shift_w[k_w]
                low = max(-((phase - first) // g.stride_w), -shift)
                high = min((first + count - 1 - phase) // g.stride_w + 1, g.in_w - shift)
                tap = (k_d * g.kernel_h + k_h) * g.kernel_w + k_w
                if low < high:
                    add_products(
                        address(sums, (low * g.stride_w + phase - first) * g.groups), g.stride_w * g.groups,
                        address(x, (source + low + shift) * g.groups), g.groups,
                        address(weight, tap * g.groups), g.groups, high - low, g.half,
                    )  # fmt: skip
