"""The tile for few output channels: neighbouring lines of blocks at once, of an input that is read where it lies.

``C[m, j, n] += sum over channels k, w, t of A[t, w, k, m] * B[k, j + t, n + shift[w]]``. A set of a row or two has not
enough products for a vector that is loaded. But taps that follow each other on the height read the same lines of input
for neighbouring lines of blocks, so a vector, once loaded, is multiplied with the weights of all these taps, and is
added to the sums of as many lines. What lies beyond the border is not read: beside a line by masks, above and below by
branches, which are guessed right since they are the same for all channels.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.numbers import COUPLED
from ..emit.registers import CACHE_LINE, add_product, broadcast, prefetch, registers
from ..emit.row_ir import RowFunctions
from .shapes import OF_HALVES, Shapes

# LLVM's integers, by their bits.
_I1, _I64 = ir.IntType(1), ir.IntType(64)
#: Taps that follow each other up to which there are tiles; more are done in parts.
MOST_TAPS = 5
#: Lines of a tile; and by rows of a set the most vectors of its tiles.
LINES = 8 if registers()[1] >= 32 else 4
VECTORS = {1: 2, 2: 1}


def most_taps(rows: int) -> int:
    """Taps that follow each other of the tiles for so many rows: sums, factors and a vector fit the registers."""
    room = registers()[1] - 2 - rows * LINES * VECTORS.get(rows, registers()[1])
    return max(0, min(MOST_TAPS, room // rows))


@lru_cache(maxsize=5)
def stencil_table(dtype: str, half: int = 0) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`, and an input of that kind."""
    return stencils(half).find_table(dtype)


@intrinsic
def stencil_tile(
    typingctx, table, c, c_row, c_line, a, a_h, a_w, b, b_step, b_line, shifts, masks, masks_w, taps_w, depth, first,
    end, soon, rows_taps, vectors,
):  # fmt: skip
    """Run one tile, which adds to C; c, a, b, shifts and masks are addresses of `pointers.address`.

    table : what `stencil_table` returned
    c, c_row, c_line : first column of C, and the distances of its rows and lines
    a, a_h, a_w : A at the tap on the height that reads the first line, the rows of a channel next to each other and
        channels behind each other, and the distances of its taps
    b, b_step, b_line : B, and the distances of its channels and lines
    shifts, masks, masks_w : by tap on w the shift, and by shift and vector the lanes that exist, in rows of `masks_w`
    taps_w, depth : numbers of taps and channels
    first, end : lines of B that exist, counted from the first that is read
    soon : number of an address from which a few cache lines of each channel are fetched, or 0
    rows_taps, vectors : shape of the tile: eight times the rows plus the taps on the height
    """
    return stencils().call(c, shifts)


def stencils(half: int = 0) -> Shapes:
    """Tiles for an input of that kind; their arguments are Elements, Tables and Numbers, named in `stencil_tile`."""

    def emit(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
        return {
            (8 * rows + taps, vectors): _emit_stencil(
                found.begin(module, element, rows, taps, vectors), element, (rows, taps, vectors), half
            )
            for rows, most in VECTORS.items()
            for vectors in range(1, most + 1)
            for taps in range(1, most_taps(rows) + 1)
        }

    found = Shapes(f"stencil{OF_HALVES[half]}", "".join(("ENN", "ENN", "ENN", "TTN", "NNNNN")), emit)
    return found


def _emit_stencil(builder: ir.IRBuilder, element: ir.Type, shape: tuple[int, int, int], half: int) -> ir.Function:
    """Emit the tile of one shape; its arguments are those of `stencil_tile` up to `soon`.

    For each channel and tap on w it reads the factors of all taps on the height and, line by line, the vectors of B
    that exist; it adds to whole vectors of C; the sums are its own and stay in registers.
    """
    c, c_row, c_line, a, a_h, a_w, b, b_step, b_line, shifts, masks, masks_w, *numbers = builder.function.args
    (rows, taps, vectors), (taps_w, depth, first, end, soon), module = shape, numbers, builder.module
    text = RowFunctions(module, element, element)
    vector = ir.VectorType(element, text.lanes)
    size, apart = 2 if half else text.bytes, builder.sdiv(b_step, _I64(2))
    b = builder.bitcast(b, ir.IntType(8 * size).as_pointer())
    sums = {
        shape: cgutils.alloca_once_value(builder, ir.Constant(vector, None))
        for shape in product(range(rows), range(LINES), range(vectors))
    }
    reads = [builder.mul(b_line, _I64(i)) for i in range(LINES + taps - 1)]
    with cgutils.for_range(builder, depth) as channel:
        a_first = builder.gep(a, [builder.mul(channel.index, _I64(rows))])
        b_first = builder.gep(b, [builder.mul(channel.index, b_step)])
        with builder.if_then(builder.icmp_signed("!=", soon, _I64(0)), likely=False):
            start = builder.add(soon, builder.mul(channel.index, builder.mul(b_step, _I64(size))))
            for i in range(LINES * vectors * text.lanes * size // CACHE_LINE):
                prefetch(builder, builder.add(start, _I64(i * CACHE_LINE)))
        with cgutils.for_range(builder, taps_w) as tap_w:
            shift = builder.load(builder.gep(shifts, [tap_w.index]))
            start = builder.gep(b_first, [shift])
            words = builder.gep(masks, [builder.mul(shift, masks_w)])
            lanes = [_mask(builder, builder.gep(words, [_I64(v)]), text.lanes) for v in range(vectors)]
            weights = builder.gep(a_first, [builder.mul(tap_w.index, a_w)])
            factors = {
                (t, m): broadcast(builder, weights, builder.add(builder.mul(a_h, _I64(t)), _I64(m)), vector)
                for t, m in product(range(taps), range(rows))
            }
            for i, line in enumerate(reads):
                exists = builder.and_(builder.icmp_signed("<=", first, _I64(i)), builder.icmp_signed("<", _I64(i), end))
                with builder.if_then(exists, likely=True):
                    for v in range(vectors):
                        at = builder.add(line, _I64(v * text.lanes))
                        column = text.load_wide(builder, start, at, lanes[v], half, apart)
                        for (t, m), factor in factors.items():
                            if (m, i - t, v) in sums:
                                total = sums[m, i - t, v]
                                builder.store(
                                    add_product(builder, builder.load(total), factor, column, half == COUPLED), total
                                )
    for (m, j, v), total in sums.items():
        to = builder.gep(c, [builder.add(builder.mul(c_row, _I64(m)), builder.mul(c_line, _I64(j)))])
        to = builder.gep(to, [_I64(v * text.lanes)])
        value = builder.fadd(text.load(builder, element, to, _I64(0)), builder.load(total))
        text.store(builder, value, to, _I64(0))
    builder.ret_void()
    return builder.function


def _mask(builder: ir.IRBuilder, place: ir.Value, lanes: int) -> ir.Value:
    """The lanes of a vector whose bits are set in a word of memory."""
    bits = builder.trunc(builder.load(place), ir.IntType(lanes))
    return builder.bitcast(bits, ir.VectorType(_I1, lanes))
