"""Arrays of any layout as inputs and as `out`."""

from __future__ import annotations

import numpy as np
import pytest
from array_examples import read_only, unaligned
from cases import DATA_FORMATS, named
from checks import DTYPES, assert_close, expected, implementations, make_arrays, poisoned, refused
from support.fakes import handed_to_kernels

import gpu_transconv as gtc

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


# Arrays that are no plain contiguous ones. Every variant holds the values of its argument.


def wrapped(array):
    wide = np.full(tuple(n + 3 for n in array.shape), np.nan, array.dtype)
    view = wide[tuple(slice(1, n + 1) for n in array.shape)]
    view[...] = array
    return view


VARIANTS = {
    "inside-a-larger-one": wrapped,
    "every-other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "negative-strides": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "fortran-order": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": unaligned,
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_kernels_get_plain_arrays(monkeypatch, variant):
    handed = handed_to_kernels(monkeypatch)
    out = VARIANTS[variant](np.zeros(WANT.shape, "f4")) if variant != "read-only" else None
    given = [VARIANTS[variant](array) for array in (X, WEIGHT, BIAS)]
    gtc.conv_transpose(*given, out=out, **CASE.keywords)
    assert len(handed) == 4
    for array in handed:
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.dtype == np.float32
    assert not any(np.shares_memory(handed[3], array) for array in handed[:3])


@pytest.mark.parametrize("dtype", DTYPES["cpu"])
def test_contiguous_arrays_are_not_copied(monkeypatch, dtype):
    handed = handed_to_kernels(monkeypatch)
    given = [*make_arrays(CASE, dtype), poisoned(WANT.shape, dtype)]
    gtc.conv_transpose(*given[:3], out=given[3], **CASE.keywords)
    assert [a is b for a, b in zip(handed, given, strict=True)] == [True] * 4


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
    "misaligned": lambda shape: unaligned(np.full(shape, np.nan, "f4")),
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
