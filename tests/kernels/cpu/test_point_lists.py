"""How small maps are shared out, and which taps begin the sums of their outputs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gpu_transconv.kernels.cpu.emit.registers import VECTOR_BYTES
from gpu_transconv.kernels.cpu.points import meetings, point_lists
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import ArraySpec, Plan, plan_call
from gpu_transconv.problem.rewrites import kernel_axes


def plan_of(side: int, kernel: int, stride: int, padding: int, channels: int, batch: int = 1) -> Plan:
    """A plan with two axes alike, and 64 input channels."""
    params = make_params(2, stride=stride, padding=padding)
    x, weight = ArraySpec((batch, 64, side, side), "float32"), ArraySpec((64, channels, kernel, kernel), "float32")
    return plan_call(params, x, weight, None)


PLANS = [
    plan_of(4, 3, 2, 1, 40),
    plan_of(5, 2, 2, 0, 72, 2),
    plan_of(2, 3, 3, 0, 208),
    plan_of(1, 4, 1, 1, 5),
    plan_of(8, 5, 1, 2, 164),
    plan_of(3, 2, 3, 0, 33),
    plan_of(30, 3, 3, 1, 16),
    plan_of(3, 4, 2, 2, 67),
]


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.out_channels} channels")
def test_every_channel_of_every_output_is_one_tasks(plan, threads):
    """Tasks overlap nowhere and leave out nothing; every share has its own."""
    points = point_lists.cut_points(plan, threads).points
    vectors, parts = points.tasks[:, 1].max(), len(points.bounds) - 1
    owners = np.zeros((vectors, parts), int)
    for first, past, low, high in points.tasks:
        owners[first:past, low:high] += 1
    assert (owners == 1).all()
    assert points.bounds[0] == 0
    assert points.bounds[-1] == plan.batch * math.prod(plan.out_spatial)
    assert len(points.shares) == threads + 1
    assert points.shares[-1] == len(points.tasks)
    assert vectors * VECTOR_BYTES // 4 >= plan.out_channels


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.out_channels} channels")
def test_inputs_read_where_they_are_follow_each_other(plan):
    """Of each tap and task: in one part of the outputs they may, where in all of them they do not."""
    points = point_lists.cut_points(plan, 2).points
    for _, _, low, high in points.tasks if points.direct else ():
        for starts in points.starts:
            assert (np.diff(points.inputs[starts[low] : starts[high]]) == 1).all()


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.out_channels} channels")
def test_first_taps_reach_their_outputs_first(plan):
    """By all that meets: a tap is first where none before reaches its outputs; the others' outputs are told."""
    axes = kernel_axes(plan)
    _, outputs, before = meetings.make_meetings(axes, plan.batch)
    fresh, begun = meetings.first_taps(axes, plan.batch)
    seen, first = set[int](), set[int]()
    for tap, (start, end) in enumerate(itertools.pairwise(before)):
        reached = set(outputs[start:end].tolist())
        assert bool(fresh[tap]) == (not reached & seen) or not reached
        first |= reached if fresh[tap] else set()
        seen |= reached
    assert begun.tolist() == [o for o in range(plan.batch * math.prod(plan.out_spatial)) if o not in first]
