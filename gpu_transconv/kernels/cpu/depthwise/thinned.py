"""Depthwise layers whose results are thinned out, channels first: the gradient by the input where there is a stride.

A task is one input channel of one image, or a box of its results. The rows that the box reads are copied once, taken
apart by place in their source blocks, with zeros around them: so what neighbouring results read at a tap lies next to
each other, and a row of results is a short filter with one phase.
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
from ..emit.fir_tile import filter_rows, filter_table, filter_vectors
from ..emit.intrinsics import copy_every, interleave_rows
from ..emit.pointers import address, address_as, fence, lanes_past, offset
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import STRIDES
from ..geometry import Geometry, fits_boxes, make_geometry
from ..partition import Partition, PerAxis, box_count, box_of, even, make_partition
from ..runtime.compiled import inner, kernel

#: Floats of a panel, which stays in the first-level cache of most CPUs: 24 KiB. Chosen, not measured.
_PANEL = 6144
#: Output channels per input channel up to which filters are faster than products in tiles. Chosen, not measured.
_MULTIPLIER = 4


class PlaceBoxes(NamedTuple):
    """Boxes of results of one channel, and the panel with a row for each place of the source blocks on w."""

    step: PerAxis  # inputs from one result to the next
    length: int  # source blocks of a row
    pitch: int  # of the row of one place in the panel
    height: int  # rows of input of a full box
    panel: int  # elements of the input
    across: int  # whether vectors are taken from several rows at once, for narrow maps
    most: int  # vectors at once
    start: Table  # the one place from which the taps are counted
    taps: Table  # see `fir_tile.filter_rows`: number of taps, distance in the panel of each, and none of a phase's own
    table: int  # address of the compiled filters


class Thinned(NamedTuple):
    """What the kernel `depthwise_thinned` unpacks.

    `low` and `span` of its partition count rows of input, and source blocks on w.
    """

    geometry: Geometry
    part: Partition
    cut: PlaceBoxes


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    axes = kernel_axes(plan)
    thinned = any(axis.step > 1 for axis in axes) and axes[2].step in STRIDES
    alone = plan.in_channels == plan.groups and plan.out_channels <= _MULTIPLIER * plan.groups
    return thinned and alone and not plan.channels_last and fits_boxes(axes)


def cut_thinned(plan: Plan, threads: int) -> Thinned:
    """Cut every channel into boxes whose input stays close to the core."""
    d, h, w = axes = kernel_axes(plan)
    lanes = VECTOR_BYTES // DTYPES[plan.accumulate].size
    room = _PANEL * 4 // DTYPES[plan.accumulate].size
    reach = [_rows_read(d), _rows_read(h), w.reach()]
    (low_d, span_d), (low_h, span_h), (low_w, span_w) = reach
    box_w = even(w.output_size, max(lanes, room // ((1 + span_d) * (1 + span_h)) // w.step - span_w))
    pitch = -(-(box_w + span_w) // lanes) * lanes
    rows = room // (pitch * w.step)
    box_h = even(h.output_size, (rows // (1 + span_d) - 1 - span_h) // h.step + 1)
    height = (box_h - 1) * h.step + 1 + span_h
    box_d = even(d.output_size, (rows // height - 1 - span_d) // d.step + 1)
    panel = ((box_d - 1) * d.step + 1 + span_d) * height * w.step * pitch + lanes  # whole vectors are read
    places = [
        ((k_d * height + k_h) * w.step + place) * pitch + block - low_w
        for k_d, k_h, (block, place) in product(
            (d.shift_of(k) - low_d for k in range(d.kernel)),
            [h.shift_of(k) - low_h for k in range(h.kernel)],
            [w.source_of(k) for k in range(w.kernel)],
        )
    ]
    most = filter_vectors(1)[-1]
    cut = PlaceBoxes(
        step=PerAxis(d.step, h.step, w.step), length=box_w + span_w, pitch=pitch, height=height, panel=panel,
        across=int(-(-box_w // lanes) % most != 0 and box_h >= 4), most=most, start=np.zeros(1, np.int64),
        taps=np.array([len(places), *places, 0], np.int64), table=filter_table(plan.accumulate),
    )  # fmt: skip
    line = box_h * box_w + lanes if plan.dtype != plan.accumulate else 0
    boxes = [axis.output_size for axis in axes], (box_d, box_h, box_w)
    return Thinned(make_geometry(plan), make_partition(*boxes, reach, threads, panel + line), cut)


def _rows_read(axis: Axis) -> tuple[int, int]:
    """Smallest shift, and how far the largest is from it, in inputs."""
    low = axis.shift_of(axis.kernel - 1)
    return low, axis.shift_of(0) - low


@kernel
def depthwise_thinned(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a box of one channel of one image.

    Reads the box's input and weights and owns its outputs; ``work[thread]`` holds the panel, and of half types a line.
    """
    job = unpack(Thinned, table)
    g, part, cut = job.geometry, job.part, job.cut
    boxes, threads = box_count(part), part.threads
    tasks = g.batch * g.groups * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        number, image = task % boxes, task // boxes
        _copy_box(x, work[thread], g, part, cut, number, image)
        for channel in range(image * g.cout, (image + 1) * g.cout):
            _filter_box(weight, bias, out, work[thread], g, part, cut, number, channel)
    fence()
    return 0


