"""The inner tile of every dense CPU kernel: a small matrix product held in vector registers, as LLVM IR.

``C[m, n] (+)= sum over taps t and channels k of A[m, t, k] * B[t, k, n]`` for a few rows m, each broadcast
from memory, and a few vectors of columns n. All sums stay in registers until the end. One LLVM function
exists per tile shape, so that a remainder of rows costs what it is and no more; columns come in whole
vectors, and the callers' scratch buffers are padded to them.

Where the CPU can, bfloat16 has tiles of its own: in the place of each float of A and B a *couple* of channels, next to
each other in one word, and k counts couples. Such words are moved as if they were floats.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..runtime.compiled import entry, inner
from .registers import (
    CACHE_LINE,
    ELEMENT,
    broadcast,
    call_entry,
    emit_table,
    keep,
    kind_of,
    most_sums,
    multiply_add,
    multiply_couples,
    prefetch,
    registers,
)

# LLVM's integers, by their bits.
_I32, _I64 = ir.IntType(32), ir.IntType(64)
#: Arguments of the compiled tiles, named in `tile`: addresses of Elements and Tables, and Numbers.
_ARGUMENTS = "".join(("ETN", "ENNTN", "ENTN", "ENNN", "NN"))
#: How the sums of a tile start.
ADD, PER_ROW, PER_COLUMN = range(3)


def tile_shapes() -> dict[int, int]:
    """Vectors of columns -> most rows: the sums, a row of columns and one factor fit the registers."""
    count, most = registers()[1], most_sums()
    return {v: min(14, most // v, (count - 1) // v - 1) for v in (1, 2, 4, 8) if (count - 1) // v > 1}


#: Most rows of a tile that is two vectors wide, the common shape, and of the wider ones; 0 where there are none.
TILE_ROWS = tile_shapes()[2]
ROWS_OF_4, _ROWS_OF_8 = tile_shapes().get(4, 0), tile_shapes().get(8, 0)


@inner
def tile_count(rows, lane):
    """Number of tiles that cover the rows of a set."""
    step = TILE_ROWS if lane == 1 else 2 * lane
    return (rows + step - 1) // step


@inner
def tile_range(rows, lane, t):
    """Rows of tile `t`: even parts where they are its rows, pairs of vectors where they are its columns."""
    if lane == 1:
        tiles = tile_count(rows, lane)
        least, more = rows // tiles, rows % tiles
        return t * least + min(t, more), (t + 1) * least + min(t + 1, more)
    padded = (rows + lane - 1) // lane * lane
    return t * 2 * lane, min((t + 1) * 2 * lane, padded)


@inner
def tile_vectors(rows, left):
    """Vectors of columns of the next tile, of `left` still to do: as many as the registers take."""
    if rows <= _ROWS_OF_8 and left >= 8:
        return 8
    if rows <= ROWS_OF_4 and left >= 4:
        return 4
    return min(2, left)


@lru_cache(maxsize=3)
def tile_table(dtype: str, coupled: bool = False) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`; perhaps those for couples of channels.

    The kernels call the tiles through it, so that the many shapes are compiled once and not again with every
    kernel.
    """
    find = keep(entry(types.int64(types.CPointer(getattr(types, dtype))), _coupled_tiles if coupled else _tiles))
    return int(find.ctypes(None))


def _tiles(like):
    return _tiles_like(like, 0)


def _coupled_tiles(like):
    return _tiles_like(like, 1)


@intrinsic
def tile(
    typingctx, table, c, c_rows, c_row, a, a_row, a_step, a_taps, a_tap, b, b_step, b_taps, b_tap, init,
    mode, taps, depth, ahead, ahead_step, rows, vectors,
):  # fmt: skip
    """Run one tile; c, c_rows, a, a_taps, b, b_taps and init are addresses of `pointers.address`.

    table : what `tile_table` returned
    c, c_rows, c_row : first column of C, table of rows and what to multiply it by
    a, a_row, a_step, a_taps, a_tap : A, its row and channel strides, table of taps and what to multiply it by
    b, b_step, b_taps, b_tap : B, its channel stride, table of taps and what to multiply it by
    init, mode : start values; mode ADD ignores them and adds to C, PER_ROW and PER_COLUMN say whose they are
    taps, depth : numbers of taps and channels
    ahead, ahead_step : number of an address, and bytes between channels: what is soon read, fetched on the way, a
        cache line for each tap and channel; lines of the taps lie next to each other
    rows, vectors : shape of the tile; one of `tile_shapes`

    In mode ADD the rows of C may overlap.
    """
    kinds = {"E": c, "T": c_rows, "N": types.int64}
    arguments = [kinds[kind] for kind in _ARGUMENTS]

    def codegen(context, builder, _signature, args):
        call_entry(builder, kind_of(ELEMENT[c.dtype], _ARGUMENTS), args[0], args[-1], args[-2], args[1:-2])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def _tiles_like(typingctx, like, coupled):
    """Emit the tiles of all shapes and return the address of their table."""

    def codegen(context, builder, _signature, _args):
        table = emit_tiles(builder.module, ELEMENT[like.dtype], bool(coupled.literal_value))
        return builder.ptrtoint(table, _I64)

    return types.int64(like, coupled), codegen


