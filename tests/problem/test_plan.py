"""The plan: sizes, phases, counts and the errors that need the equation."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from cases import CASES
from checks import refused

from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.axis import Axis, output_range
from gpu_transconv.problem.dtypes import DTYPES
from gpu_transconv.problem.plan import make_plan


def plan_of(x, weight, dtype="float32", has_bias=False, **keywords):
    return make_plan(make_params(len(weight) - 2, **keywords), x, weight, dtype, has_bias)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_shapes_of_the_cases(case, last):
    geometry = case.geometry
    rows = zip(*(geometry[k] for k in ("stride", "padding", "dilation", "output_padding")), strict=True)
    spatial = tuple(
        (i - 1) * s - low - high + d * (k - 1) + 1 + extra
        for i, k, (s, (low, high), d, extra) in zip(case.x[-case.ndim :], case.weight[2:], rows, strict=True)
    )
    batch = case.x[: -1 - case.ndim]
    x = (*batch, *case.x[-case.ndim :], case.weight[0]) if last else case.x
    want = (*batch, *spatial, case.out_channels) if last else (*batch, case.out_channels, *spatial)
    data_format = {"data_format": "channels_last" if last else "channels_first"}
    plan = plan_of(x, case.weight, **data_format, **case.keywords)
    assert plan.output_shape == want
    assert plan.unbatched == case.unbatched
    assert plan.axes[: 3 - case.ndim] == (Axis(1, 1, 1, 1, 0, 1),) * (3 - case.ndim)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "low", "out"),
    [
        (5, 4, 2, 1, 1, 10),
        (5, 3, 2, 1, 0, 10),  # a surplus of 1 is cut at the high end
        (5, 5, 2, 1, 1, 10),
        (5, 2, 2, 1, 0, 10),
        (5, 1, 3, 1, 0, 15),  # the kernel is shorter than the stride
        (4, 3, 1, 4, 4, 4),
    ],
)
def test_same(size, kernel, stride, dilation, low, out):
    plan = plan_of((1, 1, size), (1, 1, kernel), stride=stride, dilation=dilation, padding="same")
    assert (plan.axes[2].pad_low, plan.axes[2].output_size) == (low, out)


def test_output_range_and_size():
    assert output_range(4, 3, 3, 2, 1) == (10, 12)
    assert output_range(4, 3, 2, 2, 5) == (15, 19)
    for size in (10, 11, 12):
        assert plan_of((1, 1, 4), (1, 1, 3), stride=3, padding=1, output_size=size).output_shape == (
            1,
            1,
            size,
        )


@pytest.mark.parametrize("size", [9, 13])
def test_output_size_out_of_reach(size):
    words = ("spatial axis 1", "between 10 and 12", f"got {size}")
    with refused(ValueError, "output_size", *words):
        plan_of((1, 1, 4, 4), (1, 1, 3, 3), stride=3, padding=1, output_size=(11, size))


def test_output_size_below_one_is_never_offered():
    assert plan_of((1, 1, 1), (1, 1, 1), stride=4, padding=1, output_size=2).output_shape == (1, 1, 2)
    with refused(ValueError, "output_size", "between 1 and 2", "got 3"):
        plan_of((1, 1, 1), (1, 1, 1), stride=4, padding=1, output_size=3)
    with refused(ValueError, "output_size", "cannot be reached", "padding leaves no output on spatial axis 0", "got 1"):
        plan_of((1, 1, 1), (1, 1, 1), stride=4, padding=9, output_size=1)
    with refused(ValueError, "output_size", "between 8 and 8", "got 9"):
        plan_of((1, 1, 4), (1, 1, 3), stride=2, padding="same", output_size=9)


def test_padding_that_leaves_nothing():
    given = (
        "spatial axis 0",
        "in=2",
        "stride=2",
        "padding=(2, 3)",
        "dilation=1",
        "kernel=3",
        "= 0",
        "at least 1",
    )
    with refused(ValueError, "padding leaves no output", *given):
        plan_of((1, 1, 2, 9), (1, 1, 3, 3), stride=2, padding=[(2, 3), (0, 0)])
    assert plan_of((1, 1, 2), (1, 1, 3), stride=2, padding=[(2, 2)]).output_shape == (1, 1, 1)


def test_plan_is_a_cached_value():
    first = plan_of((1, 2, 4, 5), (2, 3, 3, 3), stride=2, padding=[(1, 0), (0, 1)], activation=("leaky_relu", 0.3))
    again = plan_of((1, 2, 4, 5), (2, 3, 3, 3), stride=(2, 2), padding=((1, 0), (0, 1)), activation=["leaky_relu", 0.3])
    assert again is first
    other = plan_of((1, 2, 4, 5), (2, 3, 3, 3), stride=2, padding=[(0, 1), (0, 1)], activation=("leaky_relu", 0.3))
    assert len({first, again, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.batch = 2


def test_dtypes():
    for dtype, (size, accumulate) in DTYPES.items():
        assert plan_of((1, 1, 2), (1, 1, 2), dtype).accumulate == accumulate
        assert dtype == "bfloat16" or np.dtype(dtype).itemsize == size
    assert {d: a for d, (_, a) in DTYPES.items() if d != a} == {"float16": "float32", "bfloat16": "float32"}


# Arithmetic only: no array of these sizes exists.
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128"])
@pytest.mark.parametrize("which", ["x", "weight", "output"])
def test_index_bits_on_both_sides_of_2_to_31_bytes(which, dtype):
    most = 2**31 // DTYPES[dtype][0]  # elements of 2**31 bytes
    for elements, bits in ((most - 1, 32), (most, 64), (most + 1, 64)):
        plan = {
            "x": lambda n: plan_of((1, n, 1), (n, 1, 1), dtype, groups=1),
            "weight": lambda n: plan_of((1, 1, 1), (1, 1, n), dtype, padding=[(n - 1, 0)]),
            "output": lambda n: plan_of((1, 1, 1), (1, 1, 2), dtype, dilation=n - 1),
        }[which](elements)
        assert plan.index_bits == bits


def test_counts_by_hand():
    # Two images, 6 channels to 3 groups of 5, 4x3 inputs, 2x4 filters; output (4-1)*2+2 = 8 by (3-1)*3+4.
    plan = plan_of((2, 6, 4, 3), (6, 5, 2, 4), "float64", has_bias=True, groups=3, stride=(2, 3))
    assert plan.output_shape == (2, 15, 8, 10)
    assert plan.flops == 2 * (2 * 6 * 12) * (5 * 8)
    assert plan.output_bytes == 8 * 2 * 15 * 80
    assert plan.bytes == 8 * (2 * 6 * 12 + 6 * 5 * 8 + 15 + 2 * 15 * 80)
    assert plan.phase_count == 6
    assert (plan.in_spatial, plan.kernel, plan.out_spatial) == ((1, 4, 3), (1, 2, 4), (1, 8, 10))


def test_enormous_sizes_are_plain_arithmetic():
    plan = plan_of((1, 1, 100, 100), (1, 1, 3, 3), "complex128", stride=10**9)
    assert plan.output_shape == (1, 1, 99 * 10**9 + 3, 99 * 10**9 + 3)
    assert plan.output_bytes == 16 * (99 * 10**9 + 3) ** 2
    assert plan.phase_count == 10**18
    assert [len(axis.phases) for axis in plan.axes] == [1, 3, 3]


@pytest.mark.parametrize(
    ("kernel", "keywords"),
    [
        (1, {"stride": 2**48}),
        (1, {"dilation": 2**70}),
        (3, {"dilation": 2**47, "padding": [(2**48, 0)]}),
        (3, {"dilation": 2**47, "padding": [(0, 2**48)]}),
    ],
)
def test_positions_out_of_reach(kernel, keywords):
    words = ("spatial axis 1", *(f"{name}={value}" for name, value in keywords.items() if name != "padding"))
    with refused(ValueError, "stride, dilation and padding", *words, "reach below"):
        plan_of(
            (1, 1, 1, 1),
            (1, 1, 1, kernel),
            **{k: (1, v) if k != "padding" else [(0, 0), *v] for k, v in keywords.items()},
        )


def test_positions_just_in_reach():
    assert plan_of((1, 1, 1), (1, 1, 3), stride=2**47).output_shape == (1, 1, 3)
    assert plan_of((1, 1, 1), (1, 1, 2), dilation=2**46, padding=[(2**46, 0)]).output_shape == (1, 1, 1)


def test_a_pickled_plan_leaves_what_was_worked_out_behind():
    plan = make_plan(make_params(1, stride=2), (1, 3, 4), (3, 2, 2), "float32", False)
    before = pickle.dumps(plan)
    assert hash(plan) == hash(plan)
    assert plan.output_bytes
    assert pickle.dumps(plan) == before
    assert pickle.loads(before) == plan
