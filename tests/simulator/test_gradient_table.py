"""The core cases and random geometries on the gradients of the Numba-CUDA kernels in the simulator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import CASES, CORE, DATA_FORMATS, Case
from checks import assert_close, assert_same_specials, implementations
from selection import one_of
from simulated_geometries import make_problem
from support.gradients import (
    OPERATIONS,
    defined_gradient,
    exact_gradient,
    make_gradient,
    reduction_of,
    run_gradient,
)

from gpu_transconv.kernels.numba_cuda import choose, launch, weight_cut, weight_launch
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan

ROWS = implementations("numba-cuda", operations=OPERATIONS)
KERNELS = [row.values[0] for row in ROWS]
#: Every core case in float32 in one layout, and in another dtype in the other one.
TABLE = [(case, "float32", DATA_FORMATS[number % 2]) for number, case in enumerate(CORE)]
TABLE += [
    (case, ("float16", "float64")[number // 2 % 2], DATA_FORMATS[1 - number % 2])
    for number, case in enumerate(CORE)
    if case.name not in ("2d-many-channels", "2d-rgb")  # a third of the time
]
SPECIALS = ("1d-kernel-is-twice-stride", "2d-kernel-no-multiple", "3d-mixed")


def name(problem) -> str:
    case, dtype, data_format = problem
    return f"{case.name}-{dtype}-{data_format}"


def check(kernel, case: Case, dtype: str, data_format: str, launched) -> None:
    arrays = make_gradient(case, dtype, data_format)
    want = exact_gradient(case, kernel.operation, arrays, data_format)
    got = run_gradient(kernel, case, arrays, data_format, dtype)
    assert launched == ([kernel.name] if arrays.x.size else [])
    assert_close(got, want, dtype, max(1, reduction_of(case, kernel.operation)))


def forget() -> None:
    """Forget prepared launches, since what they depend on is changed."""
    for cache in (weight_launch._gather, weight_launch._owned, weight_launch._atomic, launch._gather):
        cache.cache_clear()


@pytest.fixture
def small_pieces(monkeypatch):
    """Cut pixels into many small parts, blocks and copies, and channels so that few fit the workspace."""
    monkeypatch.setattr(weight_cut, "LEAST_PIXELS", 5)
    monkeypatch.setattr(weight_cut, "BLOCK_PIXELS", 7)
    monkeypatch.setattr(weight_cut, "MOST_COPIES", 3)
    forget()
    yield
    forget()


@pytest.mark.parametrize("problem", one_of(8, TABLE), ids=name)
@pytest.mark.parametrize("kernel", ROWS)
def test_definition(kernel, problem, launched):
    check(kernel, *problem, launched)


@pytest.mark.parametrize("number", one_of(8, range(60)))
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_random_geometries(formulation, number, launched, request):
    """Both operations, and of scatter both kernels, in turns; every other gradient by the weight in small pieces."""
    operation = OPERATIONS[number % 2]
    rows = [kernel for kernel in KERNELS if (kernel.formulation, kernel.operation) == (formulation, operation)]
    if number % 4 == 3:
        request.getfixturevalue("small_pieces")
    check(rows[number // 4 % len(rows)], *make_problem(number), launched)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CORE if case.name.startswith("2d-k")])
@pytest.mark.parametrize("kernel", [row for row in ROWS if row.values[0].operation == "weight_grad"])
def test_small_pieces(kernel, case, dtype, launched, monkeypatch):
    stamp = case.out_channels * np.prod(case.weight[2:])
    monkeypatch.setattr(weight_cut, "MOST_WORKSPACE", int(4 * stamp * case.weight[0]) * 2)
    check(kernel, case, dtype, "channels_first", launched)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kernel", [row for row in ROWS if row.values[0].operation == "weight_grad"])
def test_channels_in_passes(kernel, launched, monkeypatch):
    """Groups of 9 channels, tiles of 8 rows, and room for the sums of three such tiles."""
    case = Case("passes", (1, 27, 3, 3), (27, 2, 2, 2), keywords={"stride": 2, "groups": 3})
    monkeypatch.setattr(weight_cut, "MOST_WORKSPACE", 4 * 8 * 3 * 8)
    check(kernel, case, "float16", "channels_last", launched)
    plan = make_plan(make_params(2, **case.keywords), case.x, case.weight, "float16", has_bias=False)
    for cuts in (weight_cut.owned_cuts(plan, choose._TINY), weight_cut.atomic_cuts(plan, choose._TINY)):
        assert [cut.row_tiles for cut in cuts] == [3, 3]
        assert [(cut.start, cut.elements) for cut in cuts] == [(0, 8 * 17), (8 * 17, 8 * 10)]


@pytest.fixture
def gather_kernel(monkeypatch):
    """Make the launcher take the other gather kernel than it would."""
    chosen = choose.is_direct
    monkeypatch.setattr(choose, "is_direct", lambda sides, device: not chosen(sides, device))
    forget()
    yield
    forget()


@pytest.mark.usefixtures("gather_kernel")
@pytest.mark.parametrize("problem", [p for p in TABLE if max(p[0].weight[:2]) < 30 and p[1] == "float32"], ids=name)
def test_definition_by_the_other_gather_kernel(problem, launched):
    check(KERNELS[0], *problem, launched)


@pytest.mark.parametrize(("where", "value"), [("first", np.nan), ("first", np.inf), ("second", -np.inf)])
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.name in SPECIALS])
@pytest.mark.parametrize("kernel", ROWS)
def test_non_finite_values_propagate_as_in_the_definition(kernel, case, value, where):
    """`first` is the first argument of the operation, `second` the second."""
    arrays = make_gradient(case, "float32", "channels_first")
    second = arrays.weight if kernel.operation == "input_grad" else arrays.bias
    first = arrays.bias if kernel.operation == "input_grad" else arrays.x
    ends = itertools.islice(itertools.cycle((0, -1)), case.ndim)
    {"first": first, "second": second}[where][(0, 0, *ends)] = value
    {"first": second, "second": first}[where][..., 0] = 0  # times infinity is NaN
    with np.errstate(all="ignore"):
        want = defined_gradient(case, kernel.operation, arrays)
    assert np.isfinite(want).any()
    assert not np.isfinite(want).all()
    assert_same_specials(run_gradient(kernel, case, arrays, "channels_first", "float32"), want)
