"""The fused activations, as functions for kernels; which one is a fact that a kernel is compiled with."""

from __future__ import annotations

import math
from typing import Any

from .cuda import cuda


def make_activation(name: str | None, number: Any) -> Any:
    """Return the device function ``(v, slope) -> number`` of an activation; only leaky_relu reads the slope.

    `number` is the type of the sums: a bare 0.5 would be a float64, and drag the whole expression along.
    """
    if name in (None, "relu", "leaky_relu"):
        return _make_linear(name, number)
    return _make_smooth(name, number)


def _make_linear(name: str | None, number: Any) -> Any:
    @cuda.jit(device=True, inline="always")
    def identity(v, slope):
        return v

    @cuda.jit(device=True, inline="always")
    def relu(v, slope):
        return number(0) if v < number(0) else v  # not max(v, 0), which would lose NaN

    @cuda.jit(device=True, inline="always")
    def leaky_relu(v, slope):
        return number(v * number(slope)) if v < number(0) else v

    return {None: identity, "relu": relu, "leaky_relu": leaky_relu}[name]


def _make_smooth(name: str | None, number: Any) -> Any:
    half, cubic, scale = number(0.5), number(0.044715), number(0.7978845608028654)

    @cuda.jit(device=True, inline="always")
    def tanh(v, slope):
        return number(math.tanh(v))

    @cuda.jit(device=True, inline="always")
    def sigmoid(v, slope):
        return half + half * number(math.tanh(half * v))

    @cuda.jit(device=True, inline="always")
    def silu(v, slope):
        return v * (half + half * number(math.tanh(half * v)))

    @cuda.jit(device=True, inline="always")
    def gelu(v, slope):
        return half * v * (number(1) + number(math.tanh(scale * (v + cubic * v * v * v))))

    return {"tanh": tanh, "sigmoid": sigmoid, "silu": silu, "gelu": gelu}[name or ""]
