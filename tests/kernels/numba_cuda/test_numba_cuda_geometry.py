"""The vector of integers that kernels read: every name is the place of its value, and the phases follow."""

from __future__ import annotations

import itertools
import math

import pytest

from gpu_transconv.kernels.numba_cuda import geometry as at
from gpu_transconv.kernels.numba_cuda.traits import Cut
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.gradients import as_operation
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.sides import collecting, stamping

BOX = (2, 1, 3, 4)
OPERATIONS = ("forward", "input_grad")


def plan_of(operation: str):
    params = make_params(2, stride=(2, 3), padding=(1, 2), dilation=(3, 2), groups=2)
    return as_operation(make_plan(params, (5, 6, 7, 9), (6, 4, 2, 5), "float32", has_bias=False), operation)


@pytest.fixture(params=itertools.product(OPERATIONS, [collecting, stamping]), ids=lambda p: f"{p[0]}-{p[1].__name__}")
def sides(request):
    operation, view = request.param
    return view(plan_of(operation))


def test_every_name_is_the_place_of_its_value(sides):
    g, axes, plan = at.make_geometry(sides, BOX), sides.axes, sides.plan
    for name, attribute in {
        "BLOCKS": "blocks", "NEAR_STEP": "near_step", "FAR_STEP": "far_step", "TAP_STEP": "tap_step",
        "SHIFT_STEP": "shift_step", "ROUND_STEP": "round_step", "ROUNDS": "rounds",
    }.items():  # fmt: skip
        places = [getattr(at, f"{name}_{letter}") for letter in "DHW"]
        assert g[places].tolist() == [getattr(axis, attribute) for axis in axes], name
    assert g[[at.PHASES_D, at.PHASES_H, at.PHASES_W]].tolist() == [len(axis.phases) for axis in axes]
    assert g[[at.KERNEL_D, at.KERNEL_H, at.KERNEL_W]].tolist() == [1, 2, 5]
    assert g[at.MOST_TAPS] == math.prod(max(phase.taps for phase in axis.phases) for axis in axes)
    read, written = (plan.in_spatial, plan.out_spatial)[:: 1 if plan.operation == "forward" else -1]
    cin, cout = (3, 4)[:: 1 if plan.operation == "forward" else -1]
    assert g[[at.IN_D, at.IN_H, at.IN_W]].tolist() == [*read]
    assert g[[at.OUT_D, at.OUT_H, at.OUT_W]].tolist() == [*written]
    assert g[[at.BATCH, at.GROUPS, at.CIN, at.COUT]].tolist() == [5, 2, cin, cout]
    assert g[[at.X_BATCH, at.X_CHANNEL, at.X_PIXEL]].tolist() == [2 * cin * math.prod(read), math.prod(read), 1]
    assert g[[at.Y_BATCH, at.Y_CHANNEL]].tolist() == [2 * cout * math.prod(written), math.prod(written)]
    assert g[at.RESULT] == 5 * g[at.Y_BATCH]
    assert g[[at.W_IN, at.W_OUT]].tolist() == ([40, 10] if plan.operation == "forward" else [10, 40])
    assert g[[at.BOX_CHANNELS, at.BOX_D, at.BOX_H, at.BOX_W]].tolist() == [*BOX]
    assert g[at.CHANNEL_BOXES] == 2
    boxes = [math.ceil(size / box) for size, box in zip(written, BOX[1:], strict=True)]
    assert g[[at.BOXES_D, at.BOXES_H, at.BOXES_W]].tolist() == boxes


def test_the_cut_of_the_gradient_by_the_weight():
    g = at.make_geometry(stamping(plan_of("weight_grad")), cut=Cut(7, 8, 9, 10, 11, 12))
    places = [at.PARTS, at.PART_PIXELS, at.FIRST_ROW_TILE, at.ROW_TILES, at.RESULT_START, at.RESULT]
    assert g[places].tolist() == [7, 8, 9, 10, 11, 12]
    assert g[[at.CIN, at.COUT, at.MOST_TAPS]].tolist() == [3, 4, 10]
    plan = plan_of("forward")
    assert g[[at.IN_D, at.IN_H, at.IN_W]].tolist() == [*plan.in_spatial]
    assert g[[at.OUT_D, at.OUT_H, at.OUT_W]].tolist() == [*plan.out_spatial]


def test_names_share_no_place():
    places = [value for name, value in vars(at).items() if name.endswith(("_D", "_H", "_W")) and isinstance(value, int)]
    assert sorted(places) == [*range(at._SCALARS, at._SIZE)]


def test_phases_follow_in_the_order_of_the_axis(sides):
    g = at.make_geometry(sides, BOX)
    assert g[at.TABLE_D] == at._SIZE
    for number, axis in enumerate(sides.axes):
        table, before = g[(at.TABLE_D, at.TABLE_H, at.TABLE_W)[number]], 0
        for count, phase in enumerate(axis.phases):
            start = table + at.PHASE_SIZE * count
            assert g[[start + at.TAPS, start + at.FIRST_TAP, start + at.FIRST_SHIFT]].tolist() == [*phase]
            assert g[start + at.TAPS_BEFORE] == before
            first, last = axis.blocks_of_box(phase, BOX[1 + number])
            assert (g[start + at.FIRST_BLOCK], g[start + at.LAST_BLOCK]) == (first, last)
            before += phase.taps
    assert len(g) == start + at.PHASE_SIZE
