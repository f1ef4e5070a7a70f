"""The kernel for Hopper's matrix unit on a device that has one, whatever its cost model would choose."""

from __future__ import annotations

import pytest
from cases import CORE, DATA_FORMATS
from checks import Arrays, assert_close, expected, make_arrays
from device_checks import run_launches
from support.gradients import exact_gradient, make_gradient, reduction_of
from tile_cases import aligned, plan_of

from gpu_transconv.kernels.cupy.hopper import hopper_launches
from gpu_transconv.kernels.cupy.launch import device_properties
from gpu_transconv.problem.gradients import as_operation

CASES = CORE[::2]


@pytest.fixture
def device():
    found = device_properties(0)
    if not found.has_warpgroups:
        pytest.skip("the kernel is for capability 9.0, with cuda.bindings installed")
    return found


@pytest.mark.parametrize("by_copies", [True, False], ids=["copies", "loads"])
@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_definition(case, data_format, by_copies, device):
    one = aligned(case, data_format) if by_copies else case
    for dtype, tile_blocks in (("float16", 4), ("bfloat16", 2)):
        arrays = make_arrays(one, dtype, data_format)
        plan = plan_of(one, arrays, data_format)
        got = run_launches(plan, hopper_launches(plan, device, tile_blocks), arrays)
        assert_close(got, expected(one, arrays, data_format), dtype, one.reduction)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_by_x(case, data_format, device):
    one = aligned(case, data_format)
    arrays = make_gradient(one, "float16", data_format)
    plan = as_operation(plan_of(one, arrays._replace(bias=None), data_format), "input_grad")
    got = run_launches(plan, hopper_launches(plan, device), Arrays(arrays.bias, arrays.weight, None))
    want = exact_gradient(one, "input_grad", arrays, data_format)
    assert_close(got, want, "float16", max(1, reduction_of(one, "input_grad")))
