"""The tile of depthwise layers with the channels last: vectors of channels of a few outputs in a row, as LLVM IR.

``C[j, n] = start[n] + sum over outer taps s and inner taps t of W[s, t, n] * X[s, t, j, n]`` for a few outputs j. All
sums stay in registers until the end, and a weight is loaded once for all of them. One LLVM function exists per number
of outputs, of which one or two have several vectors, lest each product wait for the one before.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..runtime.compiled import inner
from .registers import multiply_add, registers
from .row_ir import RowFunctions
from .shapes import Shapes

_I64 = ir.IntType(64)
#: Words of an outer and of an inner tap in their tables, of which a tile reads the first two.
OUTER_WORDS, INNER_WORDS = 2, 4
#: Outputs of a tile, for each of which there is a function: powers of two, half of the registers at most.
_MOST = registers()[1] // 2
#: Outputs up to which a tile may have several vectors, and how many: powers of two as well.
_FEW, _VECTORS = 2, 4


@inner
def channel_outputs(left):
    """Outputs of the next tile, of `left` still to do: where it could do more than these, it does some again."""
    count = _MOST
    while count // 2 >= left:
        count //= 2
    return count


@inner
def channel_vectors(outputs, vectors):
    """Vectors of a tile that has so many outputs, where there are `vectors` of channels."""
    count = _VECTORS if outputs <= _FEW else 1
    while count > vectors:
        count //= 2
    return count


@lru_cache(maxsize=2)
def channel_table(dtype: str) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`."""
    return CHANNELS.find_table(dtype)


@intrinsic
def channel_tile(typingctx, table, c, c_step, x, x_step, w, start, outer, outers, inner, inners, outputs, vectors):
    """Run one tile; c, x, w, start, outer and inner are addresses of `pointers.address`.

    table : what `channel_table` returned
    c, c_step : C, and the distance of its outputs
    x, x_step : X, and the distance of what two outputs read
    w, start : W, and what sums start with
    outer, outers : the outer taps, each with its place in X and in W
    inner, inners : the same for the inner taps, whose places are added to those
    outputs, vectors : shape of the tile, as `channel_outputs` and `channel_vectors` have it
    """
    return CHANNELS.call(c, outer)


def _emit_all(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
    """Add the tiles of all shapes."""
    return {
        (1 << i, 1 << v): _emit_channels(module, element, 1 << i, 1 << v)
        for i in range(_MOST.bit_length())
        for v in range(_VECTORS.bit_length() if 1 << i <= _FEW else 1)
    }


def _emit_channels(module: ir.Module, element: ir.Type, outputs: int, vectors: int) -> ir.Function:
    """Add the tile of one shape; its arguments are those of `channel_tile` up to `inners`.

    It reads its vectors of X for each output and pair of taps, and of W for each pair, and writes those of each output.
    """
    builder = CHANNELS.begin(module, element, outputs, vectors)
    c, c_step, x, x_step, w, start, outer, outers, inner, inners = builder.function.args
    rows = RowFunctions(module, element, element)
    vector = ir.VectorType(element, rows.lanes)
    at = [_I64(v * rows.lanes) for v in range(vectors)]
    fma = multiply_add(module, vector)
    sums = [[cgutils.alloca_once(builder, vector) for _ in at] for _ in range(outputs)]
    for output in sums:
        for v, total in zip(at, output, strict=True):
            builder.store(rows.load(builder, element, start, v), total)

    def places(table, index, words):
        word = builder.mul(index, _I64(words))
        return [builder.load(builder.gep(table, [builder.add(word, _I64(i))])) for i in range(2)]

    with cgutils.for_range(builder, outers) as s:
        x_outer, w_outer = places(outer, s.index, OUTER_WORDS)
        with cgutils.for_range(builder, inners) as t:
            x_inner, w_inner = places(inner, t.index, INNER_WORDS)
            weights = builder.gep(w, [builder.add(w_outer, w_inner)])
            factors = [rows.load(builder, element, weights, v) for v in at]
            source = builder.gep(x, [builder.add(x_outer, x_inner)])
            for output in sums:
                for v, factor, total in zip(at, factors, output, strict=True):
                    value = rows.load(builder, element, source, v)
                    builder.store(builder.call(fma, [factor, value, builder.load(total)]), total)
                source = builder.gep(source, [x_step])
    for output in sums:
        for v, total in zip(at, output, strict=True):
            rows.store(builder, builder.load(total), c, v)
        c = builder.gep(c, [c_step])
    builder.ret_void()
    return builder.function


#: Arguments of the compiled tiles, named in `channel_tile`: addresses of Elements and Tables, and Numbers.
CHANNELS = Shapes("channel", "".join(("EN", "EN", "EE", "TN", "TN")), _emit_all)
