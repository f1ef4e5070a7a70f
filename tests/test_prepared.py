"""The prepared operator gives what the function gives, to the bit, for every size it is called with."""

from __future__ import annotations

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import CASES, CORE, DATA_FORMATS, named
from checks import as_format, implementations, make_arrays, poisoned, refused
from support.fakes import count_packing

import gpu_transconv as gtc

ROWS = implementations("cpu", "reference")
CASE = named("2d-kernel-is-twice-stride")
X, WEIGHT, BIAS = make_arrays(CASE, "float32")


def other_size(case, grow):
    """An input of the case with `grow` more elements along every spatial axis."""
    shape = (*case.x[: -case.ndim], *(size + grow for size in case.x[-case.ndim :]))
    return np.random.default_rng(grow).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("row", ROWS)
def test_same_bits_as_the_function(row, case, data_format):
    x, weight, bias = make_arrays(case, "float32", data_format)
    name = {"backend": row.backend, "formulation": row.formulation}
    keywords = {**case.keywords, **name, "data_format": data_format}
    layer = gtc.ConvTranspose(weight, bias, **keywords)
    inputs = [x]
    if "output_size" not in keywords:
        inputs += [as_format(other_size(case, grow), case, data_format) for grow in (1, 6)]
    for given in (*inputs, x):
        np.testing.assert_array_equal(layer(given), gtc.conv_transpose(given, weight, bias, **keywords))


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("case", [CASE, named("3d-kernel-is-stride")], ids=lambda case: case.name)
@pytest.mark.parametrize("row", ROWS)
def test_one_input_along_some_axes_after_many(row, case, data_format):
    """Kernels may lay the weights out in another way for an axis with a single input."""
    _, weight, bias = make_arrays(case, "float32")
    name = {"backend": row.backend, "formulation": row.formulation, "data_format": data_format}
    layer = gtc.ConvTranspose(weight, bias, **case.keywords, **name)
    for sizes in itertools.product((7, 1), repeat=case.ndim):
        x = np.random.default_rng(sizes).standard_normal((2, case.x[1], *sizes)).astype(np.float32)
        x = as_format(x, case, data_format)
        np.testing.assert_array_equal(layer(x), gtc.conv_transpose(x, weight, bias, **case.keywords, **name))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "complex64", "int64"])
@pytest.mark.parametrize("case", [CORE[0], CORE[4]], ids=lambda case: case.name)
@pytest.mark.parametrize("row", ROWS)
def test_dtypes(row, case, dtype):
    x, weight, bias = make_arrays(case, dtype)
    keywords = {**case.keywords, "backend": row.backend, "formulation": row.formulation}
    got, want = (
        gtc.ConvTranspose(weight, bias, **keywords)(x),
        gtc.conv_transpose(x, weight, bias, **keywords),
    )
    assert got.dtype == want.dtype
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("row", ROWS)
def test_weights_are_packed_once(monkeypatch, row):
    packed = count_packing(monkeypatch)
    layer = gtc.ConvTranspose(WEIGHT, BIAS, **CASE.keywords, backend=row.backend, formulation=row.formulation)
    for grow in (0, 0, 1, 0):
        layer(other_size(CASE, grow))
    assert [kernel for kernel, _ in packed] == [row]


@pytest.mark.parametrize("row", ROWS)
def test_later_changes_of_the_weights_have_no_effect(row):
    weight, bias = WEIGHT.copy(), BIAS.copy()
    layer = gtc.ConvTranspose(weight, bias, **CASE.keywords, backend=row.backend, formulation=row.formulation)
    weight[...], bias[...] = np.nan, np.nan
    want = gtc.conv_transpose(X, WEIGHT, BIAS, **CASE.keywords, backend=row.backend, formulation=row.formulation)
    np.testing.assert_array_equal(layer(X), want)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("row", ROWS)
def test_weights_that_are_not_finite(row, value):
    weight = WEIGHT.copy()
    weight[1, 2, 0, 3] = value
    keywords = {**CASE.keywords, "backend": row.backend, "formulation": row.formulation}
    with np.errstate(invalid="ignore"):
        layer = gtc.ConvTranspose(weight, BIAS, **keywords)
        want = gtc.conv_transpose(X, weight, BIAS, **keywords)
        assert 0 < np.count_nonzero(np.isfinite(want)) < want.size
        np.testing.assert_array_equal(layer(X), want)


@pytest.mark.parametrize("row", ROWS)
def test_out(row):
    layer = gtc.ConvTranspose(WEIGHT, BIAS, **CASE.keywords, backend=row.backend, formulation=row.formulation)
    want = layer(X)
    out = poisoned(want.shape, "float32")
    assert layer(X, out) is out
    np.testing.assert_array_equal(out, want)
    with refused(ValueError, "out", f"{want.shape}", "got (1,)"):
        layer(X, out=np.empty(1, np.float32))


