"""Arrays that are given as such or by their shapes alone, for `gpu_transconv.explain`."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import numpy as np

from ..problem.dtypes import DTYPES, dtype_name
from ..problem.plan import ArraySpec
from ..words import did_you_mean
from . import view_of
from .views import Array, CudaArray


def read_specs(arrays: Mapping[str, Array | Sequence[int] | None], dtype: str) -> tuple[dict[str, ArraySpec], str]:
    """Return shapes and dtypes of arrays, or of the host's arrays of those shapes, by name; and the device of x.

    A bias that is None is left out.
    """
    read = {name: _read(name, value, dtype) for name, value in arrays.items() if value is not None or name != "bias"}
    return {name: spec for name, (spec, _) in read.items()}, read["x"][1]


def _read(name: str, value: Array | Sequence[int], dtype: str) -> tuple[ArraySpec, str]:
    if isinstance(value, tuple | list):
        return ArraySpec(_as_shape(name, value), _as_dtype(dtype)), "cpu"
    view = view_of(name, value)[1]
    return ArraySpec(view.shape, view.dtype), "cuda" if isinstance(view, CudaArray) else "cpu"


def _as_shape(name: str, value: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(map(operator.index, value))
    except TypeError:
        shape = (-1,)
    if any(size < 0 for size in shape):
        raise ValueError(f"{name} must be an array or a shape of ints >= 0, got {value!r}")
    return shape


def _as_dtype(dtype: object) -> str:
    name = dtype_name(np.dtype(dtype)) if isinstance(dtype, type | np.dtype) else dtype
    if not isinstance(name, str) or name not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}{did_you_mean(name, DTYPES)}")
    return name
