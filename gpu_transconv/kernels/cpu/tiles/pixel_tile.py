"""The inner tile with the channels last: rows are pixels anywhere in memory, columns their channels, as LLVM IR.

``C[m, n] (+)= sum over taps t and channels k of A[place[m] + tap[t] + k] * B[t, k, n]``, where the places of rows are
listed, of A and of C, so that neither is copied. Otherwise these are the tiles of `gemm_tile` that are one or two
vectors wide.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.numbers import COUPLED
from ..emit.registers import CACHE_LINE, prefetch
from .gemm_tile import tile_shapes
from .tile_frame import ADD, PER_COLUMN, Kind, Tile

_I64 = ir.IntType(64)


@lru_cache(maxsize=3)
def pixel_table(dtype: str, coupled: bool = False) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`; perhaps those for couples of channels."""
    return PIXELS.of(COUPLED if coupled else 0).find_table(dtype)


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
    init, mode : start values of the columns; with mode `tile_frame.ADD` they are ignored and C is added to
    taps, depth : numbers of taps and channels
    ahead : number of an address, from which on a cache line is fetched for each channel
    rows, vectors : shape of the tile; one of `gemm_tile.tile_shapes`, at most two vectors
    """
    return PIXELS.of().call(c, c_rows)


def pixel_shapes() -> dict[int, int]:
    """Vectors of columns -> most rows: those of `gemm_tile` that are one or two vectors wide."""
    return {vectors: most for vectors, most in tile_shapes().items() if vectors <= 2}


def _emit(tile: Tile) -> None:
    """Emit a tile; its arguments are those of `pixel_tile` up to `ahead`."""
    builder = tile.builder
    c, c_rows, c_row, a, a_rows, a_taps, b, b_taps, b_tap, init, mode, taps, depth, ahead = tile.function.args
    targets = [tile.look_up(c, c_rows, _I64(m), c_row) for m in range(tile.rows)]
    for target in targets:  # what is written arrives during the products
        for v in range(tile.vectors):
            place = builder.ptrtoint(builder.gep(target, [tile.place(v)]), _I64)
            prefetch(builder, place, near=True, write=True)
    tile.start(mode, init, ADD, PER_COLUMN)
    places = [builder.load(builder.gep(a_rows, [_I64(m)])) for m in range(tile.rows)]
    step = _I64(tile.vectors * tile.memory.lanes)
    with cgutils.for_range(builder, taps) as tap:
        a_tap, b_first = tile.look_up(a, a_taps, tap.index), tile.look_up(b, b_taps, tap.index, b_tap)
        with cgutils.for_range(builder, depth) as channel:
            prefetch(builder, builder.add(ahead, builder.mul(channel.index, _I64(CACHE_LINE))))
            b_row = builder.gep(b_first, [builder.mul(channel.index, step)])
            tile.add_products(builder.gep(a_tap, [channel.index]), places, b_row)
    tile.write(mode, targets)


#: Arguments of the compiled tiles, named in `pixel_tile`.
PIXELS = Kind("pixel", "".join(("ETN", "ETT", "ETN", "EN", "NNN")), pixel_shapes, _emit)
