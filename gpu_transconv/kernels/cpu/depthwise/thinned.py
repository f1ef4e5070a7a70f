"""Depthwise layers whose results are thinned out, channels first: the gradient by the input where there is a stride.

A row of results is a short filter over rows of input, of which only every `step`-th result is wanted. Inputs are read
where they are, and taken apart in registers: to copy them first takes longer than to do that once for each tap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ..arguments import Table, unpack
from ..emit.pointers import address
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import STRIDES
from ..emit.thinned_ir import filter_thinned
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, make_partition
from ..runtime.compiled import inner, kernel

#: Output channels per input channel up to which filters are faster than products in tiles. Chosen, not measured.
_MULTIPLIER = 4


class Thinned(NamedTuple):
    """What the kernel `depthwise_thinned` unpacks; its boxes are single rows of results."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one result to the next
    first: PerAxis  # input that result 0 meets at tap 0, inside or not
    dilation: PerAxis  # inputs from one tap back to the next
    row: Table  # see `thinned_ir.filter_thinned`


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    thinned = any(axis.step > 1 for axis in plan.axes) and plan.axes[2].step in STRIDES
    alone = plan.in_channels == plan.groups and plan.out_channels <= _MULTIPLIER * plan.groups
    return thinned and alone and not plan.channels_last


def cut_thinned(plan: Plan, threads: int) -> Thinned:
    """Describe a row, and which vectors of its results meet nothing beyond its ends."""
    _, h, w = plan.axes
    lanes = VECTOR_BYTES // DTYPES[plan.accumulate].size
    first, dilation = [axis.pad_low for axis in plan.axes], [axis.dilation for axis in plan.axes]
    whole = w.output_size // lanes
    begin = min(whole, max(0, -(-(dilation[2] * (w.kernel - 1) - first[2]) // (lanes * w.step))))
    end = max(begin, min(whole, (w.size - first[2]) // (lanes * w.step)))
    apart = [-dilation[0] * h.size * w.size, -dilation[1] * w.size, -dilation[2]]
    row = [w.kernel, *apart, h.kernel * w.kernel, w.kernel, w.output_size, begin, end, first[2], w.size]
    blocks = [axis.output_size for axis in plan.axes]
    part = make_partition(blocks, (1, 1, blocks[2]), [(0, 0)] * 3, threads, lanes)
    step = PerAxis(*(axis.step for axis in plan.axes))
    return Thinned(make_geometry(plan), part, step, PerAxis(*first), PerAxis(*dilation), np.array(row, np.int64))


@kernel
def depthwise_thinned(x, weight, _bias, out, table, _work, thread):
    """Fill the share of one thread of the flat `out`: rows of results, which it owns; reads their rows of x."""
    job = unpack(Thinned, table)
    g, threads = job.geometry, job.part.threads
    rows = g.batch * g.groups * g.cout * g.out_d * g.out_h
    for row in range(thread * rows // threads, (thread + 1) * rows // threads):
        o_h, rest = row % g.out_h, row // g.out_h
        o_d, channel = rest % g.out_d, rest // g.out_d
        d, taps_d = _taps_met(o_d * job.step.d + job.first.d, job.dilation.d, g.kernel_d, g.in_d)
        h, taps_h = _taps_met(o_h * job.step.h + job.first.h, job.dilation.h, g.kernel_h, g.in_h)
        i_d = o_d * job.step.d + job.first.d - d * job.dilation.d
        i_h = o_h * job.step.h + job.first.h - h * job.dilation.h
        source = channel // g.cout * g.x_channel + (i_d * g.in_h + i_h) * g.in_w + job.first.w
        filters = channel % (g.groups * g.cout) * g.volume + (d * g.kernel_h + h) * g.kernel_w
        filter_thinned(
            address(out, row * g.out_w), address(x, source), address(weight, filters), address(job.row, 0),
            taps_d, taps_h, job.step.w, g.half,
        )  # fmt: skip
    return 0


@inner
def _taps_met(at, dilation, kernel, size):
    """First tap, and number of taps, that bring an input inside to a result, which meets input `at` at tap 0."""
    first = max(0, -((size - 1 - at) // dilation))
    return first, max(0, min(kernel, at // dilation + 1) - first)
