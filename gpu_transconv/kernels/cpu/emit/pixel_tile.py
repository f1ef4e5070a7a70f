"""The inner tile with the channels last: rows are pixels anywhere in memory, columns their channels, as LLVM IR.

``C[m, n] (+)= sum over taps t and channels k of A[place[m] + tap[t] + k] * B[t, k, n]``, where the places of rows are
listed, of A and of C, so that neither is copied. Otherwise these are the tiles of `gemm_tile` that are one or two
vectors wide.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..runtime.compiled import entry
from .gemm_tile import ADD, tile_shapes
from .registers import (
    CACHE_LINE,
    ELEMENT,
    broadcast,
    call_entry,
    emit_table,
    keep,
    kind_of,
    multiply_add,
    prefetch,
    registers,
)
from .row_ir import RowFunctions

_I64 = ir.IntType(64)
#: Arguments of the compiled tiles, named in `pixel_tile`: addresses of Elements and Tables, and Numbers.
_ARGUMENTS = "".join(("ETN", "ETT", "ETN", "EN", "NNN"))


@lru_cache(maxsize=2)
def pixel_table(dtype: str) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`."""
    find = keep(entry(types.int64(types.CPointer(getattr(types, dtype))), _pixels))
    return int(find.ctypes(None))


def _pixels(like):
    return _pixels_like(like)


@intrinsic
def _pixels_like(typingctx, like):
    def codegen(context, builder, _signature, _args):
        return builder.ptrtoint(emit_pixels(builder.module, ELEMENT[like.dtype]), _I64)

    return types.int64(like), codegen


@intrinsic
def pixel_tile(
    typingctx, table, c, c_rows, c_row, a, a_rows, a_taps, b, b_taps, b_tap, init, mode, taps, depth, ahead, rows,
    vectors,
):  # fmt: skip
    """Run one tile; c, c_rows, a, a_rows, a_taps, b, b_taps and init are addresses of `pointers.address`.

    table : what `pixel_table` returned
    c, c_rows, c_row : first column of C, table of rows and what to multiply it by
    a, a_rows, a_taps : A, and the places of rows and of taps in it
    b, b_taps, b_tap : B, whose rows follow each other, table of taps and what to multiply it by
    init, mode : start values of the columns; with mode `gemm_tile.ADD` they are ignored and C is added to
    taps, depth : numbers of taps and channels
    ahead : number of an address, from which on a cache line is fetched for each channel
    rows, vectors : shape of the tile; one of `gemm_tile.tile_shapes`, at most two vectors
    """
    kinds = {"E": c, "T": c_rows, "N": types.int64}
    arguments = [kinds[kind] for kind in _ARGUMENTS]

    def codegen(context, builder, _signature, args):
        call_entry(builder, kind_of(ELEMENT[c.dtype], _ARGUMENTS), args[0], args[-1], args[-2], args[1:-2])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments, types.int64, types.int64), codegen


def emit_pixels(module: ir.Module, element: ir.Type) -> ir.GlobalVariable:
    """Add the tiles of all shapes and the table of their addresses."""
    entries = {
        (width, height): _emit_pixels(module, element, height, width)
        for width in (1, 2)
        for height in range(1, tile_shapes()[width] + 1)
    }
    return emit_table(module, f"gtc_pixels_{element}", kind_of(element, _ARGUMENTS), entries)


def _emit_pixels(module: ir.Module, element: ir.Type, rows: int, vectors: int) -> ir.Function:
    """Add the tile of one shape; its arguments are those of `pixel_tile` up to `ahead`.

    It reads `rows` factors of A and `vectors` vectors of B for each tap and channel, and writes or adds to whole
    vectors of C; the sums are its own and stay in registers.
    """
    function = ir.Function(module, kind_of(element, _ARGUMENTS), f"gtc_pixels_{element}_{rows}x{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    c, c_rows, c_row, a, a_rows, a_taps, b, b_taps, b_tap, init, mode, taps, depth, ahead = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    lines = RowFunctions(module, element, element)
    vector = ir.VectorType(element, registers()[0] * 8 // (32 if element == ir.FloatType() else 64))
    fma = multiply_add(module, vector)
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    at = [_I64(v * lines.lanes) for v in range(vectors)]
    adds = builder.icmp_signed("==", mode, _I64(ADD))

    def listed(table, index):
        return builder.load(builder.gep(table, [index]))

    with builder.if_else(adds) as branches:
        for more, branch in zip((True, False), branches, strict=True):
            with branch:
                start = [ir.Constant(vector, None) if more else lines.load(builder, element, init, i) for i in at]
                for row in sums:
                    for value, total in zip(start, row, strict=True):
                        builder.store(value, total)
    for m in range(rows):  # what is written arrives during the products
        target = builder.gep(c, [builder.mul(listed(c_rows, _I64(m)), c_row)])
        for i in at:
            prefetch(builder, builder.ptrtoint(builder.gep(target, [i]), _I64), near=True, write=True)
    places = [listed(a_rows, _I64(m)) for m in range(rows)]
    with cgutils.for_range(builder, taps) as tap:
        a_tap = builder.gep(a, [listed(a_taps, tap.index)])
        b_first = builder.gep(b, [builder.mul(listed(b_taps, tap.index), b_tap)])
        with cgutils.for_range(builder, depth) as channel:
            prefetch(builder, builder.add(ahead, builder.mul(channel.index, _I64(CACHE_LINE))))
            b_row = builder.gep(b_first, [builder.mul(channel.index, _I64(vectors * lines.lanes))])
            columns = [lines.load(builder, element, b_row, i) for i in at]
            a_column = builder.gep(a_tap, [channel.index])
            for place, row in zip(places, sums, strict=True):
                factor = broadcast(builder, a_column, place, vector)
                for column, total in zip(columns, row, strict=True):
                    builder.store(builder.call(fma, [factor, column, builder.load(total)]), total)
    with builder.if_else(adds) as branches:
        for more, branch in zip((True, False), branches, strict=True):
            with branch:
                for m, row in enumerate(sums):
                    target = builder.gep(c, [builder.mul(listed(c_rows, _I64(m)), c_row)])
                    for i, total in zip(at, row, strict=True):
                        value = builder.load(total)
                        value = builder.fadd(lines.load(builder, element, target, i), value) if more else value
                        lines.store(builder, value, target, i)
    builder.ret_void()
    return function
