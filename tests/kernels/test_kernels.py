"""Every implementation on every case and dtype, against the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import CASES, CORE, DATA_FORMATS, FLOATS, named
from checks import (
    DTYPES,
    Arrays,
    as_format,
    assert_close,
    assert_same_specials,
    combined,
    expected,
    implementations,
    make_arrays,
    poisoned,
    run,
    tolerance,
)

import gpu_transconv as gtc

ROWS = implementations()
CORE_IN_REST = [
    combined(row, case, dtype, name=f"{case.name}-{dtype}")
    for row in ROWS
    for case, dtype in itertools.product(CORE, DTYPES[row.values[0].backend])
    if dtype not in ("float32", "float64") and case.takes(dtype)
]


def by_name(cases):
    return [pytest.param(case, id=case.name) for case in cases]


def check(row, case, dtype, data_format, launched):
    arrays = make_arrays(case, dtype, data_format)
    want = expected(case, arrays, data_format)
    got = run(row, case, arrays, data_format, dtype, want.shape)
    assert launched == [row.name]
    assert_close(got, want, dtype, case.reduction)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", by_name(CASES))
@pytest.mark.parametrize("row", ROWS)
def test_definition(row, case, dtype, data_format, launched):
    check(row, case, dtype, data_format, launched)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("row", "case", "dtype"), CORE_IN_REST)
def test_definition_in_every_dtype(row, case, dtype, data_format, launched):
    check(row, case, dtype, data_format, launched)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("row", implementations("cpu", "reference"))
def test_integers_wrap_like_numpy(row, dtype):
    most = np.iinfo(dtype).max
    x = np.array([[[most, 2]]], dtype)
    weight = np.array([[[3, most]]], dtype)
    with np.errstate(over="ignore"):
        want = np.array([[[x[0, 0, 0] * 3, x[0, 0, 0] * most + x[0, 0, 1] * 3, x[0, 0, 1] * most]]])
    got = gtc.conv_transpose(x, weight, backend=row.backend, formulation=row.formulation)
    np.testing.assert_array_equal(got, want.astype(dtype))


# Non-finite values: what is added must be exactly what the definition adds. No border, no gap between inputs
# and no padded tile may bring in 0 * inf.

SPECIAL_CASES = by_name(
    [
        named(name)
        for name in (
            "1d-kernel-is-twice-stride",
            "1d-long-kernel",
            "2d-kernel-is-stride",
            "2d-kernel-is-twice-stride",
            "2d-kernel-below-stride",
            "2d-kernel-no-multiple",
            "2d-dilated-shared-factor",
            "2d-grouped-odd",
            "2d-depthwise",
            "2d-padding-over-kernel",
            "2d-asymmetric-padding",
            "2d-one-output-channel",
            "2d-one-input-channel",
            "2d-one-by-one-map",
            "2d-many-channels",
            "3d-mixed",
        )
    ]
)


def corners(array, case):
    """The first and the last position of every spatial axis, in one channel each."""
    channels = range(array.ndim - case.ndim)
    for ends in itertools.product((0, -1), repeat=case.ndim):
        yield (*(0 if i % 2 else -1 for i in channels), *ends)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("where", ["x", "weight", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "minus-inf"])
@pytest.mark.parametrize("case", SPECIAL_CASES)
@pytest.mark.parametrize("row", ROWS)
def test_non_finite_values_propagate_as_in_the_definition(row, case, value, where, data_format):
    clean = make_arrays(case, "float32")
    bias = np.zeros(case.out_channels, np.float32)
    for corner in corners(clean.x, case) if where != "bias" else [(-1,)]:
        arrays = Arrays(clean.x.copy(), clean.weight.copy(), bias.copy())
        arrays.x[0, -1, ..., 0] = 0  # times an infinite weight is NaN
        position = corner if where != "weight" else (corner[0], 0, *corner[-case.ndim :])
        getattr(arrays, where)[position] = value
        arrays = arrays._replace(x=as_format(arrays.x, case, data_format))
        want = expected(case, arrays, data_format)
        assert_same_specials(run(row, case, arrays, data_format, "float32", want.shape), want)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu"])
@pytest.mark.parametrize(
    ("row", "dtype"),
    [combined(row, d, name=d) for row in ROWS for d in FLOATS if d in DTYPES[row.values[0].backend]],
)
def test_activations_of_non_finite_and_large_values(row, activation, dtype):
    values = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 30.0, -30.0, 0.5, -0.5, 0.0], np.float32)
    x = values.astype(poisoned((), dtype).dtype)[None, None]
    with np.errstate(all="ignore"):
        got = gtc.conv_transpose(
            x,
            np.ones_like(x[..., :1]),
            activation=activation,
            backend=row.backend,
            formulation=row.formulation,
        )
        wide = np.ones((1, 1, 1))
        want = gtc.conv_transpose(x.astype(float), wide, activation=activation, backend="reference")
    assert_same_specials(got.astype(float), want)
    for value, exact in zip(got.ravel().astype(float), want.ravel(), strict=True):
        if np.isfinite(exact):
            assert abs(value - exact) <= tolerance(dtype, reduction=1) * max(1, abs(exact))
