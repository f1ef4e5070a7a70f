"""The tile for few output channels with the channels last: filters times pixels, lanes along the channels, as LLVM IR.

``C[j, r] = start[r] + sum over outer taps s, inner taps t and channels k of X[s, t, j, k] * W[s, t, k, r]`` for a few
outputs j and rows r. Neither operand is turned: each sum is a vector until the end, where as many vectors as have lanes
are added up together, in half as many additions. One LLVM function exists per number of rows and of outputs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.registers import multiply_add, registers
from ..emit.row_ir import RowFunctions
from ..emit.shuffles import lane_numbers
from ..runtime.compiled import inner
from .channel_tile import WORDS
from .shapes import OF_HALVES, Shapes

_I64 = ir.IntType(64)
Item = TypeVar("Item")
#: Sums of a tile, which with the weights of its rows and a pixel fill the registers.
_SUMS = {32: 24, 16: 12}[registers()[1]]
#: Rows of a tile.
FILTER_ROWS = _SUMS // 2


@inner
def filter_outputs(rows):
    """Outputs of a tile that has so many rows; the other ones have one output."""
    return _SUMS // rows


@lru_cache(maxsize=4)
def filter_tiles(dtype: str, half: int = 0) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`, and an input of that kind."""
    return filters(half).find_table(dtype)


@intrinsic
def filter_tile(
    typingctx, table, c, x, x_step, w, w_step, start, outer, outers, inner, inners, depth, rows, several,
):  # fmt: skip
    """Run one tile; c, x, w, start, outer and inner are addresses of `pointers.address`.

    table : what `filter_tiles` returned
    c : C, which is written in whole vectors
    x, x_step : X, whose channels follow each other, and the distance of what two outputs read; like all places in X it
        counts elements as they are stored
    w, w_step : W, by tap, vector of channels and row, and the distance of its outer taps
    start : what sums start with, by output and row
    outer, outers : the outer taps, each with its place in X and its number
    inner, inners : the inner taps, each with its places in X and W
    depth : number of channels; in W zeros fill up a vector of them
    rows, several : shape of the tile: its rows, and 1 where it has `filter_outputs` of these, 0 where it has one output
    """
    return filters().call(c, outer)


def filters(half: int = 0) -> Shapes:
    """Tiles for an input of that kind; their arguments are Elements, Tables and Numbers, named in `filter_tile`."""

    def emit(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
        outputs = {(r, several): _SUMS // r if several else 1 for r in range(1, FILTER_ROWS + 1) for several in (0, 1)}
        return {
            (rows, several): _emit_filters(found.begin(module, element, rows, count), element, (rows, count), half)
            for (rows, several), count in outputs.items()
        }

    found = Shapes(f"filter{OF_HALVES[half]}", "".join(("E", "EN", "ENE", "TN", "TN", "N")), emit)
    return found


def _emit_filters(builder: ir.IRBuilder, element: ir.Type, shape: tuple[int, int], half: int) -> ir.Function:
    """Emit the tile of one shape; its arguments are those of `filter_tile` up to `depth`.

    It reads a vector of X for each output, and one of W for each row, for each pair of taps and vector of channels.
    """
    (rows, outputs), module = shape, builder.module
    c, x, x_step, w, w_step, start, outer, outers, inner, inners, depth = builder.function.args
    moves = RowFunctions(module, element, element)
    lanes = moves.lanes
    vector = ir.VectorType(element, lanes)
    nothing = ir.Constant(vector, None)
    x, fma = builder.bitcast(x, ir.IntType(16).as_pointer()) if half else x, multiply_add(module, vector)
    sums = [cgutils.alloca_once(builder, vector) for _ in range(outputs * rows)]
    for total in sums:
        builder.store(nothing, total)
    whole = builder.sdiv(depth, _I64(lanes))
    edge = builder.mul(whole, _I64(lanes))
    mask = moves.below(builder, edge, depth)
    parts = builder.sdiv(builder.add(depth, _I64(lanes - 1)), _I64(lanes))
    step = builder.mul(parts, _I64(rows * lanes))

    def places(table, index):
        at = builder.mul(index, _I64(WORDS))
        return [builder.load(builder.gep(table, [builder.add(at, _I64(i))])) for i in range(2)]

    def multiply(source, factors, channel, some):
        values = [moves.load(builder, element, factors, _I64(r * lanes)) for r in range(rows)]
        source = builder.gep(source, [channel])
        for j in range(outputs):
            pixel = moves.load_wide(builder, source, _I64(0), some, half)
            for value, total in zip(values, sums[j * rows : (j + 1) * rows], strict=True):
                builder.store(builder.call(fma, [pixel, value, builder.load(total)]), total)
            source = builder.gep(source, [x_step])

    with cgutils.for_range(builder, outers) as s:
        x_outer, number = places(outer, s.index)
        w_outer = builder.gep(w, [builder.mul(number, w_step)])
        with cgutils.for_range(builder, inners) as t:
            x_inner, w_inner = places(inner, t.index)
            source = builder.gep(x, [builder.add(x_outer, x_inner)])
            factors = builder.gep(w_outer, [builder.mul(w_inner, step)])
            with cgutils.for_range(builder, whole) as part:
                at = builder.mul(part.index, _I64(rows * lanes))
                multiply(source, builder.gep(factors, [at]), builder.mul(part.index, _I64(lanes)), None)
            with builder.if_then(builder.icmp_signed("<", edge, depth)):
                at = builder.mul(whole, _I64(rows * lanes))
                multiply(source, builder.gep(factors, [at]), edge, mask)
    totals = [builder.load(total) for total in sums]
    for first in range(0, len(totals), lanes):
        value = _add_up(builder, totals[first : first + lanes], nothing)
        value = builder.fadd(value, moves.load(builder, element, start, _I64(first)))
        moves.store(builder, value, c, _I64(first))
    builder.ret_void()
    return builder.function


def _add_up(builder: ir.IRBuilder, vectors: list[ir.Value], nothing: ir.Constant) -> ir.Value:
    """Vector of the sums of the lanes of each of some vectors, at most as many as it has lanes."""
    lanes = nothing.type.count
    orders = _halvings(lanes, 128 // (32 if nothing.type.element == ir.FloatType() else 64))
    owners = [[number] * lanes for number in range(lanes)]
    for halves in orders:
        owners = [[(one + other)[i] for i in halves[0]] for one, other in _pairs(owners)]
    placed = [nothing] * lanes
    for vector, number in zip(vectors, owners[0], strict=False):
        placed[number] = vector
    for halves in orders:
        placed = [
            builder.fadd(*(builder.shuffle_vector(one, other, lane_numbers(half)) for half in halves))
            for one, other in _pairs(placed)
        ]
    return placed[0]


def _halvings(lanes: int, unit: int) -> list[tuple[list[int], list[int]]]:
    """How two vectors of partial sums become one of sums of two each, step by step: which elements of both are added.

    Each step is one instruction for either list: below the size of a `unit` elements stay in theirs.
    """
    steps, width = [], lanes // 2
    while width:
        size = lanes if width >= unit else unit
        first = [
            part + v * lanes + at + i
            for part in range(0, lanes, size)
            for v in range(2)
            for at in range(0, size, 2 * width)
            for i in range(width)
        ]
        steps.append((first, [i + width for i in first]))
        width //= 2
    return steps


def _pairs(values: list[Item]) -> list[tuple[Item, Item]]:
    half = len(values) // 2
    return list(zip(values[:half], values[half:], strict=True))
