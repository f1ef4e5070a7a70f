"""Depthwise layers with the channels last: every pixel of input and tap is a product of two rows of channels.

A task owns some outputs of a row. Their sums start with the bias in scratch memory, take every tap that reaches
them, and are stored once, so no sum has two writers and its order is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.plan import Plan
from ..arguments import unpack
from ..emit.intrinsics import copy_row, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, fence
from ..emit.sums import add_products
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, box_count, box_of, make_partition
from ..runtime.compiled import inner, kernel

#: Sums of a task: 16 KiB of floats, so that they stay in the first-level cache. Chosen, not measured.
_SUMS = 4096


class DepthwiseLast(NamedTuple):
    """What the kernel `depthwise_last` unpacks; its partition counts outputs instead of blocks."""

    geometry: Geometry
    part: Partition
    step: PerAxis  # inputs from one block of outputs to the next


def takes(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    return plan.channels_last and plan.in_channels == plan.out_channels == plan.groups > 1


def cut_rows(plan: Plan, threads: int) -> DepthwiseLast:
    """Cut the rows of outputs; the order of every sum does not depend on it."""
    outputs = plan.out_spatial
    length = min(outputs[2], max(1, _SUMS // plan.out_channels))
    part = make_partition(outputs, (1, 1, length), [(0, 0)] * 3, threads, length * plan.out_channels + 64)
    return DepthwiseLast(make_geometry(plan), part, PerAxis(*(axis.step for axis in plan.axes)))


def pack(plan: Plan, weight: Array) -> Array:
    """Weights ordered tap, channel."""
    return np.ascontiguousarray(weight.reshape(plan.groups, -1).T, plan.accumulate).reshape(-1)


@kernel
def depthwise_last(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a part of one row of outputs, which it owns.

    Reads the inputs that reach them, weight and bias; ``work[thread]`` holds the task's sums.
    """
    job = unpack(DepthwiseLast, table)
    g, threads = job.geometry, job.part.threads
    sums = work[thread]
    boxes = box_count(job.part)
    tasks = g.batch * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        n, box = task // boxes, box_of(job.part, task % boxes)
        for j in range(box.width):
            copy_row(address(sums, j * g.groups), address(bias, 0), 0, g.groups, g.groups, 0)
        _add_taps(x, weight, sums, job, n, box)
        activate_run(sums, 0, box.width * g.groups, g.activation, g.slope)
        pixel = ((n * g.out_d + box.d) * g.out_h + box.h) * g.out_w + box.w
        interleave_rows(
            address(out, pixel * g.groups), address(sums, 0), 0, 1, box.width * g.groups, g.half, g.stream
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
                if low < high:
                    add_products(
                        address(sums, (low * g.stride_w + phase - box.w) * g.groups), g.stride_w * g.groups,
                        address(x, (source + low * step + shift) * g.groups), step * g.groups,
                        address(weight, tap * g.groups), g.groups, high - low, g.half,
                    )  # fmt: skip