@inner
def _copy_box(x, panel, g, part, cut, number, image):
    """Copy the rows of input that a box reads, by place, zero outside the input; `image` counts images and channels."""
    box = box_of(part, number)
    top = box.h * cut.step.h + part.low_h
    height = (box.height - 1) * cut.step.h + 1 + part.span_h
    first, end = min(max(0, -top), height), max(0, min(height, g.in_h - top))
    for d in range((box.depth - 1) * cut.step.d + 1 + part.span_d):
        i_d = box.d * cut.step.d + part.low_d + d
        inside = 0 <= i_d < g.in_d and first < end
        rows = (first, end) if inside else (height, height)
        for place in range(cut.step.w):
            start = (box.w + part.low_w) * cut.step.w + place
            low = max(0, -start)
            high = max(low, min(cut.length * cut.step.w, g.in_w - start))
            source = image * g.x_channel + (i_d * g.in_h + top) * g.in_w + start
            target = (d * cut.height * cut.step.w + place) * cut.pitch
            row = cut.step.w * cut.pitch
            for begin, count, present in (
                (0, rows[0], low),
                (rows[0], rows[1] - rows[0], high),
                (rows[1], height - rows[1], low),
            ):
                copy_every(
                    address(panel, target + begin * row), row, address(x, source + begin * g.in_w), g.in_w, count,
                    low, present, cut.length, cut.step.w, g.half,
                )  # fmt: skip


@inner
def _filter_box(weight, bias, out, work, g, part, cut, number, channel):
    """Compute the outputs of a box of one output channel; `channel` counts images and output channels.

    Reads the panel at the start of `work`, the channel's weights and its bias, which is zero; writes the outputs
    straight to `out`, or if they are of another type through the line behind the panel.
    """
    box = box_of(part, number)
    lanes = VECTOR_BYTES // work.itemsize
    vectors = (box.width + lanes - 1) // lanes
    row = cut.step.w * cut.pitch
    pitch = box.width if g.half else g.out_w
    filters = channel % (g.groups * g.cout)
    weights, zero = address(weight, filters * g.volume), address(bias, filters)
    for d in range(box.depth):
        target = channel * g.y_channel + ((box.d + d) * g.out_h + box.h) * g.out_w + box.w
        stream = g.stream and not g.half and g.out_w % lanes == 0 and lanes_past(out, target) == 0
        to = address(work, cut.panel) if g.half else address_as(work, out, target)
        h = 0
        while h < box.height:
            many = cut.most if cut.across else 1
            while many > box.height - h:
                many //= 2
            source = (d * cut.step.d * cut.height + h * cut.step.h) * row
            v = 0
            while v < vectors:
                few = 1 if cut.across else cut.most
                while few > vectors - v:
                    few //= 2
                filter_rows(
                    cut.table, offset(to, h * pitch + v * lanes), pitch if cut.across else lanes,
                    0 if cut.across else lanes, box.width - v * lanes, 0, stream,
                    address(work, source + v * lanes), cut.step.h * row if cut.across else lanes,
                    address(cut.start, 0), 1, address(cut.taps, 0), weights, zero, 1, many if cut.across else few,
                )  # fmt: skip
                v += few
            h += many
        for h in range(box.height if g.half else 0):
            line = address(work, cut.panel + h * pitch)
            interleave_rows(address(out, target + h * g.out_w), line, 0, 1, box.width, g.half, 0)
