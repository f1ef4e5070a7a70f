"""Depthwise layers whose results are thinned out, channels first: the gradient by the input where there is a stride.

A task is one output channel of one image, or a box of it. The rows of input that the box reads are copied once, with
zeros around them; then every row of results is a short filter over them, of which only every `step`-th result is kept.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Table, unpack
from ..emit.intrinsics import copy_row, interleave_rows
from ..emit.pointers import address, fence
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import STRIDES
from ..emit.thinned_ir import filter_thinned
from ..geometry import Geometry, fits_boxes, make_geometry
from ..partition import Partition, PerAxis, box_count, box_of, even, make_partition
from ..runtime.compiled import inner, kernel

#: Floats of a panel, which stays in the first-level cache of most CPUs: 24 KiB. Chosen, not measured.
_PANEL = 6144
#: Output channels per input channel up to which filters are faster than products in tiles. Chosen, not measured.
_MULTIPLIER = 4


class Thinned(NamedTuple):
    """What the kernel `depthwise_thinned` unpacks; `low` and `span` of its partition count inputs, not blocks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one output to the next
    pitch: int  # of a row of the panel
    panel: int  # elements of the input
    offsets: Table  # by tap: distance in the panel


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    axes = kernel_axes(plan)
    thinned = any(axis.step > 1 for axis in axes) and axes[2].step in STRIDES
    alone = plan.in_channels == plan.groups and plan.out_channels <= _MULTIPLIER * plan.groups
    return thinned and alone and not plan.channels_last and fits_boxes(axes)


def cut_thinned(plan: Plan, threads: int) -> Thinned:
    """Cut every channel into boxes whose input stays close to the core."""
    axes = kernel_axes(plan)
    lanes = VECTOR_BYTES // DTYPES[plan.accumulate].size
    blocks, steps = [axis.output_size for axis in axes], [axis.step for axis in axes]
    low = [axis.shift_of(axis.kernel - 1) for axis in axes]
    span = [axis.shift_of(0) - first for axis, first in zip(axes, low, strict=True)]
    room = _PANEL * 4 // DTYPES[plan.accumulate].size
    box_w = even(blocks[2], max(lanes, (room // ((1 + span[0]) * (1 + span[1])) - span[2]) // steps[2]))
    # Whole vectors of results are computed, and whole vectors of input read for them.
    pitch = -(-box_w // lanes) * lanes * steps[2] + span[2]
    rows = room // pitch
    box_h = even(blocks[1], (rows // (1 + span[0]) - 1 - span[1]) // steps[1] + 1)
    height = _reads(axes[1], box_h, span[1])
    box_d = even(blocks[0], (rows // height - 1 - span[0]) // steps[0] + 1)
    panel = _reads(axes[0], box_d, span[0]) * height * pitch + lanes * steps[2]
    taps = product(
        *([axis.shift_of(k) - first for k in range(axis.kernel)] for axis, first in zip(axes, low, strict=True))
    )
    offsets = np.array([(d * height + h) * pitch + w for d, h, w in taps], np.int64)
    reach = list(zip(low, span, strict=True))
    part = make_partition(blocks, (box_d, box_h, box_w), reach, threads, panel + -(-box_w // lanes) * lanes)
    return Thinned(make_geometry(plan), part, PerAxis(*steps), pitch, panel, offsets)


def _reads(axis: Axis, outputs: int, span: int) -> int:
    """Inputs from the first to the last that so many neighbouring outputs read."""
    return (outputs - 1) * axis.step + 1 + span


@kernel
def depthwise_thinned(x, weight, _bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of one channel of one image.

    Reads the box's input and weights and owns its outputs; ``work[thread]`` holds the panel and a row of sums.
    """
    job = unpack(Thinned, table)
    g, boxes, threads = job.geometry, box_count(job.part), job.part.threads
    tasks = g.batch * g.groups * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        box, image = box_of(job.part, task % boxes), task // boxes
        _copy_box(x, work[thread], job, box, image)
        for channel in range(g.cout):
            _filter_box(weight, out, work[thread], job, box, image * g.cout + channel)
    fence()
    return 0


@inner
def _copy_box(x, panel, job, box, image):
    """Copy the rows of input that a box reads, zero outside the input; `image` counts images and channels."""
    g, part = job.geometry, job.part
    start = box.w * job.step.w + part.low_w
    low = max(0, -start)
    high = max(low, min(job.pitch, g.in_w - start))
    height = (part.box_h - 1) * job.step.h + 1 + part.span_h
    for d in range((box.depth - 1) * job.step.d + 1 + part.span_d):
        i_d = box.d * job.step.d + part.low_d + d
        for h in range((box.height - 1) * job.step.h + 1 + part.span_h):
            i_h = box.h * job.step.h + part.low_h + h
            present = high if 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else low
            source = address(x, image * g.x_channel + (i_d * g.in_h + i_h) * g.in_w + start)
            copy_row(address(panel, (d * height + h) * job.pitch), source, low, present, job.pitch, g.half)


@inner
def _filter_box(weight, out, work, job, box, image):
    """Compute the outputs of a box of one output channel; `image` counts images and output channels.

    Reads the panel at the start of `work` and the channel's weights; each row of outputs is summed behind the panel.
    """
    g, part = job.geometry, job.part
    lanes = VECTOR_BYTES // work.itemsize
    vectors = (box.width + lanes - 1) // lanes
    height = (part.box_h - 1) * job.step.h + 1 + part.span_h
    sums, weights = address(work, job.panel), address(weight, image % (g.groups * g.cout) * g.volume)
    for d in range(box.depth):
        for h in range(box.height):
            row = address(work, (d * job.step.d * height + h * job.step.h) * job.pitch)
            filter_thinned(sums, row, address(job.offsets, 0), weights, g.volume, vectors, job.step.w)
            pixel = ((box.d + d) * g.out_h + box.h + h) * g.out_w + box.w
            interleave_rows(address(out, image * g.y_channel + pixel), sums, 0, 1, box.width, g.half, 0)
