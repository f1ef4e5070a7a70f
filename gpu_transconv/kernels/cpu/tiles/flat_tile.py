"""The tile of `gemm_tile` for sums of few channels over many taps, as LLVM IR: one loop over all that is added.

``C[m, n] = init[m] + sum over steps s of A[s, m] * B[place[s] + n]``. Where a tap has but a channel or two, a loop over
channels inside of one over taps is mostly its own beginning and end.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from .gemm_tile import tile_shapes
from .tile_frame import PER_ROW, Kind, Tile

_I64 = ir.IntType(64)


@intrinsic
def flat_tile(typingctx, table, c, c_row, a, b, b_places, init, steps, rows, vectors):
    """Run one tile; c, a, b, b_places and init are addresses of `pointers.address`.

    table : what `flat_table` returned
    c, c_row : first column of C, and the distance of its rows
    a : A, the rows of a step next to each other
    b, b_places : B, and by step the place of its first column
    init, steps : start value of every row, and the number of steps
    rows, vectors : shape of the tile; one of `tile_shapes`
    """
    return FLATS.of().call(c, b_places)


def _emit_flat(tile: Tile) -> None:
    """Emit a tile; its arguments are those of `flat_tile` up to `steps`.

    It reads a factor of A for each row and whole vectors of B for each step, and writes whole vectors of C.
    """
    c, c_row, a, b, places, init, steps = tile.function.args
    builder = tile.builder
    tile.start(_I64(PER_ROW), init, PER_ROW)
    with cgutils.for_range(builder, steps) as step:
        factors = builder.gep(a, [builder.mul(step.index, _I64(tile.rows))])
        tile.add_products(factors, [_I64(m) for m in range(tile.rows)], tile.look_up(b, places, step.index))
    tile.write(_I64(PER_ROW), [builder.gep(c, [builder.mul(c_row, _I64(m))]) for m in range(tile.rows)])


FLATS = Kind("flat", "".join(("EN", "E", "ET", "E", "N")), tile_shapes, _emit_flat)


@lru_cache(maxsize=2)
def flat_table(dtype: str) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`."""
    return FLATS.of().find_table(dtype)
