"""The tile of `gemm_tile` for panels of boxes, as LLVM IR: while it multiplies, it brings in the panel that comes next.

``C[m, n] (+)= sum over taps t and channels k of A[t, k, m] * B[place[t] + k*step + n]``. Between the products of a tap
and a channel, which leave the loads and stores of a core idle some of the time, one vector of input is moved. So most
of its way from memory is over before anything waits for it.

A *move* is three words: where in the source a vector lies, where in the target it goes, and which of its lanes are
read; the others are zero. A list of moves is good for every channel. Half types become floats on the way, or couples,
of which a move reads both channels.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.intrinsics import call_for_halves
from ..emit.numbers import COUPLED
from ..emit.registers import has_couples, prefetch
from ..emit.row_ir import ELEMENTS, RowFunctions
from .gemm_tile import tile_shapes
from .tile_frame import ADD, PER_ROW, Kind, Tile

# LLVM's integers, by their bits.
_I16, _I64 = ir.IntType(16), ir.IntType(64)
#: Words of a move.
MOVE_WORDS = 3


@intrinsic
def box_tile(
    typingctx, table, c, c_row, a, a_taps, b, b_step, b_taps, init, mode, taps, depth, source, target, moves, count,
    ahead, apart, rows, vectors,
):  # fmt: skip
    """Run one tile; c, a, a_taps, b, b_taps, init, source, target and moves are addresses of `pointers.address`.

    table : what `box_table` returned
    c, c_row : first column of C, and the distance of its rows
    a, a_taps : A, the rows of a channel next to each other and channels behind each other, and by tap how many
        elements of a row are before it
    b, b_step, b_taps : B, its channel stride, and by tap the place of its first column
    init, mode : start values of the rows; with mode `tile_frame.ADD` they are ignored and C is added to
    taps, depth : numbers of taps and channels
    source, target, moves, count : the first `count` moves of a list, at most one for each tap and channel
    ahead : bytes from what is moved to what is fetched, for a move to come
    apart : elements of the source between both channels of a couple
    rows, vectors : shape of the tile; one of `gemm_tile.tile_shapes`
    """
    return BOXES.of().call(c, b_taps)


@intrinsic
def move_vectors(typingctx, source, target, moves, count, ahead, apart, half):
    """Make the first `count` moves of a list without a tile; see `box_tile`."""

    def codegen(context, builder, _signature, args):
        rows = RowFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        *rest, half_ = args

        def find(kind):
            function, body = rows.begin(f"move_{rows.wide}_{rows.stored}_{kind}", [arg.type for arg in rest])
            if body is not None:
                with cgutils.for_range(body, function.args[3]) as loop:
                    _emit_move(body, rows, function.args, loop.index, kind)
                body.ret_void()
            return function

        call_for_halves(builder, rows, find, rest, half_, has_couples())
        return context.get_dummy_value()

    return types.void(source, target, moves, *[types.int64] * 4), codegen


def _emit_move(builder, rows, args, index, half):
    """Emit the move of that number of a list, of an input of that kind."""
    source, target, moves, _, ahead, apart = args
    word = builder.mul(index, _I64(MOVE_WORDS))
    start, to, lanes = (builder.load(builder.gep(moves, [builder.add(word, _I64(i))])) for i in range(MOVE_WORDS))
    bits = builder.trunc(lanes, ir.IntType(rows.lanes))
    mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), rows.lanes))
    source = builder.bitcast(source, (_I16 if half else rows.wide).as_pointer())
    for at in [start, builder.add(start, apart)] if half == COUPLED else [start]:
        prefetch(builder, builder.add(builder.ptrtoint(builder.gep(source, [at]), _I64), ahead), near=True)
    rows.store(builder, rows.load_wide(builder, source, start, mask, half, apart), target, to)


def _emit_box(tile: Tile) -> None:
    """Emit a tile; its arguments are those of `box_tile` up to `apart`.

    It reads a factor of A for each row and whole vectors of B for each tap and channel (or couple), and writes or adds
    to whole vectors of C.
    """
    c, c_row, a, a_taps, b, b_step, b_taps, init, mode, taps, depth, *moving = tile.function.args
    builder = tile.builder
    tile.start(mode, init, ADD, PER_ROW)
    with cgutils.for_range(builder, taps) as tap:
        a_first = tile.look_up(a, a_taps, tap.index, _I64(tile.rows))
        b_first = tile.look_up(b, b_taps, tap.index)
        before = builder.mul(tap.index, depth)

        def add_products(channel, a_first=a_first, b_first=b_first):
            factors = builder.gep(a_first, [builder.mul(channel, _I64(tile.rows))])
            columns = builder.gep(b_first, [builder.mul(channel, b_step)])
            tile.add_products(factors, [_I64(m) for m in range(tile.rows)], columns)

        left = builder.sub(moving[3], before)
        moved = builder.select(builder.icmp_signed("<", left, depth), left, depth)
        moved = builder.select(builder.icmp_signed("<", moved, _I64(0)), _I64(0), moved)
        with cgutils.for_range(builder, moved) as both:
            _emit_move(builder, tile.memory, moving, builder.add(before, both.index), tile.half)
            add_products(both.index)
        with cgutils.for_range(builder, builder.sub(depth, moved)) as rest:
            add_products(builder.add(moved, rest.index))
    tile.write(mode, [builder.gep(c, [builder.mul(c_row, _I64(m))]) for m in range(tile.rows)])


BOXES = Kind("box", "".join(("EN", "ET", "ENT", "ENNN", "EETNNN")), tile_shapes, _emit_box)


@lru_cache(maxsize=5)
def box_table(dtype: str, half: int = 0) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`, and an input of that kind."""
    return BOXES.of(half).find_table(dtype)
