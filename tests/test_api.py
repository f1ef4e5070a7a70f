"""The public functions: keywords, batches, sizes beyond reason, and how sums are rounded."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cases import CASES, DATA_FORMATS, named
from checks import implementations, make_arrays, numpy_dtype, refused

import gpu_transconv as gtc
from gpu_transconv.arrays import outputs

ROWS = implementations("cpu", "reference")
CASE = named("2d-kernel-is-twice-stride")
X, WEIGHT, BIAS = make_arrays(CASE, "float32")


def by_name(row):
    return {"backend": row.backend, "formulation": row.formulation}


def run(row, x=X, weight=WEIGHT, bias=BIAS, **keywords):
    return gtc.conv_transpose(x, weight, bias, **{**CASE.keywords, **by_name(row), **keywords})


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_functions_of_fixed_rank_are_the_general_one(ndim):
    for case in CASES:
        if case.ndim == ndim and case.core:
            x, weight, bias = make_arrays(case, "float32")
            got = getattr(gtc, f"conv_transpose{ndim}d")(x, weight, bias, **case.keywords)
            np.testing.assert_array_equal(got, gtc.conv_transpose(x, weight, bias, **case.keywords))


def test_the_general_function_takes_keywords_only():
    with pytest.raises(TypeError, match="positional"):
        gtc.conv_transpose(X, WEIGHT, BIAS, 2)


@pytest.mark.parametrize(
    "keywords", [{"precision": "tf32"}, {"deterministic": True}, {"deterministic": False}], ids=str
)
@pytest.mark.parametrize("row", ROWS)
def test_keywords_that_change_nothing_on_a_cpu(row, keywords):
    assert run(row, **keywords).tobytes() == run(row).tobytes()


@pytest.mark.parametrize(("dtype", "odd"), [("float16", 2049), ("bfloat16", 257)])
@pytest.mark.parametrize("row", ROWS)
def test_half_types_round_once(row, dtype, odd):
    # The type has no `odd`, but it has odd + 1, which a sum that is rounded on the way misses.
    ones = np.ones((odd, 1, 1), numpy_dtype(dtype))
    bias = np.ones(1, ones.dtype)
    assert gtc.conv_transpose(ones[None, :, 0], ones, bias, **by_name(row)).item() == odd + 1


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
    x, weight = np.ones((1, 1, 2**17)), np.ones((1, 1, 2))
    assert 2**20 < outputs.memory_bytes() < 2**63
    monkeypatch.setattr(outputs, "memory_bytes", lambda: 2**20 + 8)
    assert gtc.conv_transpose(x, weight).nbytes == 2**20 + 8
    with pytest.raises(MemoryError, match="needs 2,097,152 bytes; this machine has 1,048,584"):
        gtc.conv_transpose(x, weight, stride=2)


@pytest.mark.parametrize("stride", [10**9, 2**47, (1, 10**9), (10**9, 3)], ids=str)
@pytest.mark.parametrize("row", ROWS)
def test_a_single_element_takes_any_stride(row, stride):
    weight = np.arange(12.0).reshape(1, 2, 2, 3)
    got = gtc.conv_transpose(np.full((1, 1, 1, 1), 2.0), weight, np.array([1.0, -1.0]), stride=stride, **by_name(row))
    np.testing.assert_array_equal(got, 2 * weight + np.array([1.0, -1.0]).reshape(1, 2, 1, 1))
