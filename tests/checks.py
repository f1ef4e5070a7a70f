"""Arrays and exact results of the cases, the tolerance, and the implementations as test parameters."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from cases import COMPLEX, FLOATS, INTEGERS, Case
from selection import GPU_BACKENDS

import gpu_transconv as gtc
from gpu_transconv import reference
from gpu_transconv.kernels.kernel import Kernel
from gpu_transconv.kernels.registry import kernels

#: What each backend takes, by the contract.
DTYPES = {
    "cpu": FLOATS + COMPLEX + INTEGERS,
    "reference": FLOATS + COMPLEX + INTEGERS,
    "cupy": FLOATS + COMPLEX,
    "numba-cuda": ("float16", "float32", "float64"),
}
_REAL_PART = {"complex64": "float32", "complex128": "float64"}
_WIDER = {
    **dict.fromkeys(FLOATS, "float64"),
    **dict.fromkeys(COMPLEX, "complex128"),
    **dict.fromkeys(INTEGERS, "int64"),
}
#: dtype -> (its spacing at 1, the error allowed for a sum of any length)
_PRECISION = {
    "float16": (2**-10, 2e-3),
    "bfloat16": (2**-7, 1.6e-2),
    "float32": (2**-23, 2e-6),
    "float64": (2**-52, 1e-13),
    "tf32": (2**-10, 2e-3),  # of the operands
}


class Arrays(NamedTuple):
    """Inputs of one problem."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None


def make_arrays(case: Case, dtype: str, data_format: str = "channels_first") -> Arrays:
    """Random inputs, the same on every run; the weights are scaled so that results stay near 1."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))

    def draw(shape: tuple[int, ...], scale: float) -> np.ndarray:
        if dtype in INTEGERS:
            return rng.integers(-9, 10, shape).astype(dtype)
        values = rng.standard_normal(shape)
        if dtype in COMPLEX:
            values = values + 1j * rng.standard_normal(shape)
        return (values * scale).astype(numpy_dtype(dtype))

    # The activations have poles on the imaginary axis, near which no tolerance would hold.
    scale = 0.1 if dtype in COMPLEX and case.geometry["activation"] else 1.0
    x = draw(case.x, scale)
    weight = draw(case.weight, 1 / math.sqrt(case.reduction))
    bias = draw((case.out_channels,), scale) if case.bias else None
    return Arrays(as_format(x, case, data_format), weight, bias)


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def as_format(array: np.ndarray, case: Case, data_format: str) -> np.ndarray:
    """A channels-first array in `data_format`, contiguous."""
    last = data_format == "channels_last"
    return np.ascontiguousarray(np.moveaxis(array, -1 - case.ndim, -1)) if last else array


def expected(case: Case, arrays: Arrays, data_format: str = "channels_first") -> np.ndarray:
    """The result by the definition, from inputs promoted to a wider type, in that type."""
    x, weight, bias = (None if a is None else a.astype(_WIDER[a.dtype.name]) for a in arrays)
    if case.unbatched:
        x = x[None]
    with np.errstate(invalid="ignore"):  # infinities of both signs meet in some cases
        last = data_format == "channels_last"
        result = reference.conv_transpose(x, weight, bias, channels_last=last, **case.geometry)
    return result[0] if case.unbatched else result


def poisoned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An output in which no element can be taken for a result."""
    poison = np.iinfo(dtype).min if dtype in INTEGERS else np.nan
    return np.full(shape, poison, numpy_dtype(dtype))


def keywords_of(kernel: Kernel) -> dict[str, object]:
    """Keywords by which a caller gets this kernel."""
    exact = {"deterministic": kernel.deterministic} if kernel.variant else {}
    return {"backend": kernel.backend, "formulation": kernel.formulation} | exact


def run(row: Kernel, case: Case, arrays: Arrays, data_format: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One call by name, into an output that holds no result yet."""
    out = poisoned(shape, dtype)
    keywords = dict(case.keywords, **keywords_of(row), data_format=data_format)
    with np.errstate(all="ignore"):
        assert gtc.conv_transpose(*arrays, out=out, **keywords) is out
    return out


def tolerance(dtype: str, reduction: int) -> float:
    """Error allowed, relative to the largest result.

    Two roundings of the result, and those of the sum, which is in float32 or wider: they grow as its root.
    """
    real = _REAL_PART.get(dtype, dtype)
    if real in INTEGERS:
        return 0.0
    spacing, bound = _PRECISION[real]
    return min(bound, 2 * spacing + min(spacing, 2**-23) * (4 + math.sqrt(reduction)))


def assert_close(got: np.ndarray, want: np.ndarray, dtype: str, reduction: int, precision: str = "highest") -> None:
    """Hold a result against the exact one; NaN and infinities must be in the same places."""
    assert got.shape == want.shape
    assert got.dtype == numpy_dtype(dtype)
    if dtype in INTEGERS:
        np.testing.assert_array_equal(got, want.astype(dtype))
        return
    got = got.astype(want.dtype)
    assert_same_specials(got, want)
    finite = np.isfinite(want)
    largest = np.max(np.abs(want[finite]), initial=0.0)
    error = np.max(np.abs(got[finite] - want[finite]), initial=0.0)
    allowed = tolerance(dtype if precision == "highest" else precision, reduction)
    assert error <= allowed * largest, f"error {error:.3g}, largest result {largest:.3g}"


def assert_same_specials(got: np.ndarray, want: np.ndarray) -> None:
    """NaN, and in real arrays the infinities of each sign, are in the same places."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    if want.dtype.kind != "c":
        np.testing.assert_array_equal(np.isposinf(got), np.isposinf(want))
        np.testing.assert_array_equal(np.isneginf(got), np.isneginf(want))


def implementations(*backend_names: str) -> list[Any]:
    """The dispatcher's rows as test parameters, of all backends or of those named.

    Where a device is missing its tests are not run, unless GPU_TRANSCONV_TEST_BACKENDS (comma-separated) names the
    backend; see tests/selection.py.
    """
    return [
        pytest.param(row, id=row.name, marks=[pytest.mark.gpu(row.backend)] if row.backend in GPU_BACKENDS else [])
        for row in kernels()
        if not backend_names or row.backend in backend_names
    ]


def combined(row: Any, *values: Any, name: str) -> Any:
    """A parameter of `implementations` and further values as one, named after both."""
    return pytest.param(*row.values, *values, id=f"{row.id}-{name}", marks=row.marks)


@contextmanager
def refused(error: type[Exception], argument: str, *words: str) -> Iterator[None]:
    """The block raises `error`, whose message starts with the argument's name and has all `words`."""
    with pytest.raises(error) as caught:
        yield caught
    assert caught.type is error
    message = str(caught.value)
    assert message.startswith(argument)
    assert [word for word in words if word not in message] == [], message
