"""Rewrites: which problems they change, and that what they make lies on the same memory."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from cases import CASES, COMPLEX

from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.axis import Axis
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.rewrites import MOST_PHASES, kernel_axes, simplify


def plan_of(case, dtype="float32"):
    return make_plan(make_params(case.ndim, **case.keywords), case.x, case.weight, dtype, case.bias)


def test_every_output_of_a_single_input_is_a_phase_of_its_own():
    params = make_params(2, stride=2, padding=1)
    plan = make_plan(params, (1, 3, 1, 4), (3, 2, 9, 3), "float32", False)
    single, other = plan.axes[1:]
    assert (single.size, single.output_size) == (1, 7)
    longer = plan.axes[0], replace(single, stride=7), other
    assert kernel_axes(plan) == longer
    assert {phase.count for phase in single.phases} == {3, 4}
    assert {phase.count for phase in longer[1].phases} == {1}


def test_too_many_phases_are_not_made():
    most = make_plan(make_params(1), (1, 1, 1), (1, 1, MOST_PHASES), "float32", False)
    assert kernel_axes(most)[2].phase_count == MOST_PHASES
    more = make_plan(make_params(1), (1, 1, 1), (1, 1, MOST_PHASES + 1), "float32", False)
    assert kernel_axes(more) == more.axes


def test_a_stride_beyond_the_output_stays():
    plan = make_plan(make_params(1, stride=9), (1, 1, 1), (1, 1, 3), "float32", False)
    assert kernel_axes(plan) == plan.axes


@pytest.mark.parametrize("dtype", ["float32", *COMPLEX])
def test_the_same_memory(dtype):
    simpler = 0
    for case in CASES:
        plan = plan_of(case, dtype)
        problem = simplify(plan)
        assert (problem.plan.input_bytes, problem.plan.output_bytes) == (plan.input_bytes, plan.output_bytes), case.name
        simpler += problem.plan != plan
        assert simplify(problem.plan).plan == problem.plan, case.name
    assert simpler


def test_one_input_is_one_product():
    plan = make_plan(make_params(2, padding=1), (5, 3, 1, 1), (3, 2, 4, 4), "float32", False)
    problem = simplify(plan)
    assert problem.plan.axes == (Axis(1, 1, 1, 1, 0, 1),) * 3
    assert problem.plan.out_channels == 2 * math.prod(plan.out_spatial)
    assert problem.taps == ((0, 1), (1, 3), (1, 3))
