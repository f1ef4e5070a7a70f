"""Whole numbers inside kernels: Numba computes in 64 bits unless told otherwise, and divides as Python does.

So offsets are cast where they are used (``x[offset(...)]``, which lets the compiler do the whole expression in
32 bits), and what is never negative is divided without the care for signs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .cuda import cuda, types


class Integers(NamedTuple):
    """`index` is the type of positions, `offset` its unsigned twin; `split(a, b)` is ``divmod`` for a >= 0."""

    index: Any
    offset: Any
    split: Any


def make_integers(name: str) -> Integers:
    """Build the conversions for "int32" or "int64"."""
    index, offset = getattr(types, name), getattr(types, "u" + name)

    @cuda.jit(device=True, inline="always")
    def split(a, b):
        quotient = index(offset(a) // offset(b))
        return quotient, index(a - quotient * b)

    return Integers(index, offset, split)
