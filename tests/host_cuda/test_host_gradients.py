"""The gradients by the CUDA C++ kernels, run on the host by the launches that a GPU would get."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, COMPLEX, CORE, DATA_FORMATS, FLOATS, Case
from checks import assert_close
from device_checks import GRADIENTS
from host_checks import requires_compiler, run_gradient_plan
from support.gradients import exact_gradient, make_gradient, reduction_of
from test_random_geometries import make_problem
from tile_cases import plan_of

from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.problem.gradients import as_operation

pytestmark = requires_compiler

#: dtype and precision: all of them for the core cases, the first for every case.
KINDS = [("float32", "highest"), ("float32", "tf32")]
KINDS += [(dtype, "highest") for dtype in FLOATS + COMPLEX if dtype != "float32"]
TABLE = [
    pytest.param(case, dtype, precision, id=f"{case.name}-{dtype if precision == 'highest' else precision}")
    for dtype, precision in KINDS
    for case in (CASES if (dtype, precision) == KINDS[0] else CORE)
]


def gradient_plan(case, arrays, operation, data_format, precision="highest"):
    arrays = arrays._replace(bias=None)
    return as_operation(plan_of(case, arrays, data_format, precision), operation)


def check(case, variant, dtype, precision, data_format, device=None):
    operation = variant.partition("/")[0]
    arrays = make_gradient(case, dtype, data_format)
    plan = gradient_plan(case, arrays, operation, data_format, precision)
    got = run_gradient_plan(plan, arrays, variant, device or DeviceProperties())
    want = exact_gradient(case, operation, arrays, data_format)
    assert_close(got, want, dtype, max(1, reduction_of(case, operation)), precision)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("case", "dtype", "precision"), TABLE)
@pytest.mark.parametrize("variant", GRADIENTS)
def test_definition(variant, case, dtype, precision, data_format):
    check(case, variant, dtype, precision, data_format)
