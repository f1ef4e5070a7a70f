"""The definition itself: against sums by hand, against loops that spell it out, and against PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import CASES, DATA_FORMATS, named
from checks import as_format, assert_close, expected, make_arrays

from gpu_transconv import reference

PLAIN = {"stride": [1], "padding": [(0, 0)], "output_padding": [0], "dilation": [1]}


def line(x, weight, bias=None, **keywords):
    """One channel in, one channel out, along one axis."""
    bias = None if bias is None else np.array([bias])
    result = reference.conv_transpose(np.array([[x]]), np.array([[weight]]), bias, **{**PLAIN, **keywords})
    return result[0, 0].tolist()


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize(
    ("keywords", "result"),
    [
        # Stamps 2*(1, 10, 100), 3*(...), 5*(...) at the places that the geometry gives, added up.
        ({}, [2, 23, 235, 350, 500]),
        ({"stride": [2]}, [2, 20, 203, 30, 305, 50, 500]),
        ({"stride": [3]}, [2, 20, 200, 3, 30, 300, 5, 50, 500]),
        ({"stride": [4]}, [2, 20, 200, 0, 3, 30, 300, 0, 5, 50, 500]),
        ({"stride": [2], "padding": [(1, 1)]}, [20, 203, 30, 305, 50]),
        ({"stride": [2], "padding": [(0, 3)]}, [2, 20, 203, 30]),
        ({"stride": [2], "padding": [(4, 0)]}, [305, 50, 500]),
        ({"stride": [2], "output_padding": [1]}, [2, 20, 203, 30, 305, 50, 500, 0]),
        ({"dilation": [2]}, [2, 3, 25, 30, 250, 300, 500]),
        ({"stride": [2], "dilation": [2]}, [2, 0, 23, 0, 235, 0, 350, 0, 500]),
        ({"stride": [2], "dilation": [3]}, [2, 0, 3, 20, 5, 30, 200, 50, 300, 0, 500]),
        ({"bias": 7, "stride": [4], "padding": [(3, 1)]}, [7, 10, 37, 307, 7, 12, 57]),
        ({"bias": -40, "activation": "relu", "stride": [3]}, [0, 0, 160, 0, 0, 260, 0, 10, 460]),
        ({"bias": -23, "activation": "leaky_relu", "slope": 2.0}, [-42, 0, 212, 327, 477]),
    ],
)
def test_one_axis_by_hand(keywords, result, formulation):
    assert line([2, 3, 5], [1, 10, 100], formulation=formulation, **keywords) == result


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_two_axes_by_hand(formulation):
    x = np.array([[[[1, 2], [3, 4]]]])
    weight = np.array([[[[1, 10], [100, 1000]]]])
    got = reference.conv_transpose(
        x,
        weight,
        stride=[1, 2],
        padding=[(0, 0), (1, 0)],
        output_padding=[0, 0],
        dilation=[1, 1],
        formulation=formulation,
    )
    assert got.tolist() == [[[[10, 2, 20], [1030, 204, 2040], [3000, 400, 4000]]]]


def test_channels_and_groups_by_hand():
    x = np.array([[[1], [2], [3], [4]]])
    weight = np.array([[[1], [10]], [[100], [1000]], [[1], [10]], [[100], [1000]]])
    whole = reference.conv_transpose(x, weight, **PLAIN)
    assert whole.ravel().tolist() == [1 + 200 + 3 + 400, 10 + 2000 + 30 + 4000]
    grouped = reference.conv_transpose(x, weight, groups=2, **PLAIN)
    assert grouped.ravel().tolist() == [201, 2010, 403, 4030]


def by_loops(x, weight, bias, *, stride, padding, output_padding, dilation, groups=1, **_):
    """Every product of the sum on its own, in Python integers."""
    n, cin, *size = x.shape
    kernel, per_group = weight.shape[2:], weight.shape[1]
    geometry = zip(size, stride, padding, dilation, kernel, output_padding, strict=True)
    shape = [(i - 1) * s - low - high + d * (k - 1) + 1 + e for i, s, (low, high), d, k, e in geometry]
    y = np.zeros((n, per_group * groups, *shape), object)
    spots = itertools.product(*map(range, (n, cin, per_group)), np.ndindex(*size), np.ndindex(*kernel))
    for b, ci, co, i, k in spots:
        o = [p * s - low + q * d for p, s, (low, _), q, d in zip(i, stride, padding, k, dilation, strict=True)]
        if all(0 <= position < limit for position, limit in zip(o, shape, strict=True)):
            y[(b, ci // (cin // groups) * per_group + co, *o)] += int(x[(b, ci, *i)]) * int(weight[(ci, co, *k)])
    return y + (0 if bias is None else bias.astype(object).reshape(-1, *[1] * len(size)))


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.takes("int64") and np.prod(c.x) * np.prod(c.weight) < 40_000],
    ids=lambda c: c.name,
)
def test_loops(case, formulation):
    x, weight, bias = make_arrays(case, "int64")
    x = x[None] if case.unbatched else x
    want = by_loops(x, weight, bias, **case.geometry)
    if case.geometry["activation"] == "relu":
        want = np.maximum(want, 0)
    got = reference.conv_transpose(x, weight, bias, formulation=formulation, **case.geometry)
    np.testing.assert_array_equal(got, want.astype(np.int64))


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gather_equals_scatter(case, data_format):
    x, weight, bias = make_arrays(case, "float64", data_format)
    x = x[None] if case.unbatched else x
    last = {"channels_last": data_format == "channels_last"}
    gather, scatter = (
        reference.conv_transpose(x, weight, bias, formulation=f, **last, **case.geometry) for f in ("gather", "scatter")
    )
    np.testing.assert_array_equal(gather, scatter)


def test_sums_in_a_wider_type():
    # 1 + 2**-60 - 1 is 0 in float64, and 2**-60 in anything with a longer mantissa.
    if np.finfo(np.longdouble).nmant <= 60:
        pytest.skip("this platform's long double is no wider than float64 needs here")
    assert line([1.0, 1.0, 1.0], [1.0, 2.0**-60, -1.0])[2] == 2.0**-60
    half = np.array([2048, 1, -2048], np.float16)
    assert line(np.ones(3, np.float16), half)[2] == 1


#: PyTorch has one padding for both ends, and the cut of "same" only where it is even.
def known_to_torch(case):
    geometry = case.geometry
    axes = zip(geometry["output_padding"], geometry["stride"], geometry["dilation"], strict=True)
    return all(low == high for low, high in geometry["padding"]) and all(e < max(s, d) for e, s, d in axes)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case.name}-{dtype}")
        for case, dtype in itertools.product(CASES, ["float64", "complex128", "int64"])
        if known_to_torch(case) and case.takes(dtype)
    ],
)
def test_pytorch(case, dtype):
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch")
    geometry = case.geometry
    activation, slope = geometry.pop("activation"), geometry.pop("slope", 0.01)
    arrays = make_arrays(case, dtype)
    function = getattr(torch.nn.functional, f"conv_transpose{case.ndim}d")
    geometry["padding"] = [low for low, _ in geometry["padding"]]
    y = function(*(None if a is None else torch.from_numpy(a) for a in arrays), **geometry)
    if activation == "leaky_relu":
        y = torch.nn.functional.leaky_relu(y, slope)
    elif activation == "gelu":
        y = torch.nn.functional.gelu(y, approximate="tanh")
    elif activation:
        y = getattr(torch.nn.functional, activation, getattr(torch, activation, None))(y)
    assert_close(expected(case, arrays), y.numpy(), dtype, case.reduction)


def test_channels_last_is_channels_first_moved():
    case = named("2d-grouped")
    first = expected(case, make_arrays(case, "int64"))
    last = expected(case, make_arrays(case, "int64", "channels_last"), "channels_last")
    assert last.flags.c_contiguous
    np.testing.assert_array_equal(last, as_format(first, case, "channels_last"))
