"""The case table on the Numba-CUDA kernels in the simulator, through the public API."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import CASES, CORE, DATA_FORMATS, Case
from checks import Arrays, as_format, assert_close, assert_same_specials, expected, implementations, make_arrays, run
from selection import one_of
from simulated_geometries import make_problem

from gpu_transconv.kernels.numba_cuda import choose, launch

ROWS = implementations("numba-cuda")
#: Every case in float32; the core cases in the other layout, and in the other dtypes in turns.
#: One case is left out: a tenth of the time, and for tiles of 8 x 8 no other than "2d-many-channels".
FLOAT32 = [(case, "float32", "channels_first") for case in CASES if case.name != "2d-many-channels-twice-stride"]
FLOAT32 += [(case, "float32", "channels_last") for case in CORE]
TABLE = FLOAT32 + [
    (case, ("float16", "float64")[number // 2 % 2], DATA_FORMATS[number % 2]) for number, case in enumerate(CORE)
]
SPECIALS = ("1d-kernel-is-twice-stride", "2d-kernel-no-multiple", "2d-grouped-odd", "2d-one-by-one-map", "3d-mixed")


def name(problem) -> str:
    case, dtype, data_format = problem
    return f"{case.name}-{dtype}-{data_format}"


def check(row, case: Case, dtype: str, data_format: str, launched) -> None:
    arrays = make_arrays(case, dtype, data_format)
    want = expected(case, arrays, data_format)
    got = run(row, case, arrays, data_format, dtype, want.shape)
    assert launched == ([row.name] if want.size else [])
    assert_close(got, want, dtype, case.reduction)


@pytest.fixture
def gather_kernel(monkeypatch):
    """Make the launcher take the other gather kernel than it would."""
    chosen = choose.is_direct
    monkeypatch.setattr(choose, "is_direct", lambda product, device: not chosen(product, device))
    launch._gather.cache_clear()
    yield
    launch._gather.cache_clear()


@pytest.mark.parametrize("problem", one_of(4, TABLE), ids=name)
@pytest.mark.parametrize("row", ROWS)
def test_definition(row, problem, launched):
    check(row, *problem, launched)


@pytest.mark.usefixtures("gather_kernel")
@pytest.mark.parametrize("problem", one_of(6, (p for p in FLOAT32 if max(p[0].weight[:2]) < 30)), ids=name)
@pytest.mark.parametrize("row", [row for row in ROWS if row.values[0].formulation == "gather"])
def test_definition_by_the_other_gather_kernel(row, problem, launched):
    check(row, *problem, launched)


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("row", ROWS)
def test_random_geometries(row, number, launched):
    check(row, *make_problem(number), launched)


@pytest.mark.parametrize(("where", "value"), [("x", np.nan), ("x", np.inf), ("weight", np.inf), ("bias", np.nan)])
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.name in SPECIALS])
@pytest.mark.parametrize("row", ROWS)
def test_non_finite_values_propagate_as_in_the_definition(row, case, value, where):
    clean = make_arrays(case, "float32")
    arrays = Arrays(clean.x.copy(), clean.weight.copy(), np.zeros(case.out_channels, np.float32))
    arrays.x[0, -1, ..., 0] = 0  # times an infinite weight is NaN
    ends = itertools.cycle((0, -1))
    position = (-1,) if where == "bias" else (0, 0, *itertools.islice(ends, case.ndim))
    getattr(arrays, where)[position] = value
    want = expected(case, arrays)
    assert_same_specials(run(row, case, arrays, "channels_first", "float32", want.shape), want)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu"])
@pytest.mark.parametrize("row", ROWS)
def test_activations_of_non_finite_and_large_values(row, activation):
    keywords = {} if activation is None else {"activation": activation}
    values = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 30.0, -30.0, 0.5, -0.5, 0.0], np.float32)
    case = Case("values", (1, 1, 10), (1, 1, 1), keywords=keywords)
    arrays = Arrays(as_format(values[None, None], case, "channels_first"), np.ones((1, 1, 1), np.float32), None)
    with np.errstate(all="ignore"):
        want = expected(case, arrays)
    got = run(row, case, arrays, "channels_first", "float32", want.shape)
    assert_same_specials(got, want)
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=2e-6, atol=2e-6)
