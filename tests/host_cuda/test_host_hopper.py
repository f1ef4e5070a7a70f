"""The kernel for Hopper's matrix unit, run on the host against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, DATA_FORMATS, CORE
from checks import assert_close, expected, make_arrays, poisoned
from host_checks import DEVICE, requires_compiler
from host_compiler import KERNELS
from host_runner import run_launches, to_device
from tile_cases import plan_of

from gpu_transconv.kernels.cupy.hopper import hopper_launches

pytestmark = requires_compiler


def run_hopper(plan, arrays, tile_blocks=None, order=0, folder=KERNELS):
    planned = hopper_launches(plan, DEVICE, tile_blocks)
    names = ("x", "weight", "bias")
    found = {name: None if array is None else to_device(array) for name, array in zip(names, arrays, strict=True)}
    out = to_device(poisoned(plan.result_shape, plan.dtype))
    run_launches((*planned.pack, *planned.launch), folder, found | {"out": out}, order=order)
    return out


def check(case, dtype, data_format, **choice):
    arrays = make_arrays(case, dtype, data_format)
    got = run_hopper(plan_of(case, arrays, data_format), arrays, **choice)
    assert_close(got, expected(case, arrays, data_format), dtype, case.reduction)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_definition(case, data_format):
    if case.takes("float16"):
        check(case, "float16", data_format)
