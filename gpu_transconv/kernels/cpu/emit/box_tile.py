"""The tile of `gemm_tile` for panels of boxes, as LLVM IR: while it multiplies, it brings in the panel that comes next.

``C[m, n] (+)= sum over taps t and channels k of A[t, k, m] * B[place[t] + k*step + n]``. Between the products of a tap
and a channel, which leave the loads and stores of a core idle some of the time, one vector of input is moved. So most
of its way from memory is over before anything waits for it.

A *move* is three words: where in the source a vector lies, where in the target it goes, and which of its lanes are
read; the others are zero. A list of moves is good for every channel.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..runtime.compiled import entry, inner
from .gemm_tile import ADD, tile_shapes
from .registers import (
    ELEMENT,
    broadcast,
    call_entry,
    emit_table,
    keep,
    kind_of,
    multiply_add,
    multiply_couples,
    prefetch,
    registers,
)
from .row_ir import RowFunctions

# LLVM's integers, by their bits.
_I32, _I64 = ir.IntType(32), ir.IntType(64)
#: Arguments of the compiled tiles, named in `box_tile`: addresses of Elements and Tables, and Numbers.
_ARGUMENTS = "".join(("EN", "ETN", "ENT", "ENNN", "EETNN"))
#: Words of a move.
MOVE_WORDS = 3


def box_shapes() -> dict[int, int]:
    """Vectors of columns -> most rows: the sums, a vector or a factor for each and one more fit the registers."""
    count = registers()[1]
    return {
        v: max(tile_shapes().get(v, 0), min(v - 1, (count - 1) // (v + 1))) for v in (1, 2, 4, 8) if v in tile_shapes()
    }


#: Most rows of a tile that is eight vectors wide, or four; 0 where there are none.
_ROWS_OF_8, _ROWS_OF_4 = box_shapes().get(8, 0), box_shapes().get(4, 0)


@inner
def box_vectors(rows, left):
    """Vectors of columns of the next tile, of `left` still to do: as many as the registers take."""
    if rows <= _ROWS_OF_8 and left >= 8:
        return 8
    if rows <= _ROWS_OF_4 and left >= 4:
        return 4
    return min(2, left)


@lru_cache(maxsize=3)
def box_table(dtype: str, coupled: bool = False) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`; perhaps those for couples of channels."""
    find = keep(entry(types.int64(types.CPointer(getattr(types, dtype))), _coupled_boxes if coupled else _boxes))
    return int(find.ctypes(None))


def _boxes(like):
    return _boxes_like(like, 0)


def _coupled_boxes(like):
    return _boxes_like(like, 1)


@intrinsic(prefer_literal=True)
def _boxes_like(typingctx, like, coupled):
    def codegen(context, builder, _signature, _args):
        table = emit_boxes(builder.module, ELEMENT[like.dtype], bool(coupled.literal_value))
        return builder.ptrtoint(table, _I64)

    return types.int64(like, coupled), codegen


@intrinsic
def box_tile(
    typingctx, table, c, c_row, a, a_taps, a_tap, b, b_step, b_taps, init, mode, taps, depth, source, target, moves,
    count, ahead, rows, vectors,
):  # fmt: skip
    """Run one tile; c, a, a_taps, b, b_taps, init, source, target and moves are addresses of `pointers.address`.

    table : what `box_table` returned
    c, c_row : first column of C, and the distance of its rows
    a, a_taps, a_tap : A, the rows of a channel next to each other and channels behind each other, table of taps and
        what to multiply it by
    b, b_step, b_taps : B, its channel stride, and by tap the place of its first column
    init, mode : start values of the rows; with mode `gemm_tile.ADD` they are ignored and C is added to
    taps, depth : numbers of taps and channels
    source, target, moves, count : the first `count` moves of a list, at most one for each tap and channel
    ahead : bytes from what is moved to what is fetched, for a move to come
    rows, vectors : shape of the tile; one of `box_shapes`
    """
    kinds = {"E": c, "T": b_taps, "N": types.int64}
    arguments = [kinds[kind] for kind in _ARGUMENTS]

    def codegen(context, builder, _signature, args):
        call_entry(builder, kind_of(ELEMENT[c.dtype], _ARGUMENTS), args[0], args[-1], args[-2], args[1:-2])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments, types.int64, types.int64), codegen


@intrinsic
def move_vectors(typingctx, source, target, moves, count, ahead):
    """Make the first `count` moves of a list without a tile; see `box_tile`."""

    def codegen(context, builder, _signature, args):
        rows = RowFunctions(builder.module, ELEMENT[target.dtype], ELEMENT[target.dtype])
        kinds = [arg.type for arg in args]
        function, body = rows.begin(f"move_{rows.wide}", kinds)
        if body is not None:
            with cgutils.for_range(body, function.args[3]) as loop:
                _emit_move(body, rows, function.args, loop.index)
            body.ret_void()
        builder.call(function, args)
        return context.get_dummy_value()

    return types.void(source, target, moves, types.int64, types.int64), codegen


