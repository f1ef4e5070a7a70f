"""The fused activations, typed by the element: real numbers take all, integers relu, complex three."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from ...problem.arguments import ACTIVATIONS

#: Activation name -> the number by which kernels know it.
CODES: dict[str | None, int] = {None: 0, **{name: code for code, name in enumerate(ACTIVATIONS, 1)}}
_RELU, _LEAKY_RELU, _TANH, _SIGMOID, _SILU, _GELU = range(1, 7)


def activate(v, code, slope):
    """Apply activation `code` to one element; only for use inside kernels."""
    raise NotImplementedError


@overload(activate)
def _activate(v, code, slope):
    if isinstance(v, types.Integer):
        return _integer
    return _complex if isinstance(v, types.Complex) else _real


def _integer(v, code, slope):
    return type(v)(0) if code and v < 0 else v


def _real(v, code, slope):
    if code == 0:
        return v
    if code == _RELU:
        return type(v)(0) if v < 0 else v
    if code == _LEAKY_RELU:
        return type(v)(v * slope) if v < 0 else v
    wide = float(v)
    if code == _TANH:
        wide = math.tanh(wide)
    elif code == _SIGMOID:
        wide = 0.5 + 0.5 * math.tanh(0.5 * wide)
    elif code == _SILU:
        wide *= 0.5 + 0.5 * math.tanh(0.5 * wide)
    elif code == _GELU:
        wide *= 0.5 + 0.5 * math.tanh(0.7978845608028654 * (wide + 0.044715 * wide * wide * wide))
    return type(v)(wide)


def _complex(v, code, slope):
    if code == _TANH:
        return type(v)(np.tanh(v))
    if code == _SIGMOID:
        return type(v)(0.5 + 0.5 * np.tanh(0.5 * v))
    if code == _SILU:
        return type(v)(v * (0.5 + 0.5 * np.tanh(0.5 * v)))
    return v