def emit_tiles(module: ir.Module, element: ir.Type, coupled: bool = False) -> ir.GlobalVariable:
    """Add the tiles of all shapes and the table of their addresses."""
    entries = {
        (width, height): _emit_tile(module, element, height, width, coupled)
        for width, most in tile_shapes().items()
        for height in range(1, most + 1)
    }
    return emit_table(module, f"gtc_tiles_{element}", kind_of(element, _ARGUMENTS), entries)


def _emit_tile(module: ir.Module, element: ir.Type, rows: int, vectors: int, coupled: bool) -> ir.Function:
    """Add the tile of one shape; its arguments are those of `tile` up to `ahead_step`.

    It reads `rows` factors of A and `vectors` vectors of B for each tap and channel (or couple), and writes or adds to
    whole vectors of C; the sums are its own and stay in registers.
    """
    bits = 32 if element == ir.FloatType() else 64
    align, width = bits // 8, registers()[0] * 8 // bits
    function = ir.Function(module, kind_of(element, _ARGUMENTS), f"gtc_tile_{element}_{rows}x{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    c, c_rows, c_row, a, a_row, a_step, a_taps, a_scale, b, b_step, b_taps, b_scale, *_ = function.args
    init, mode, taps, depth, ahead, ahead_step = function.args[-6:]
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    vector = ir.VectorType(element, width)
    zero = ir.Constant(vector, None)
    fma = multiply_couples(module) if coupled else multiply_add(module, vector)

    def multiply(factor, column, total):
        if coupled:
            words = ir.VectorType(_I32, width)
            return builder.call(fma, [total, builder.bitcast(factor, words), builder.bitcast(column, words)])
        return builder.call(fma, [factor, column, total])

    def vector_at(base, v):
        return builder.bitcast(builder.gep(base, [_I64(v * width)]), vector.as_pointer())

    def load(base, v):
        return builder.load(vector_at(base, v), align=align)

    def look_up(base, table, index, scale):
        return builder.gep(base, [builder.mul(builder.load(builder.gep(table, [index])), scale)])

    targets = [look_up(c, c_rows, _I64(m), c_row) for m in range(rows)]
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    started = function.append_basic_block("started")
    switch = builder.switch(mode, started)
    for value in (ADD, PER_ROW, PER_COLUMN):
        with builder.goto_block(function.append_basic_block()):
            switch.add_case(_I64(value), builder.block)
            for m in range(rows):
                start = broadcast(builder, init, _I64(m), vector) if value == PER_ROW else zero
                for v in range(vectors):
                    builder.store(load(init, v) if value == PER_COLUMN else start, sums[m][v])
            builder.branch(started)
    builder.position_at_end(started)
    with cgutils.for_range(builder, taps) as tap:
        a_tap, b_tap = look_up(a, a_taps, tap.index, a_scale), look_up(b, b_taps, tap.index, b_scale)
        offsets = [builder.mul(a_row, _I64(m)) for m in range(rows)]
        line = builder.add(ahead, builder.mul(tap.index, _I64(CACHE_LINE)))
        with cgutils.for_range(builder, depth) as channel:
            prefetch(builder, builder.add(line, builder.mul(channel.index, ahead_step)))
            b_row = builder.gep(b_tap, [builder.mul(channel.index, b_step)])
            columns = [load(b_row, v) for v in range(vectors)]
            a_column = builder.gep(a_tap, [builder.mul(channel.index, a_step)])
            for m in range(rows):
                factor = broadcast(builder, a_column, offsets[m], vector)
                for column, total in zip(columns, sums[m], strict=True):
                    builder.store(multiply(factor, column, builder.load(total)), total)
    # Rows may overlap in C, so an addition is finished before the next one is read.
    with builder.if_else(builder.icmp_signed("==", mode, _I64(ADD))) as branches:
        for adds, branch in zip((True, False), branches, strict=True):
            with branch:
                for target, row in zip(targets, sums, strict=True):
                    for v, total in enumerate(row):
                        value = builder.load(total)
                        value = builder.fadd(load(target, v), value) if adds else value
                        builder.store(value, vector_at(target, v), align=align)
    builder.ret_void()
    return function
