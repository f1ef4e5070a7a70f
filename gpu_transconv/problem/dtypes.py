"""The dtypes: names, bytes, in which dtype products are summed, and which activation and precision is defined."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

#: A dtype of NumPy, or the name of one that there are kernels for.
DtypeOrName: TypeAlias = str | np.dtype[np.generic]


class Dtype(NamedTuple):
    """Bytes of an element, and the dtype in which products are summed."""

    size: int
    accumulate: str


#: All dtypes there are kernels for, by name.
DTYPES = {
    "float16": Dtype(2, "float32"),
    "bfloat16": Dtype(2, "float32"),
    "float32": Dtype(4, "float32"),
    "float64": Dtype(8, "float64"),
    "complex64": Dtype(8, "complex64"),
    "complex128": Dtype(16, "complex128"),
    "int32": Dtype(4, "int32"),
    "int64": Dtype(8, "int64"),
}
#: The dtypes for which a precision other than "highest" says something.
_PRECISIONS = {"tf32": ("float32",), "fast": ("float16", "bfloat16", "float32", "float64")}


@lru_cache(maxsize=64)
def dtype_name(dtype: DtypeOrName) -> str:
    """Name of a NumPy dtype of any byte order; a name stays as it is."""
    return dtype if isinstance(dtype, str) else str(dtype.newbyteorder("=").name)


def check_dtypes(**dtypes: DtypeOrName | None) -> str:
    """Return the name of the common dtype, or raise `TypeError`; None stands for an array not given."""
    given = {name: dtype for name, dtype in dtypes.items() if dtype is not None}
    first = next(iter(given))
    expected = dtype_name(given[first])
    for name, dtype in given.items():
        found = dtype_name(dtype)
        if found not in DTYPES:
            listed = ", ".join(DTYPES)
            raise TypeError(f"{name} must have one of the dtypes {listed}, got {dtype}{_cure(name, found)}")
        if found != expected:
            raise TypeError(
                f"{name} must have {first}'s dtype {expected}, got {dtype}; cast one: "
                f"{name}.astype({first}.dtype), of tensors {name}.to({first}.dtype)"
            )
    return expected


def _cure(name: str, dtype: str) -> str:
    """What to do about a dtype that there are no kernels for, as the end of a message."""
    if dtype == "uint8":
        return f"; of a picture, divide: {name}.astype('float32') / 255, of tensors {name}.float() / 255"
    if dtype.startswith(("bool", "int", "uint", "float", "complex", "object", "longdouble", "clongdouble")):
        return f"; cast it first: {name}.astype('float32'), of tensors {name}.float()"
    return ""


def check_activation(activation: str | None, dtype: str) -> None:
    """Raise `TypeError` where an activation has no meaning for a dtype."""
    if activation is None or dtype.startswith(("float", "bfloat")):
        return
    valid = ("relu",) if dtype.startswith("int") else ("tanh", "sigmoid", "silu")
    if activation not in valid:
        raise TypeError(
            f"activation {activation!r} is not defined for {dtype}; expected None or one of {', '.join(valid)}"
        )


def defined_precision(precision: str, dtype: str) -> str:
    """Return `precision` where it says something for `dtype`, else "highest"."""
    return precision if dtype in _PRECISIONS.get(precision, ()) else "highest"
