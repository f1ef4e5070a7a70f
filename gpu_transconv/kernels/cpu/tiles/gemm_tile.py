"""The inner tile of most dense CPU kernels: a small matrix product, summed over taps and channels, as LLVM IR.

``C[m, n] (+)= sum over taps t and channels k of A[m, t, k] * B[t, k, n]`` for a few rows m and a few vectors of
columns n, see `tile_frame`. One LLVM function exists per tile shape, so that a remainder of rows costs what it is and
no more; columns come in whole vectors, and the callers' scratch buffers are padded to them.

Where the CPU can, bfloat16 has tiles of its own: in the place of each float of A and B a *couple* of channels, next to
each other in one word, and k counts couples. Such words are moved as if they were floats.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.numbers import COUPLED
from ..emit.registers import CACHE_LINE, VECTOR_BYTES, most_sums, prefetch, registers
from ..runtime.compiled import inner
from .tile_frame import ADD, PER_COLUMN, PER_ROW, Kind, Tile

_I64 = ir.IntType(64)
#: In place of the vectors of a tile: half of one, where these are of 64 bytes. Zen 4 multiplies two halves in the time
#: of a vector, and nothing that has such vectors takes longer for a half than for a whole one.
HALF_VECTOR = 0
#: Bytes of the vectors that have halves.
_LONG_VECTOR = 64


def tile_shapes() -> dict[int, int]:
    """Vectors of columns -> most rows: the sums, a vector or a factor for each and one more fit the registers."""
    count, most = registers()[1], most_sums()
    return {
        v: min(14, most // v, max((count - 1) // v - 1, min(v - 1, (count - 1) // (v + 1))))
        for v in (1, 2, 4, 8)
        if (count - 1) // v > 1
    }


def has_half_vectors() -> bool:
    """Whether there are tiles of half a vector."""
    return registers()[0] == _LONG_VECTOR


def _shapes() -> dict[int, int]:
    return {HALF_VECTOR: tile_shapes()[1], **tile_shapes()} if has_half_vectors() else tile_shapes()


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


@inner
def end_vectors(vectors, columns, lane):
    """Vectors of the next tile, of up to two with so many columns left: all, or those before a last one half empty."""
    if VECTOR_BYTES == _LONG_VECTOR and vectors <= 2 and 2 * (vectors * lane - columns) >= lane:
        return vectors - 1  # which is `HALF_VECTOR` where there is no other
    return vectors


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
    rows, vectors : shape of the tile; one of `tile_shapes`, or `HALF_VECTOR` a vector

    In mode ADD the rows of C may overlap.
    """
    return TILES.of().call(c, c_rows)


def _emit_tile(tile: Tile) -> None:
    """Emit a tile; its arguments are those of `tile` up to `ahead_step`.

    It reads a factor of A for each row and whole vectors of B for each tap and channel (or couple), and writes or adds
    to whole vectors of C.
    """
    c, c_rows, c_row, a, a_row, a_step, a_taps, a_scale, b, b_step, b_taps, b_scale, *_ = tile.function.args
    init, mode, taps, depth, ahead, ahead_step = tile.function.args[-6:]
    builder = tile.builder
    targets = [tile.look_up(c, c_rows, _I64(m), c_row) for m in range(tile.rows)]
    tile.start(mode, init, ADD, PER_ROW, PER_COLUMN)
    with cgutils.for_range(builder, taps) as tap:
        a_tap, b_tap = tile.look_up(a, a_taps, tap.index, a_scale), tile.look_up(b, b_taps, tap.index, b_scale)
        offsets = [builder.mul(a_row, _I64(m)) for m in range(tile.rows)]
        line = builder.add(ahead, builder.mul(tap.index, _I64(CACHE_LINE)))
        with cgutils.for_range(builder, depth) as channel:
            prefetch(builder, builder.add(line, builder.mul(channel.index, ahead_step)))
            b_row = builder.gep(b_tap, [builder.mul(channel.index, b_step)])
            tile.add_products(builder.gep(a_tap, [builder.mul(channel.index, a_step)]), offsets, b_row)
    tile.write(mode, targets)


TILES = Kind("gemm", "".join(("ETN", "ENNTN", "ENTN", "ENNN", "NN")), _shapes, _emit_tile)


@lru_cache(maxsize=3)
def tile_table(dtype: str, coupled: bool = False) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`; perhaps those for couples of channels.

    The kernels call the tiles through it, so that the many shapes are compiled once and not again with every
    kernel.
    """
    return TILES.of(COUPLED if coupled else 0).find_table(dtype)
