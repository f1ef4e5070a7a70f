"""Arrays that are given as such or by their shapes alone, for `gpu_transconv.explain`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .arrays import CudaArray, dtype_name
from .execute import view_of
from .plan import DTYPES
from .words import did_you_mean


class Given(NamedTuple):
    """What a plan needs to know of an array."""

    shape: Any
    dtype: Any
    device: str


def read_given(name: str, given: Any, dtype: str) -> Given:
    """Shape, dtype and device of an array, or of the host's array of that shape."""
    if given is None and name == "bias":
        return Given(None, None, "cpu")
    if isinstance(given, tuple | list):
        return Given(_as_shape(name, given), _as_dtype(dtype), "cpu")
    view = view_of(name, given)[1]
    return Given(view.shape, view.dtype, "cuda" if isinstance(view, CudaArray) else "cpu")


def _as_shape(name: str, given: Sequence[Any]) -> tuple[int, ...]:
    try:
        shape = tuple(map(operator.index, given))
    except TypeError:
        shape = (-1,)
    if any(size < 0 for size in shape):
        raise ValueError(f"{name} must be an array or a shape of ints >= 0, got {given!r}")
    return shape


def _as_dtype(dtype: Any) -> str:
    name = dtype_name(np.dtype(dtype)) if isinstance(dtype, type | np.dtype) else dtype
    if not isinstance(name, str) or name not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}{did_you_mean(name, DTYPES)}")
    return name
