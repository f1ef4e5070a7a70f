"""Depthwise layers with the channels last: every pixel of input and tap is a product of two rows of channels.

A task owns some outputs of a row. Their sums start with the bias in scratch memory, take every tap that reaches
them, and are stored once, so no sum has two writers and its order is fixed.

Where outputs of a phase are less than a vector apart, a pixel at a time would wait for the one before, whose store its
load overlaps, and leave most of the vector idle. There the weights of a tap are repeated, for as many pixels, and
outputs of one phase lie next to each other until they are stored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import unpack
from ..emit.intrinsics import copy_block, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, fence
from ..emit.registers import VECTOR_BYTES
from ..emit.sums import add_products
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, box_count, box_of, make_partition
from ..runtime.compiled import inner, kernel

#: Sums of a task: 16 KiB of floats, so that they stay in the first-level cache. Chosen, not measured.
_SUMS = 4096
#: Weights of a tap with few channels, repeated ones included. Chosen, not measured.
_ROW = 256


class DepthwiseLast(NamedTuple):
    """What the kernel `depthwise_last` unpacks; its partition counts outputs instead of blocks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one block of outputs to the next
    row: int  # weights of a tap, repeated ones included
    plane: int  # sums of a phase where channels are few; 0 where they are not


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    return plan.channels_last and plan.in_channels == plan.out_channels == plan.groups > 1


def cut_rows(plan: Plan, threads: int) -> DepthwiseLast:
    """Cut the rows of outputs; the order of every sum does not depend on it."""
    outputs, channels, stride = plan.out_spatial, plan.out_channels, kernel_axes(plan)[2].stride
    repeats, plane = _repeats(plan.accumulate, channels, stride), 0
    length = min(outputs[2], max(1, _SUMS // channels))
    if repeats > 1:
        blocks = -(-min(outputs[2], _SUMS // (2 * channels)) // stride)
        length, plane = blocks * stride, blocks * channels
    work = stride * plane + length * channels + 64
    part = make_partition(outputs, (1, 1, length), [(0, 0)] * 3, threads, work)
    step = PerAxis(*(axis.step for axis in plan.axes))
    return DepthwiseLast(make_geometry(plan), part, step, channels * repeats, plane)


def _repeats(accumulate: str, channels: int, stride: int) -> int:
    """How often the weights of a tap are there; twice or more made 12 channels with a stride of 2 slower."""
    return 1 if channels * stride >= VECTOR_BYTES // DTYPES[accumulate].size else _ROW // channels


def pack(plan: Plan, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights ordered tap, repetition, channel, and the bias of one tap's weights."""
    repeats = _repeats(plan.accumulate, plan.groups, plan.axes[2].stride)
    taps = weight.reshape(plan.groups, -1).T.astype(plan.accumulate)
    return np.tile(taps, repeats).reshape(-1), np.tile(values, repeats)


@kernel
def depthwise_last(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a part of one row of outputs, which it owns.

    Reads the inputs that reach them, weight and bias; ``work[thread]`` holds the task's sums, and with few channels the
    outputs behind them.
    """
    job = unpack(DepthwiseLast, table)
    g, threads = job.geometry, job.part.threads
    sums = work[thread]
    line = g.stride_w * job.plane if g.stride_w > 1 else 0
    boxes = box_count(job.part)
    tasks = g.batch * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        n, box = task // boxes, box_of(job.part, task % boxes)
        size = g.stride_w * job.plane if job.plane else box.width * g.groups
        rows = size // job.row
        copy_block(address(sums, 0), job.row, address(bias, 0), 0, job.row, rows)
        copy_block(address(sums, rows * job.row), 0, address(bias, 0), 0, size - rows * job.row, 1)
        _add_taps(x, weight, sums, job, n, box)
        for phase in range(g.stride_w if line else 0):
            copy_block(
                address(sums, line + phase * g.groups), g.stride_w * g.groups, address(sums, phase * job.plane),
                g.groups, g.groups, (box.width - phase + g.stride_w - 1) // g.stride_w,
            )  # fmt: skip
        activate_run(sums, line, box.width * g.groups, g.activation, g.slope)
        pixel = ((n * g.out_d + box.d) * g.out_h + box.h) * g.out_w + box.w
        interleave_rows(
            address(out, pixel * g.groups), address(sums, line), 0, 1, box.width * g.groups, g.half, g.stream
        )  # fmt: skip
    fence()
    return 0


@inner
def _add_taps(x, weight, sums, job, n, box):
    """Add every tap that reaches them to the sums of a box, which is a part of one row of outputs."""
    g, step = job.geometry, job.step.w
    for k_d in range(g.kernel_d):
        for k_h in range(g.kernel_h):
            i_d = box.d // g.stride_d * job.step.d + g.shift_d[k_d]
            i_h = box.h // g.stride_h * job.step.h + g.shift_h[k_h]
            same_phase = g.phase_d[k_d] == box.d % g.stride_d and g.phase_h[k_h] == box.h % g.stride_h
            if not (same_phase and 0 <= i_d < g.in_d and 0 <= i_h < g.in_h):
                continue
            source = ((n * g.in_d + i_d) * g.in_h + i_h) * g.in_w
            for k_w in range(g.kernel_w):
                # Blocks whose output of this phase is asked for and whose input exists.
                phase, shift = g.phase_w[k_w], g.shift_w[k_w]
                low = max(-((phase - box.w) // g.stride_w), -(shift // step))
                high = min((box.w + box.width - 1 - phase) // g.stride_w + 1, (g.in_w - 1 - shift) // step + 1)
                tap = (k_d * g.kernel_h + k_h) * g.kernel_w + k_w
                if low >= high:
                    continue
                target, apart = (low * g.stride_w + phase - box.w) * g.groups, g.stride_w * g.groups
                if job.plane:
                    target, apart = phase * job.plane + (low - box.w // g.stride_w) * g.groups, g.groups
                begin, factors = (source + low * step + shift) * g.groups, address(weight, tap * job.row)
                if job.plane and step == 1:  # whole rows of repeated weights
                    rows = (high - low) * g.groups // job.row
                    done = rows * job.row
                    if rows:
                        add_products(
                            address(sums, target), job.row, address(x, begin), job.row, factors, job.row, rows, g.half
                        )
                    left = (high - low) * g.groups - done
                    add_products(address(sums, target + done), 0, address(x, begin + done), 0, factors, left, 1, g.half)
                    continue
                add_products(
                    address(sums, target), apart, address(x, begin), step * g.groups, factors, g.groups, high - low,
                    g.half,
                )  # fmt: skip
