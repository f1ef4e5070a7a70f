# ruff: noqa: E501 (a table, a line for each problem)
"""The kernels of the weight gradient: which of them runs, what is special about it, and how much memory it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import CASES, Case
from checks import Arrays, assert_close, poisoned
from selection import one_of
from support.gradients import call_gradient, defined_gradient, exact_gradient, make_gradient, reduction_of

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.weight_grad import launch

FIRST, LAST = "channels_first", "channels_last"


def case(x, weight, **keywords):
    return Case("own", x, weight, keywords=keywords)


#: The kernel that gather takes, a problem that shows what is special about it, and its format.
SPECIAL = {
    "depthwise-lines-of-several-channels": ("weight_depthwise", case((2, 37, 40), (37, 1, 3), stride=2, padding=1, groups=37), FIRST),
    "depthwise-long-lines": ("weight_depthwise", case((1, 18, 2100), (18, 1, 4), stride=3, padding=2, groups=18), FIRST),
    "depthwise-many-taps": ("weight_depthwise", case((1, 17, 60), (17, 1, 37), stride=1, padding=3, groups=17), FIRST),
    "depthwise-planes": ("weight_depthwise", case((1, 19, 3, 40, 33), (19, 1, 2, 3, 4), stride=(1, 2, 2), padding=(0, 1, 2), groups=19), FIRST),
    "columns-one-by-one": ("weight_columns", case((2, 193, 3, 3, 3), (193, 16, 2, 2, 2), stride=2), FIRST),
    "columns-ragged": ("weight_columns", case((1, 200, 9, 5), (200, 7, 3, 3), padding=(0, 1), dilation=(1, 2)), FIRST),
    "columns-in-runs": ("weight_columns", case((1, 192, 500), (192, 8, 8), stride=4, padding=2), FIRST),
    "columns-in-long-runs": ("weight_columns", case((3, 192, 7), (192, 1, 50), stride=11, padding=40, output_padding=3), FIRST),
    "columns-of-two-groups": ("weight_columns", case((1, 400, 4, 4), (400, 9, 5, 5), stride=3, padding=2, groups=2), FIRST),
    "columns-of-channels-last": ("weight_columns", case((2, 210, 12, 9), (210, 12, 3, 3), stride=2, padding=(0, 1)), LAST),
    "columns-of-single-pixels": ("weight_columns", case((70, 200, 1, 1), (200, 3, 4, 4)), FIRST),
    "last-pieces": ("weight_last", case((1, 37, 40, 70), (37, 1, 3, 4), stride=2, padding=(0, 1), groups=37), LAST),
    "last-long-lines": ("weight_last", case((1, 9, 2000), (9, 1, 5), stride=3, padding=7, dilation=2, groups=9), LAST),
    "last-several-blocks": ("weight_last", case((2, 150, 3, 4, 5), (150, 1, 3, 3, 3), stride=(1, 2, 1), padding=1, groups=150), LAST),
    "taps-as-rows": ("weight_products", case((1, 20, 9, 6), (20, 2, 5, 41), stride=(2, 20), padding=(1, 3)), FIRST),
    "lines-of-taps": ("weight_rows", case((2, 9, 40, 31), (9, 2, 4, 4), stride=2, padding=1), FIRST),
}  # fmt: skip


@pytest.fixture
def ran(monkeypatch):
    """Names of the compiled functions that were run."""
    names = []
    run_parts = launch.run_parts

    def spy(function, *arguments):
        names.append(function.__name__)
        return run_parts(function, *arguments)

    monkeypatch.setattr(launch, "run_parts", spy)
    return names


@pytest.mark.parametrize("dtype", ["float16", *one_of(2, ["float32", "float64"])])
@pytest.mark.parametrize("name", SPECIAL)
def test_the_kernel_that_runs_is_right(name, dtype, ran):
    kernel, problem, data_format = SPECIAL[name]
    arrays = make_gradient(problem, dtype, data_format)
    out = poisoned(problem.weight, dtype)
    call_gradient(problem, "weight_grad", arrays, data_format, backend="cpu", formulation="gather", out=out)
    wide = Arrays(*(array.astype("float64") for array in arrays))
    want = call_gradient(problem, "weight_grad", wide, data_format, backend="reference")
    assert_close(out, want, dtype, reduction_of(problem, "weight_grad"))
    assert ran[0] == kernel


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_meets_no_zero_beside_the_border(value, formulation, ran):
    """Only filters whose taps meet that input are not finite, though the panels have zeros beside the borders."""
    problem = case((1, 192, 5), (192, 2, 4), stride=2, padding=3)
    arrays = make_gradient(problem, "float32", FIRST)
    arrays.x[0, 7, 0] = value
    got = call_gradient(problem, "weight_grad", arrays, FIRST, backend="cpu", formulation=formulation)
    want = defined_gradient(problem, "weight_grad", arrays)
    assert_close(got, want, "float32", 5)
    assert np.isfinite(want[7]).any()
    assert not np.isfinite(want[7]).all()
    if formulation == "gather":
        assert ran == ["weight_columns", "elementwise_filters"]


def test_nothing_is_looked_for_where_no_zero_is(ran):
    problem = case((1, 192, 5), (192, 2, 4), stride=4)
    arrays = make_gradient(problem, "float32", FIRST)
    arrays.x[0, 7, 0] = np.inf
    got = call_gradient(problem, "weight_grad", arrays, FIRST, backend="cpu", formulation="gather")
    assert_close(got, defined_gradient(problem, "weight_grad", arrays), "float32", 5)
    assert ran == ["weight_columns"]


@pytest.mark.parametrize("data_format", [FIRST, LAST])
@pytest.mark.parametrize("groups", [1, 3])
def test_large_complex_filters_are_computed_in_parts(groups, data_format, ran, monkeypatch):
    problem = case((2, 9, 5, 4), (9, 4, 3, 3), stride=2, padding=1, groups=groups)
    arrays = make_gradient(problem, "complex64", data_format)
    want = exact_gradient(problem, "weight_grad", arrays, data_format)
    monkeypatch.setattr(launch, "_REAL_FILTERS", 2000)
    got = call_gradient(problem, "weight_grad", arrays, data_format, backend="cpu", formulation="gather")
    assert_close(got, want, "complex64", reduction_of(problem, "weight_grad"))
    assert len(ran) == (3 if groups == 3 else 4)  # one group and two, or halves of halves


# --- memory ----------------------------------------------------------------------------------------------

#: x, weight and geometry of problems that are long in one way each.
EXTREME = {
    "stride": ((1, 8, 300), (8, 8, 3), {"stride": 100_000}),
    "stride-one-channel": ((1, 1, 5000), (1, 1, 3), {"stride": 60_000}),
    "stride-of-lines": ((1, 8, 30, 30), (8, 8, 3, 3), {"stride": 3000}),
    "dilation": ((1, 16, 300), (16, 16, 5), {"dilation": 1_000_000}),
    "stride-and-dilation": ((1, 300, 64), (300, 16, 7), {"stride": 50_000, "dilation": 70_001}),
    "taps": ((1, 4, 50), (4, 3, 3_000_000), {}),
    "taps-of-a-plane": ((1, 64, 2, 2), (64, 1, 1500, 1500), {"stride": 700}),
    "pixels": ((1, 32, 50_000_000), (32, 32, 4), {"stride": 2}),
    "images": ((1_000_000, 16, 8, 8), (16, 16, 4, 4), {"stride": 2}),
    "channels": ((1, 60_000, 3, 3), (60_000, 3000, 2, 2), {"stride": 2}),
    "outputs": ((1, 2, 70, 70), (2, 200_000, 3, 3), {}),
    "groups": ((1, 900_000, 300), (900_000, 1, 3), {"groups": 900_000}),
    "groups-of-pieces": ((64, 12, 700, 700), (12, 1, 31, 31), {"groups": 12}),
    "groups-of-many": ((9, 6000, 700), (6000, 2, 16), {"groups": 3000, "stride": 8}),
}  # fmt: skip


def assert_bounded(x, weight, **keywords):
    for formulation in ("gather", "scatter"):
        found = gtc.explain(x, weight, operation="weight_grad", backend="cpu", formulation=formulation, **keywords)
        assert 0 < found.workspace_bytes <= 32 << 20, (found.kernel, found.workspace_bytes)


@pytest.mark.parametrize("threads", [1, 2, 96])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex128"])
@pytest.mark.parametrize("data_format", [FIRST, LAST])
@pytest.mark.parametrize("name", EXTREME)
def test_memory_is_bounded_at_any_size(monkeypatch, name, data_format, dtype, threads):
    monkeypatch.setattr(launch, "thread_count", lambda: threads)
    x, weight, keywords = EXTREME[name]
    if data_format == LAST:
        x = (x[0], *x[2:], x[1])
    assert_bounded(x, weight, data_format=data_format, dtype=dtype, **keywords)


def test_memory_of_the_case_table(monkeypatch):
    monkeypatch.setattr(launch, "thread_count", lambda: 96)
    for problem in CASES:
        keywords = {name: value for name, value in problem.keywords.items() if name != "activation"}
        if math.prod(problem.x):
            assert_bounded(problem.x, problem.weight, **keywords)