def _emit_move(builder, rows, args, index):
    """Emit the move of that number of a list."""
    source, target, moves, _, ahead = args
    word = builder.mul(index, _I64(MOVE_WORDS))
    start, to, lanes = (builder.load(builder.gep(moves, [builder.add(word, _I64(i))])) for i in range(MOVE_WORDS))
    bits = builder.trunc(lanes, ir.IntType(rows.lanes))
    mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), rows.lanes))
    at = builder.ptrtoint(builder.gep(source, [start]), _I64)
    prefetch(builder, builder.add(at, ahead), near=True)
    rows.store(builder, rows.load(builder, rows.wide, source, start, mask), target, to)


def emit_boxes(module: ir.Module, element: ir.Type, coupled: bool = False) -> ir.GlobalVariable:
    """Add the tiles of all shapes and the table of their addresses."""
    entries = {
        (width, height): _emit_box(module, element, height, width, coupled)
        for width, most in box_shapes().items()
        for height in range(1, most + 1)
    }
    return emit_table(module, f"gtc_boxes_{element}", kind_of(element, _ARGUMENTS), entries)


def _emit_box(module: ir.Module, element: ir.Type, rows: int, vectors: int, coupled: bool) -> ir.Function:
    """Add the tile of one shape; its arguments are those of `box_tile` up to `ahead`.

    It reads `rows` factors of A and `vectors` vectors of B for each tap and channel (or couple), and writes or adds to
    whole vectors of C; the sums are its own and stay in registers.
    """
    function = ir.Function(module, kind_of(element, _ARGUMENTS), f"gtc_box_{element}_{rows}x{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    c, c_row, a, a_taps, a_tap, b, b_step, b_taps, init, mode, taps, depth, *moving = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    lines = RowFunctions(module, element, element)
    vector = ir.VectorType(element, lines.lanes)
    fma = multiply_couples(module) if coupled else multiply_add(module, vector)
    words = ir.VectorType(_I32, lines.lanes)
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    adds = builder.icmp_signed("==", mode, _I64(ADD))
    with builder.if_else(adds) as branches:
        for more, branch in zip((True, False), branches, strict=True):
            with branch:
                for m, row in enumerate(sums):
                    start = ir.Constant(vector, None) if more else broadcast(builder, init, _I64(m), vector)
                    for total in row:
                        builder.store(start, total)

    def multiply(factor, column, total):
        if coupled:
            return builder.call(fma, [total, builder.bitcast(factor, words), builder.bitcast(column, words)])
        return builder.call(fma, [factor, column, total])

    with cgutils.for_range(builder, taps) as tap:
        a_first = builder.gep(a, [builder.mul(builder.load(builder.gep(a_taps, [tap.index])), a_tap)])
        b_first = builder.gep(b, [builder.load(builder.gep(b_taps, [tap.index]))])
        before = builder.mul(tap.index, depth)

        def add_products(channel, a_first=a_first, b_first=b_first):
            line = builder.mul(channel, b_step)
            places = [builder.add(line, _I64(v * lines.lanes)) for v in range(vectors)]
            start = builder.gep(a_first, [builder.mul(channel, _I64(rows))])
            if rows < vectors:  # the fewer of both stay in registers meanwhile
                factors = [broadcast(builder, start, _I64(m), vector) for m in range(rows)]
                for v, at in enumerate(places):
                    column = lines.load(builder, element, b_first, at)
                    for factor, row in zip(factors, sums, strict=True):
                        builder.store(multiply(factor, column, builder.load(row[v])), row[v])
                return
            columns = [lines.load(builder, element, b_first, at) for at in places]
            for m, row in enumerate(sums):
                factor = broadcast(builder, start, _I64(m), vector)
                for column, total in zip(columns, row, strict=True):
                    builder.store(multiply(factor, column, builder.load(total)), total)

        left = builder.sub(moving[3], before)
        moved = builder.select(builder.icmp_signed("<", left, depth), left, depth)
        moved = builder.select(builder.icmp_signed("<", moved, _I64(0)), _I64(0), moved)
        with cgutils.for_range(builder, moved) as both:
            _emit_move(builder, lines, moving, builder.add(before, both.index))
            add_products(both.index)
        with cgutils.for_range(builder, builder.sub(depth, moved)) as rest:
            add_products(builder.add(moved, rest.index))
    with builder.if_else(adds) as branches:
        for more, branch in zip((True, False), branches, strict=True):
            with branch:
                for m, row in enumerate(sums):
                    target = builder.gep(c, [builder.mul(c_row, _I64(m))])
                    for v, total in enumerate(row):
                        value, at = builder.load(total), _I64(v * lines.lanes)
                        value = builder.fadd(lines.load(builder, element, target, at), value) if more else value
                        lines.store(builder, value, target, at)
    builder.ret_void()
    return function
