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
from ..runtime.compiled import constant, inner

#: What `Geometry.half` holds for a dtype; other dtypes, which have 0 there, are stored as they are summed.
FLOAT16, BFLOAT16 = 1, 2
#: The same for bfloat16 whose channels are multiplied in couples, see `gemm_tile`; it is stored as bfloat16 is.
COUPLED = 3
HALF_CODES = {"float16": FLOAT16, "bfloat16": BFLOAT16}
#: Activation name -> the number by which kernels know it.
ACTIVATION_CODES: dict[str | None, int] = {None: 0, **{name: code for code, name in enumerate(ACTIVATIONS, 1)}}
_RELU, _LEAKY_RELU, _TANH, _SIGMOID, _SILU, _GELU = range(1, 7)
#: Of gelu in its tanh form (Hendrycks and Gimpel, 2016): the square root of 2 over pi, and the factor of the cube.
_GELU_SCALE, _GELU_CUBE = 0.7978845608028654, 0.044715
#: Added to a float64, and taken away, it rounds that to an integer, which the last bits of the sum hold.
_LAST_PLACE = 1.5 * 2**52


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


#: What a floating type becomes when its bits are taken for a number, and the other way round.
_REINTERPRETED = {
    types.float32: (types.uint32, ir.IntType(32)),
    types.uint32: (types.float32, ir.FloatType()),
    types.float64: (types.uint64, ir.IntType(64)),
    types.uint64: (types.float64, ir.DoubleType()),
}


@intrinsic
def _bits(typingctx, value):
    """Reinterpret a floating number as an integer of its size, or such an integer as a floating number."""
    target, kind = _REINTERPRETED[value]
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


@inner
def activate_run(values, first, count, code, slope):
    """Apply activation `code` to a run of elements in place; a loop for each, so that it takes vectors."""
    run = values[first : first + count]  # whose indices are counted from 0, so that they cannot be negative
    if code == _RELU:
        _activate_all(run, _RELU, slope)
    elif code == _LEAKY_RELU:
        _activate_all(run, _LEAKY_RELU, slope)
    elif code == _TANH:
        _activate_all(run, _TANH, slope)
    elif code == _SIGMOID:
        _activate_all(run, _SIGMOID, slope)
    elif code == _SILU:
        _activate_all(run, _SILU, slope)
    elif code == _GELU:
        _activate_all(run, _GELU, slope)


@constant
def _activate_all(run, code, slope):
    for i in range(run.size):
        run[i] = activate(run[i], code, slope)


def activate(v, code, slope):
    """Apply activation `code` to one element; only for use inside kernels."""
    raise NotImplementedError


@overload(activate)
def _activate(v, code, slope):
    if isinstance(v, types.Integer):
        return _integer
    if isinstance(v, types.Complex):
        return _complex
    return _single if v == types.float32 else _double


def _integer(v, code, slope):
    return type(v)(0) if code and v < 0 else v


def _double(v, code, slope):
    if code == _RELU:
        return 0.0 if v < 0 else v
    if code == _LEAKY_RELU:
        return v * slope if v < 0 else v
    if code == _TANH:
        return math.tanh(v)
    if code == _SIGMOID:
        return 0.5 + 0.5 * math.tanh(0.5 * v)
    if code == _SILU:
        return v * (0.5 + 0.5 * math.tanh(0.5 * v))
    if code == _GELU:
        return v * (0.5 + 0.5 * math.tanh(_GELU_SCALE * (v + _GELU_CUBE * v * v * v)))
    return v


def _single(v, code, slope):
    """Round once, from float64, in which exp takes a tenth of the time of a call of the mathematical library."""
    wide = np.float64(v)
    if code == _RELU:
        return np.float32(0) if v < 0 else v
    if code == _LEAKY_RELU:
        return np.float32(wide * slope) if v < 0 else v
    if code == _TANH:
        near = wide * (1 - wide * wide / 3)  # where the difference below would lose digits
        return np.float32(near if abs(wide) < 1e-3 else 1 - 2 / (1 + _exp(2 * wide)))
    if code == _SIGMOID:
        return np.float32(1 / (1 + _exp(-wide)))
    if code == _SILU:
        return np.float32(wide / (1 + _exp(-wide)))
    if code == _GELU:
        return np.float32(wide / (1 + _exp(-2 * _GELU_SCALE * (wide + _GELU_CUBE * wide * wide * wide))))
    return v


@inner
def _exp(y):
    """Return e to a float64 without a branch: 2 to a whole power, made of bits, times a polynomial of the rest.

    The error is below 3e-10 of the result; from 709.5 on that is infinite, and below -700 about 1e-304.
    """
    y = -700.0 if y < -700.0 else y
    y = 710.0 if y > 710.0 else y
    shifted = y * 1.4426950408889634 + _LAST_PLACE
    power = shifted - _LAST_PLACE
    rest = y - power * 0.6931471805599453
    series = 1 / 40320
    for factorial in (5040, 720, 120, 24, 6, 2, 1, 1):
        series = series * rest + 1 / factorial
    return series * _bits((_bits(shifted) << np.uint64(52)) + np.uint64(1023 << 52))


def _complex(v, code, slope):
    if code == _TANH:
        return type(v)(np.tanh(v))
    if code == _SIGMOID:
        return type(v)(0.5 + 0.5 * np.tanh(0.5 * v))
    if code == _SILU:
        return type(v)(v * (0.5 + 0.5 * np.tanh(0.5 * v)))
    return v
