"""The kernel for Hopper's matrix unit, run on the host against the definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, CORE, DATA_FORMATS, Case
from checks import Arrays, as_format, assert_close, assert_same_specials, expected, make_arrays, poisoned
from host_checks import DEVICE, requires_compiler
from host_compiler import KERNELS
from host_runner import run_launches, to_device
from selection import in_full, one_of
from support.gradients import exact_gradient, make_gradient, reduction_of
from test_host_gradients import gradient_plan
from test_host_kernels import SPECIAL
from test_random_geometries import make_problem
from tile_cases import aligned, plan_of

from gpu_transconv.kernels.cupy.hopper import cut_product, hopper_launches

pytestmark = requires_compiler

HALVES = ("float16", "bfloat16")


def kind_of(word):
    """dtype and precision; float32 is three products of TF32 numbers."""
    return ("float32", "tf32") if word == "tf32" else (word, "highest")


def run_hopper(plan, arrays, tile_blocks=None, order=0, folder=KERNELS):
    planned = hopper_launches(plan, DEVICE, tile_blocks)
    names = ("x", "weight", "bias")
    found = {name: None if array is None else to_device(array) for name, array in zip(names, arrays, strict=True)}
    out = to_device(poisoned(plan.result_shape, plan.dtype))
    run_launches((*planned.pack, *planned.launch), folder, found | {"out": out}, order=order)
    return out


def check(case, word, data_format, **choice):
    dtype, precision = kind_of(word)
    arrays = make_arrays(case, dtype, data_format)
    got = run_hopper(plan_of(case, arrays, data_format, precision), arrays, **choice)
    assert_close(got, expected(case, arrays, data_format), dtype, case.reduction, precision)


def check_gradient(case, word, data_format, **choice):
    dtype, precision = kind_of(word)
    arrays = make_gradient(case, dtype, data_format)
    plan = replace(gradient_plan(case, arrays, "input_grad", data_format), precision=precision)
    got = run_hopper(plan, Arrays(arrays.bias, arrays.weight, None), **choice)
    want = exact_gradient(case, "input_grad", arrays, data_format)
    assert_close(got, want, dtype, max(1, reduction_of(case, "input_grad")), precision)


#: Every case with one of the half types in one format; the other way round in full runs.
TURNS = [
    pytest.param(case, *kind, id=f"{case.name}-{'-'.join(kind)}")
    for number, case in enumerate(CASES)
    for turn in one_of(2, range(2))
    for kind in [(HALVES[(number + turn) % 2], DATA_FORMATS[number // 2 % 2 - turn])]
    if case.takes("float16")
]


@pytest.mark.parametrize(("case", "dtype", "data_format"), one_of(3, TURNS))
def test_definition(case, dtype, data_format):
    check(case, dtype, data_format, order=len(case.name) % 2)


@pytest.mark.parametrize(("case", "dtype", "data_format"), one_of(2, TURNS))
def test_definition_by_tensor_copies(case, dtype, data_format):
    check(aligned(case, data_format), dtype, data_format, order=len(case.name) % 3)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", one_of(5, CORE), ids=lambda case: case.name)
def test_larger_tiles(case, data_format):
    check(aligned(case, data_format), "float16", data_format, tile_blocks=4)


@pytest.mark.parametrize(("case", "dtype", "data_format"), one_of(7, TURNS))
def test_gradient_by_x(case, dtype, data_format):
    check_gradient(case, dtype, data_format)


@pytest.mark.parametrize("word", ["tf32", "float32"])
@pytest.mark.parametrize(("case", "dtype", "data_format"), one_of(17, TURNS))
def test_float32(case, dtype, data_format, word):  # noqa: ARG001
    blocks = 4 if word == "tf32" and len(case.name) % 2 else None
    check(aligned(case, data_format), word, data_format, tile_blocks=blocks, order=len(case.name) % 3)
    check_gradient(case, word, data_format)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_float32_of_any_size(data_format):
    """Numbers that round to an infinite TF32 number, and those of which the lower half vanishes."""
    case = Case("sizes", (1, 33, 3, 5), (33, 3, 2, 2), keywords={"stride": 2})
    for scale, dtype_scale in ((3.4028e38, 1e-6), (1e-30, 1.0)):
        arrays = make_arrays(case, "float32")
        x = (np.sign(arrays.x) * scale).astype(np.float32)
        arrays = Arrays(as_format(x, case, data_format), (arrays.weight * dtype_scale).astype(np.float32), None)
        got = run_hopper(plan_of(case, arrays, data_format), arrays)
        assert_close(got, expected(case, arrays, data_format), "float32", case.reduction)


@pytest.mark.parametrize("number", one_of(23, range(300)))
def test_random_geometries(number):
    problem = make_problem(18, number)
    case, dtype = problem.case, (*HALVES, "tf32", "float32")[number % 4]
    if not case.takes(kind_of(dtype)[0]):
        case = replace(case, keywords={**case.keywords, "activation": None})
    if number % 3:
        case = aligned(case, problem.data_format)
    (check_gradient if number % 5 == 4 else check)(case, dtype, problem.data_format, order=number)


@in_full
@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CORE[::3], ids=lambda case: case.name)
def test_orders_of_threads(case, data_format):
    for order in range(1, 21):
        check(aligned(case, data_format), "float16", data_format, order=order)


def test_every_way_to_read_and_to_store_is_reached():
    ways = set()
    for case, dtype, data_format in (turn.values for turn in TURNS):
        for one in (case, aligned(case, data_format)):
            cut = cut_product(plan_of(one, make_arrays(one, dtype, data_format), data_format), DEVICE)
            ways.add((cut.source, cut.together))
    copies = {("COPY_FIRST", way) for way in ("APART", "PIXELS_2", "UNITS_2", "UNITS_PIXELS")}
    copies |= {("COPY_LAST", way) for way in ("APART", "CHANNELS_2")}
    assert ways == copies | {(source.replace("COPY", "LOAD"), way) for source, way in copies}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("where", ["x", "weight", "bias"])
@pytest.mark.parametrize("case", one_of(5, SPECIAL), ids=lambda case: case.name)
def test_non_finite_values_propagate_as_in_the_definition(case, where, dtype):
    for turn, value in enumerate((np.nan, np.inf, -np.inf)):
        data_format, dtype = DATA_FORMATS[turn % 2], np.dtype(dtype)
        one = aligned(case, data_format) if turn else case
        arrays = make_arrays(one, dtype.name)
        arrays = arrays._replace(bias=np.zeros(one.out_channels, dtype))
        arrays.x[0, -1, ..., 0] = 0  # times an infinite weight is NaN
        spot = {"x": (0, -1, *[0] * one.ndim), "weight": (-1, 0, *[-1] * one.ndim), "bias": (-1,)}[where]
        getattr(arrays, where)[spot] = value
        arrays = arrays._replace(x=as_format(arrays.x, one, data_format))
        want = expected(one, arrays, data_format)
        got = run_hopper(plan_of(one, arrays, data_format), arrays)
        assert_same_specials(got.astype(want.dtype), want)
