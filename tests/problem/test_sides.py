"""An axis seen from either side shows the same meetings of input, tap and output, each once."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from test_axis import FEWER_OUTPUTS_THAN_PHASES, NO_TAP_IN_SOME_PHASES, axes

from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.gradients import as_operation
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.sides import Side, collecting, from_input, from_output, stamping


def meetings(side: Side) -> list[tuple[int, int, int]]:
    """All (near, tap, far) of a side."""
    return [
        (near, phase.first_tap + a * side.tap_step, far)
        for number, phase in enumerate(side.phases)
        for block in range(side.blocks)
        if (near := block * side.near_step + number) < side.near
        for a in range(phase.taps)
        if 0 <= (far := block * side.far_step + phase.first_shift + a * side.shift_step) < side.far
    ]


@given(axes())
@example(NO_TAP_IN_SOME_PHASES)
@example(FEWER_OUTPUTS_THAN_PHASES)
def test_both_sides_show_the_same_meetings(axis):
    by_definition = [
        (i, tap, output)
        for i in range(axis.size)
        for tap in range(axis.kernel)
        if 0 <= (output := i * axis.stride - axis.pad_low + tap * axis.dilation) < axis.output_size
    ]
    assert sorted(meetings(from_input(axis))) == sorted(by_definition)
    assert sorted(meetings(from_output(axis))) == sorted((o, tap, i) for i, tap, o in by_definition)


@given(axes())
@example(NO_TAP_IN_SOME_PHASES)
def test_rounds_and_boxes(axis):
    for side in (from_input(axis), from_output(axis)):
        assert side.most_taps == max(phase.taps for phase in side.phases)
        for phase in side.phases:
            shifts = [phase.first_shift + a * side.shift_step for a in range(phase.taps)]
            for a, shift in enumerate(shifts):  # those of one round never meet, those of two may
                met = [b for b, other in enumerate(shifts) if b > a and (other - shift) % side.far_step == 0]
                assert met == [b for b in range(a + 1, phase.taps) if (b - a) % side.round_step == 0]
                assert len(met) < side.rounds
            for first in range(side.far if shifts else 0):
                for size in (1, 3):
                    low, high = ((first + end) // side.far_step for end in side.blocks_of_box(phase, size))
                    blocks = range(-30 - side.far, 31 + side.far)
                    assert low == min(b for b in blocks if b * side.far_step + max(shifts) >= first)
                    assert high == max(b for b in blocks if b * side.far_step + min(shifts) < first + size)


@pytest.mark.parametrize("operation", ["forward", "input_grad", "weight_grad"])
def test_a_plan_from_both_sides(operation):
    params = make_params(2, stride=(2, 3), padding=1, groups=2)
    plan = as_operation(make_plan(params, (5, 6, 7, 9), (6, 4, 3, 5), "float32", has_bias=False), operation)
    cin, cout = (4, 3) if operation == "input_grad" else (3, 4)
    scatter = stamping(plan)
    assert (scatter.source_channels, scatter.result_channels) == (cin, cout)
    inputs, outputs = 5 * 7 * 9, 5 * math.prod(axis.blocks for axis in plan.axes)
    if operation == "input_grad":  # of 3 and 5 taps at most 2 and 2 are in one phase
        assert (scatter.rows, scatter.columns, scatter.count) == (3 * 2 * 2, outputs, 6)
    else:
        assert (scatter.rows, scatter.columns, scatter.count) == (4 * 15, inputs, 1)
    if operation != "weight_grad":
        gather = collecting(plan)
        found = gather.rows, gather.columns, gather.count
        assert found == ((4, outputs, 6) if operation == "forward" else (3, inputs, 1))
