"""float16 and bfloat16 in CPU kernels: 16-bit words, widened when read, rounded once when written."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .compiled import inner

#: What `Geometry.half` holds for a dtype; other dtypes are stored as they are summed.
CODES = {"float16": 1, "bfloat16": 2}


@intrinsic
def _convert(typingctx: Any, value: Any) -> Any:
    """float16 bits (uint16) to float32, or float32 to float16 bits rounded to nearest even."""
    up = value == types.uint16

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        half, word = ir.HalfType(), ir.IntType(16)
        if up:
            return builder.fpext(builder.bitcast(args[0], half), ir.FloatType())
        return builder.bitcast(builder.fptrunc(args[0], half), word)

    return (types.float32 if up else types.uint16)(value), codegen


@intrinsic
def _bits(typingctx: Any, value: Any) -> Any:
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
