"""Numbers inside kernels: the types of offsets and sums, division as it is cheap, and the fused activations.

Numba computes whole numbers in 64 bits unless told otherwise, and divides as Python does. So offsets are cast where
they are used (``x[offset(...)]``, which lets the compiler do the whole expression in 32 bits), and what is never
negative is divided without the care for signs. Which activation there is, is a trait that a kernel is compiled with.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .cuda import DeviceFunction, Number, inlined, types


class Integers(NamedTuple):
    """`index` is the type of positions, `offset` its unsigned twin; `split(a, b)` is ``divmod`` for a >= 0."""

    index: Number
    offset: Number
    split: DeviceFunction


def make_integers(name: str) -> Integers:
    """Build the conversions for "int32" or "int64"."""
    index, offset = getattr(types, name), getattr(types, "u" + name)

    @inlined
    def split(a, b):
        quotient = index(offset(a) // offset(b))
        return quotient, index(a - quotient * b)

    return Integers(index, offset, split)


def make_activation(name: str | None, number: Number) -> DeviceFunction:
    """Return the device function ``(v, slope) -> number`` of an activation; only leaky_relu reads the slope.

    `number` is the type of the sums: a bare 0.5 would be a float64, and drag the whole expression along.
    """
    if name in (None, "relu", "leaky_relu"):
        return _make_linear(name, number)
    return _make_smooth(name, number)


def _make_linear(name: str | None, number: Number) -> DeviceFunction:
    @inlined
    def identity(v, slope):
        return v

    @inlined
    def relu(v, slope):
        return number(0) if v < number(0) else v  # not max(v, 0), which would lose NaN

    @inlined
    def leaky_relu(v, slope):
        return number(v * number(slope)) if v < number(0) else v

    return {None: identity, "relu": relu, "leaky_relu": leaky_relu}[name]


def _make_smooth(name: str | None, number: Number) -> DeviceFunction:
    half, cubic, scale = number(0.5), number(0.044715), number(0.7978845608028654)

    @inlined
    def tanh(v, slope):
        return number(math.tanh(v))

    @inlined
    def sigmoid(v, slope):
        return half + half * number(math.tanh(half * v))

    @inlined
    def silu(v, slope):
        return v * (half + half * number(math.tanh(half * v)))

    @inlined
    def gelu(v, slope):
        return half * v * (number(1) + number(math.tanh(scale * (v + cubic * v * v * v))))

    return {"tanh": tanh, "sigmoid": sigmoid, "silu": silu, "gelu": gelu}[name or ""]
