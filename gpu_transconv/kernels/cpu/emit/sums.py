"""Sums of rows of numbers, for use in kernels."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from .copy_ir import CopyFunctions
from .intrinsics import call_for_halves
from .row_ir import ELEMENTS


@intrinsic
def add_products(typingctx, sums, sums_step, source, source_step, factors, length, count, half):
    """Add ``sums[i*sums_step + j] += source[i*source_step + j] * factors[j]`` for `count` rows of `length` elements."""

    def codegen(context, builder, _signature, args):
        functions = CopyFunctions(builder.module, ELEMENTS[sums.dtype], ELEMENTS[source.dtype])
        call_for_halves(builder, functions, functions.product_adder, args[:-1], args[-1])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(sums, i64, source, i64, sums, i64, i64, i64), codegen


@intrinsic
def combine_pairs(typingctx, first, second, third, count):
    """Replace rows m0 and m1 by m0 + m1 and m1 - m2; return 1 if a result is not finite, or 0."""

    def codegen(context, builder, _signature, args):
        functions = CopyFunctions(builder.module, ELEMENTS[first.dtype], ELEMENTS[first.dtype])
        return builder.call(functions.combiner(), args)

    return types.int64(first, first, first, types.int64), codegen