@pytest.mark.parametrize(
    "through", [lambda o: pickle.loads(pickle.dumps(o)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
@pytest.mark.parametrize("row", ROWS)
def test_what_is_packed_for_a_machine_does_not_travel(monkeypatch, row, through):
    """Another machine may have narrower vectors, and so another order of the weights."""
    layer = gtc.ConvTranspose(WEIGHT, BIAS, **CASE.keywords, backend=row.backend, formulation=row.formulation)
    before = pickle.dumps(layer)
    want = layer(X)
    assert pickle.dumps(layer) == before
    packed = count_packing(monkeypatch)
    again = through(layer)
    np.testing.assert_array_equal(again(X), want)
    np.testing.assert_array_equal(layer(X), want)
    assert [kernel for kernel, _ in packed] == [row]


def test_settings_are_looked_up_at_the_call(launched):
    layer = gtc.ConvTranspose(WEIGHT, **CASE.keywords)
    fixed = gtc.ConvTranspose(WEIGHT, **CASE.keywords, backend="cpu", formulation="gather")
    layer(X)
    with gtc.use(backend="reference", formulation="scatter"):
        layer(X)
        fixed(X)
    layer(X)
    assert launched == ["cpu/gather", "reference/scatter", "cpu/gather", "cpu/gather"]


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_eight_threads_share_one_operator(formulation, data_format):
    keywords = {**CASE.keywords, "formulation": formulation, "data_format": data_format}
    layer = gtc.ConvTranspose(WEIGHT, BIAS, **keywords)
    inputs = [as_format(other_size(CASE, grow), CASE, data_format) for grow in range(8)]
    wanted = [gtc.conv_transpose(x, WEIGHT, BIAS, **keywords) for x in inputs]

    def work(number):
        for turn in range(16):
            which = (number * 3 + turn) % 8
            np.testing.assert_array_equal(layer(inputs[which]), wanted[which])
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


@pytest.mark.parametrize(
    ("keywords", "error", "argument", "words"),
    [
        ({"weight": [1.0]}, TypeError, "weight", ("must be an array", "got list")),
        ({"weight": np.ones((2, 2))}, ValueError, "weight", ("3, 4 or 5 axes", "got shape (2, 2)")),
        ({"weight": np.ones((2, 0, 3))}, ValueError, "weight", ("empty axis", "(2, 0, 3)")),
        ({"weight": np.ones((2, 3, 3), np.int8)}, TypeError, "weight", ("float32", "got int8")),
        ({"bias": np.ones(2)}, ValueError, "bias", ("shape (3,)", "got (2,)")),
        ({"bias": np.ones(3, np.float32)}, TypeError, "bias", ("float64", "got float32")),
        ({"bias": [1.0, 1.0, 1.0]}, TypeError, "bias", ("must be an array", "got list")),
        ({"stride": 0}, ValueError, "stride", (">= 1", "got 0")),
        ({"groups": 3}, ValueError, "groups", ("divide the 2 input channels", "got 3")),
        ({"groups": 3, "data_format": "channels_last"}, ValueError, "groups", ("2 input channels", "got 3")),
        ({"activation": "elu"}, ValueError, "activation", ("'relu'", "got 'elu'")),
        ({"backend": "gpu"}, ValueError, "backend", ("'cpu'", "got 'gpu'")),
        ({"deterministic": 1}, ValueError, "deterministic", ("True", "got 1")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_construction_refuses(keywords, error, argument, words):
    with refused(error, argument, *words):
        gtc.ConvTranspose(**{"weight": np.ones((2, 3, 3)), **keywords})


@pytest.mark.parametrize("warm", [False, True], ids=["first-call", "later-call"])
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([[[1.0, 2.0]]], TypeError, ("must be an array", "got list")),
        (None, TypeError, ("must be an array", "got NoneType")),
        (np.ones((1, 2, 4), np.int8), TypeError, ("float64", "got int8")),
        (np.ones((1, 3, 4)), ValueError, ("3 channels", "(1, 3, 4)")),
        (np.ones(4), ValueError, ("3 axes", "(4,)")),
    ],
    ids=["list", "none", "dtype", "channels", "axes"],
)
def test_call_refuses(x, error, words, warm):
    layer = gtc.ConvTranspose(np.ones((2, 3, 3)))
    if warm:
        layer(np.ones((1, 2, 4)))
    with refused(error, "x", *words):
        layer(x)


def test_call_refuses_another_dtype():
    with refused(TypeError, "", "float32", "float64"):
        gtc.ConvTranspose(np.ones((2, 3, 3)))(np.ones((1, 2, 4), np.float32))
