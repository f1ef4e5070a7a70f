"""The public functions: which arrays they take, what they refuse, and what they leave alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cases import CASES, DATA_FORMATS, named
from checks import assert_close, expected, implementations, make_arrays, poisoned, refused

import gpu_transconv as gtc
from gpu_transconv import arrays as package_arrays

ROWS = implementations("cpu", "reference")
CASE = named("2d-kernel-is-twice-stride")
X, WEIGHT, BIAS = make_arrays(CASE, "float32")
WANT = expected(CASE, (X, WEIGHT, BIAS))


def by_name(row):
    return {"backend": row.backend, "formulation": row.formulation}


def run(row, x=X, weight=WEIGHT, bias=BIAS, **keywords):
    return gtc.conv_transpose(x, weight, bias, **{**CASE.keywords, **by_name(row), **keywords})


def check(got):
    assert_close(got, WANT, "float32", CASE.reduction)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_functions_of_fixed_rank_are_the_general_one(ndim):
    for case in CASES:
        if case.ndim == ndim and case.core:
            x, weight, bias = make_arrays(case, "float32")
            got = getattr(gtc, f"conv_transpose{ndim}d")(x, weight, bias, **case.keywords)
            np.testing.assert_array_equal(got, gtc.conv_transpose(x, weight, bias, **case.keywords))


# Arrays that are no plain contiguous ones. Every variant holds the values of its argument.


def wrapped(array):
    wide = np.full(tuple(n + 3 for n in array.shape), np.nan, array.dtype)
    view = wide[tuple(slice(1, n + 1) for n in array.shape)]
    view[...] = array
    return view


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    raw[...] = array
    return raw


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


VARIANTS = {
    "inside-a-larger-one": wrapped,
    "every-other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "negative-strides": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "fortran-order": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "read-only": read_only,
}


@pytest.mark.parametrize("which", ["x", "weight", "bias"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("row", ROWS)
def test_inputs_of_any_layout(row, variant, which):
    given = {"x": X, "weight": WEIGHT, "bias": BIAS}
    given[which] = VARIANTS[variant](given[which])
    np.testing.assert_array_equal(given[which], {"x": X, "weight": WEIGHT, "bias": BIAS}[which])
    got = run(row, **given)
    check(got)
    assert got.flags.c_contiguous
    assert got.dtype.isnative


@pytest.mark.parametrize("row", ROWS)
def test_broadcast_input(row):
    x = np.broadcast_to(np.float32(2), X.shape)
    np.testing.assert_array_equal(run(row, x=x), run(row, x=x.copy()))


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "complex128", "int64"])
@pytest.mark.parametrize("row", ROWS)
def test_inputs_are_left_alone(row, dtype, data_format):
    given = make_arrays(CASE, dtype, data_format)
    before = [a.tobytes() for a in given]
    gtc.conv_transpose(*given, data_format=data_format, **CASE.keywords, **by_name(row))
    assert [a.tobytes() for a in given] == before


@pytest.mark.parametrize("row", ROWS)
def test_results_do_not_share_memory_with_inputs(row):
    x, weight = np.ones((1, 1, 3)), np.ones((1, 1, 1))
    got = gtc.conv_transpose(x, weight, **by_name(row))
    assert not np.shares_memory(got, x)


# out


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("row", ROWS)
def test_out_is_returned_and_filled(row, activation):
    out = poisoned(WANT.shape, "float32")
    assert run(row, out=out, activation=activation) is out
    np.testing.assert_array_equal(out, run(row, activation=activation))


OUTS = {
    "inside-a-larger-one": lambda shape: np.full([n + 3 for n in shape], np.nan, "f4")[
        tuple(slice(2, n + 2) for n in shape)
    ],
    "every-other": lambda shape: np.full((*shape[:-1], 2 * shape[-1]), np.nan, "f4")[..., ::2],
    "negative-strides": lambda shape: np.flip(np.full(shape, np.nan, "f4")),
    "fortran-order": lambda shape: np.full(shape, np.nan, "f4", order="F"),
    "byte-swapped": lambda shape: np.full(shape, np.nan, np.dtype("f4").newbyteorder()),
    "misaligned": lambda shape: misaligned(np.full(shape, np.nan, "f4")),
}


@pytest.mark.parametrize("kind", OUTS)
@pytest.mark.parametrize("row", ROWS)
def test_out_of_any_layout(row, kind):
    out = OUTS[kind](WANT.shape)
    base = out
    while isinstance(base.base, np.ndarray) and base.base.dtype == base.dtype:
        base = base.base
    assert run(row, out=out) is out
    check(out.astype("f4"))
    assert np.count_nonzero(~np.isnan(base)) == out.size  # nothing was written next to it


@pytest.mark.parametrize("which", ["x", "weight", "bias"])
@pytest.mark.parametrize("row", ROWS)
def test_out_over_an_input(row, which):
    given = {"x": X.copy(), "weight": WEIGHT.copy(), "bias": BIAS.copy()}
    shared = np.full(WANT.size + given[which].size, np.nan, "f4")
    out = shared[: WANT.size].reshape(WANT.shape)
    start = WANT.size // 3 if which == "x" else 0
    given[which] = shared[start : start + given[which].size].reshape(given[which].shape)
    given[which][...] = {"x": X, "weight": WEIGHT, "bias": BIAS}[which]
    assert run(row, out=out, **given) is out
    check(out)


@pytest.mark.parametrize("row", ROWS)
def test_in_place(row):
    x = np.arange(1.0, 7.0).reshape(1, 1, 6)
    want = gtc.conv_transpose(x.copy(), np.array([[[1.0, 2.0, 3.0]]]), padding=1, **by_name(row))
    assert gtc.conv_transpose(x, np.array([[[1.0, 2.0, 3.0]]]), padding=1, out=x, **by_name(row)) is x
    np.testing.assert_array_equal(x, want)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        ([1.0], TypeError, ("a NumPy array", "got list")),
        (np.float32(1), TypeError, ("a NumPy array", "got float32")),
        (np.empty(WANT.shape, "f8"), TypeError, ("x's dtype float32", "got float64")),
        (np.empty(WANT.shape, "f2"), TypeError, ("x's dtype float32", "got float16")),
        (np.empty(WANT.shape[1:], "f4"), ValueError, (f"shape {WANT.shape}", f"got {WANT.shape[1:]}")),
        (np.empty(WANT.shape[::-1], "f4"), ValueError, (f"shape {WANT.shape}", f"got {WANT.shape[::-1]}")),
        (read_only(np.empty(WANT.shape, "f4")), ValueError, ("writeable", "read-only")),
    ],
    ids=["list", "scalar", "wider", "narrower", "fewer-axes", "other-order", "read-only"],
)
@pytest.mark.parametrize("row", ROWS)
def test_out_that_does_not_fit(row, out, error, words, launched):
    with refused(error, "out", *words):
        run(row, out=out)
    assert launched == []


# Batches, and sizes beyond reason


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("row", ROWS)
def test_empty_batch(row, data_format):
    case = named("2d-empty-batch")
    x, weight, bias = make_arrays(case, "float32", data_format)
    shape = (0, 9, 11, 4) if data_format == "channels_last" else (0, 4, 9, 11)
    out = np.empty(shape, "f4")
    keywords = {**case.keywords, **by_name(row), "data_format": data_format}
    assert gtc.conv_transpose(x, weight, bias, **keywords).shape == shape
    assert gtc.conv_transpose(x, weight, bias, out=out, **keywords) is out


@pytest.mark.parametrize("row", ROWS)
def test_unbatched_is_a_batch_of_one(row):
    np.testing.assert_array_equal(run(row, x=X[1]), run(row, x=X[1:])[0])
    last = np.moveaxis(X, 1, -1)
    got = run(row, x=last[1], data_format="channels_last")
    np.testing.assert_array_equal(got, run(row, x=last[1:], data_format="channels_last")[0])


@pytest.mark.parametrize("dtype", [np.int32, ml_dtypes.bfloat16, np.complex128])
@pytest.mark.parametrize("row", ROWS)
def test_impossible_sizes(monkeypatch, launched, row, dtype):
    x, weight = np.ones((1, 1, 40, 50), dtype), np.ones((1, 1, 3, 3), dtype)

    def no_allocation(*_, **__):
        raise AssertionError("tried to allocate")

    for name in ("empty", "zeros", "full", "empty_like", "zeros_like"):
        monkeypatch.setattr(np, name, no_allocation)
    shape = (1, 1, 39 * 10**9 + 3, 49 * 10**9 + 3)
    size = shape[2] * shape[3] * x.itemsize
    with refused(MemoryError, "the output", str(shape), x.dtype.name, f"{size:,} bytes"):
        gtc.conv_transpose(x, weight, stride=10**9, **by_name(row))
    assert launched == []


def test_the_limit_is_the_memory_of_the_machine(monkeypatch):
    x, weight = np.ones((1, 1, 5)), np.ones((1, 1, 2))
    assert 2**20 < package_arrays.memory_bytes() < 2**63
    monkeypatch.setattr(package_arrays, "memory_bytes", lambda: 48)
    assert gtc.conv_transpose(x, weight).nbytes == 48
    with pytest.raises(MemoryError, match="needs 80 bytes; this machine has 48"):
        gtc.conv_transpose(x, weight, stride=2)


@pytest.mark.parametrize("stride", [10**9, 2**61, (1, 10**9), (10**9, 3)], ids=str)
@pytest.mark.parametrize("row", ROWS)
def test_a_single_element_takes_any_stride(row, stride):
    weight = np.arange(12.0).reshape(1, 2, 2, 3)
    got = gtc.conv_transpose(
        np.full((1, 1, 1, 1), 2.0), weight, np.array([1.0, -1.0]), stride=stride, **by_name(row)
    )
    np.testing.assert_array_equal(got, 2 * weight + np.array([1.0, -1.0]).reshape(1, 2, 1, 1))
