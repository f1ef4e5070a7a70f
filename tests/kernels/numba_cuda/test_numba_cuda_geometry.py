"""The vector of integers that kernels read: every name is the place of its value, and the phases follow."""

from __future__ import annotations

import math

import pytest

from gpu_transconv.kernels.numba_cuda import geometry as at
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.product import by_phase, stamps

BOX = (2, 1, 3, 4)


@pytest.fixture(params=[by_phase, stamps], ids=["by phase", "stamps"])
def product(request):
    params = make_params(2, stride=(2, 3), padding=(1, 2), dilation=(3, 2), groups=2)
    return request.param(make_plan(params, (5, 6, 7, 1), (6, 4, 2, 5), "float32", has_bias=False))


def test_every_name_is_the_place_of_its_value(product):
    g, axes = at.make_geometry(product, BOX), product.axes
    for name, attribute in {
        "IN": "size", "OUT": "output_size", "KERNEL": "kernel", "STRIDE": "stride", "DILATION": "dilation",
        "PAD": "pad_low", "BLOCKS": "blocks", "PHASES": "phase_count", "TAP_STEP": "tap_step", "ROUNDS": "most_taps",
    }.items():  # fmt: skip
        places = [getattr(at, f"{name}_{letter}") for letter in "DHW"]
        assert g[places].tolist() == [getattr(axis, attribute) for axis in axes], name
    assert g[[at.BATCH, at.GROUPS, at.CIN, at.COUT]].tolist() == [5, 2, 3, 4]
    assert g[[at.X_BATCH, at.X_CHANNEL, at.X_PIXEL]].tolist() == [6 * 7, 7, 1]
    assert g[[at.BOX_CHANNELS, at.BOX_D, at.BOX_H, at.BOX_W]].tolist() == [*BOX]
    assert g[at.CHANNEL_BOXES] == 2
    assert [g[at.BOXES_D], g[at.BOXES_H], g[at.BOXES_W]] == [
        math.ceil(axis.output_size / size) for axis, size in zip(axes, BOX[1:], strict=True)
    ]


def test_names_share_no_place():
    places = [value for name, value in vars(at).items() if name.endswith(("_D", "_H", "_W")) and isinstance(value, int)]
    assert sorted(places) == [*range(at._SCALARS, at._SIZE)]


def test_phases_follow_in_the_order_of_the_axis(product):
    g = at.make_geometry(product, BOX)
    assert g[at.TABLE_D] == at._SIZE
    for axis, table in zip(product.axes, (at.TABLE_D, at.TABLE_H, at.TABLE_W), strict=True):
        for phase, taps in enumerate(axis.taps_by_phase(axis.phase_count)):
            start = g[table] + at.PHASE_SIZE * phase
            assert g[start + at.TAPS] == len(taps)
            if taps:
                assert (g[start + at.FIRST_TAP], g[start + at.FIRST_SHIFT]) == taps[0]
    assert len(g) == start + at.PHASE_SIZE


def test_inputs_that_reach_a_box(product):
    g = at.make_geometry(product, BOX)
    for number, axis in enumerate(product.axes):
        first, last = axis.inputs_of_box(BOX[1 + number])
        assert (g[at.FIRST_INPUT_D + number], g[at.LAST_INPUT_D + number]) == (first, last)
