"""The numbers of CPU kernels: half types, which are stored as 16-bit words, and the activations of every type.

Half types are widened when read and rounded once when written. Of the activations real numbers take all, integers
relu, complex numbers three.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ....problem.arguments import ACTIVATIONS
from ..runtime.compiled import inner

#: What `Geometry.half` holds for a dtype; other dtypes, which have 0 there, are stored as they are summed.
FLOAT16, BFLOAT16 = 1, 2
HALF_CODES = {"float16": FLOAT16, "bfloat16": BFLOAT16}
#: Activation name -> the number by which kernels know it.
ACTIVATION_CODES: dict[str | None, int] = {None: 0, **{name: code for code, name in enumerate(ACTIVATIONS, 1)}}
_RELU, _LEAKY_RELU, _TANH, _SIGMOID, _SILU, _GELU = range(1, 7)


@intrinsic
def _convert(typingctx, value):
    """float16 bits (uint16) to float32, or float32 to float16 bits rounded to nearest even."""
    up = value == types.uint16

    def codegen(_context, builder, _signature, args):
        half, word = ir.HalfType(), ir.IntType(16)
        if up:
            return builder.fpext(builder.bitcast(args[0], half), ir.FloatType())
        return builder.bitcast(builder.fptrunc(args[0], half), word)

    return (types.float32 if up else types.uint16)(value), codegen


@intrinsic
def _bits(typingctx, value):
    """Reinterpret float32 as uint32, or uint32 as float32."""
    target, kind = (types.uint32, ir.IntType(32)) if value == types.float32 else (types.float32, ir.FloatType())
    return target(value), lambda _context, builder, _signature, args: builder.bitcast(args[0], kind)


@inner
def _bfloat16_bits(value):
    bits = _bits(value)
    if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        return np.uint16((bits >> np.uint32(16)) | np.uint32(0x40))  # NaN stays NaN
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def widen(value, half):
    """Stored element to the type of the sums; only for use inside kernels."""
    raise NotImplementedError


def narrow(value, like, half):
    """Sum to the type of an element stored in the array `like`; only for use inside kernels."""
    raise NotImplementedError


@overload(widen)
def _widen(value, half):
    if value != types.uint16:
        return lambda value, half: value  # noqa: ARG005
    return lambda value, half: _convert(value) if half == 1 else _bits(np.uint32(value << 16))


@overload(narrow)
def _narrow(value, like, half):
    if like.dtype != types.uint16:
        return lambda value, like, half: value  # noqa: ARG005
    return lambda value, like, half: _convert(value) if half == 1 else _bfloat16_bits(value)  # noqa: ARG005


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
