"""The tile of depthwise layers with the channels last: vectors of channels of a few blocks in a row, as LLVM IR.

``C[p, j, n] = start[n] + sum over outer taps s and inner taps t of W[s, t, p, n] * X[s, t, j, n]`` for one or two
phases p and a few blocks j. All sums stay in registers until the end; a weight is loaded once for all blocks, and an
input once for both phases, where both need it. One LLVM function exists for each number of phases and blocks, and one
more where these are few, which has several vectors of channels, lest each product wait for the one before.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.registers import keep_rolled, multiply_add, registers
from ..emit.row_ir import RowFunctions
from ..runtime.compiled import inner
from .shapes import Shapes

_I64 = ir.IntType(64)
#: Words of an outer and of an inner tap in their tables: where it begins in X, and in W.
WORDS = 2
#: Phases of a tile at most, and what its lists of inner taps are for, by phases: which of these. Those of a tile of one
#: phase are the first two of a tile of two, so that it adds up in the same order.
PHASES = 2
_LISTS = {1: ((0,), (0,)), 2: ((0, 1), (0,), (1,))}
#: By phases of a tile its numbers of blocks: of the largest the sums leave registers for their operands.
_BLOCKS = {32: ((16, 8, 4, 2, 1), (12, 8, 4, 2, 1)), 16: ((8, 4, 2, 1), (6, 4, 2, 1))}[registers()[1]]
#: What `channel_tile` is told of distances: in C of blocks, phases and rows, in X of what two blocks read and of rows,
#: in W of vectors of channels.
STEPS = ("c_step", "c_phase", "c_row", "x_step", "x_row", "w_step")
#: Vectors of channels of a tile that has few sums, and up to how many of these.
_VECTORS, _FEW = registers()[1] // 8, 4


@inner
def channel_blocks(phases, left, most):
    """Blocks of the next tile, of `left` still to do of `most`: where it could do more, it does some again."""
    sizes = _BLOCKS[phases - 1]
    i = 0
    while i + 1 < len(sizes) and (sizes[i + 1] >= left or sizes[i] > most):
        i += 1
    return sizes[i]


@inner
def channel_vectors(phases, blocks, vectors):
    """Vectors of channels that a tile with so many phases and blocks computes at a time, of so many."""
    return _VECTORS if phases * blocks <= _FEW and vectors >= _VECTORS else 1


@lru_cache(maxsize=2)
def channel_table(dtype: str) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`."""
    return CHANNELS.find_table(dtype)


@intrinsic
def channel_tile(
    typingctx, table, c, x, w, start, steps, outer, outers, inner, lists, rows, times, along, bypass, blocks, shape,
):  # fmt: skip
    """Run tiles of rows; c, x, w, start and all up to `lists` but `outers` are addresses of `pointers.address`.

    table : what `channel_table` returned
    c, x, w, start : C; X; W, in which the weights of one tap for the phases follow each other; starts of the sums
    steps : distances, in the order of `STEPS`
    outer, outers : the outer taps, each with its place in X and in W
    inner : the same for the inner taps, whose places are added to those
    lists : by list, first of its inner taps and how many: those of both phases, of the first and of the second
    rows : rows of blocks
    times, along : how often in a row, each time for the next channels, or with `along` for the next blocks
    bypass : whether C, whose vectors are aligned then, is written past the caches
    blocks, shape : the tile's blocks, and `channel_shape` of its phases and vectors
    """
    return CHANNELS.call(c, outer)


@inner
def channel_shape(phases, vectors):
    """Phases and vectors of channels of a tile as one number."""
    return 2 * vectors + phases - 1


def _emit_all(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
    """Add the tiles of all shapes."""
    shapes = [(p, j) for p, sizes in enumerate(_BLOCKS, 1) for j in sizes]
    return {
        (j, 2 * v + p - 1): _Tile(module, element, p, j, v).function
        for p, j in shapes
        for v in ((1, _VECTORS) if p * j <= _FEW else (1,))
    }


class _Tile:
    """The tile of one shape; its arguments are those of `channel_tile` up to `bypass`.

    It reads its vectors of X for each block, and of W for each phase, for every tap, and writes those of each output.
    """

    def __init__(self, module: ir.Module, element: ir.Type, phases: int, blocks: int, vectors: int) -> None:
        self.builder = CHANNELS.begin(module, element, blocks, 2 * vectors + phases - 1)
        self.function, self.element, self.rows = self.builder.function, element, RowFunctions(module, element, element)
        self.vector = ir.VectorType(element, self.rows.lanes)
        self.fma = multiply_add(module, self.vector)
        self.at = [_I64(v * self.rows.lanes) for v in range(vectors)]
        self.sums = [
            [[cgutils.alloca_once(self.builder, self.vector) for _ in self.at] for _ in range(blocks)]
            for _ in range(phases)
        ]
        self._emit_rows()
        self.builder.ret_void()

    def _emit_rows(self) -> None:
        """Emit the loops over rows, and times in a row."""
        builder = self.builder
        c, x, w, start, steps, *taps, rows, times, along, bypass = self.function.args
        c_step, c_phase, c_row, self.x_step, x_row, self.w_step = (
            builder.load(builder.gep(steps, [_I64(i)])) for i in range(len(STEPS))
        )
        self.c_steps = c_step, c_phase
        size, blocks = _I64(len(self.at) * self.rows.lanes), _I64(len(self.sums[0]))
        onward, zero = builder.icmp_signed("!=", along, _I64(0)), _I64(0)
        nexts = [
            builder.select(onward, next_blocks, next_channels)
            for next_blocks, next_channels in (
                (builder.mul(c_step, blocks), size),
                (builder.mul(self.x_step, blocks), size),
                (zero, builder.mul(self.w_step, _I64(len(self.at)))),
                (zero, size),
            )
        ]
        with cgutils.for_range(builder, rows) as row:
            begins = [
                builder.gep(base, [builder.mul(row.index, step)])
                for base, step in ((c, c_row), (x, x_row), (w, zero), (start, zero))
            ]
            with cgutils.for_range(builder, times) as time:
                places = [
                    builder.gep(base, [builder.mul(time.index, step)]) for base, step in zip(begins, nexts, strict=True)
                ]
                self._emit(places, taps, bypass)

    def _emit(self, places: list[ir.Value], taps: list[ir.Value], bypass: ir.Value) -> None:
        """Emit a tile."""
        builder, (c, x, w, start), (outer, outers, inner, lists) = self.builder, places, taps
        for phase in self.sums:
            for block in phase:
                for v, total in zip(self.at, block, strict=True):
                    builder.store(self.rows.load(builder, self.element, start, v), total)
        with cgutils.for_range(builder, outers) as s:
            at = self._places(x, w, outer, s.index)
            for number, phases in enumerate(_LISTS[len(self.sums)]):
                begin, count = (builder.load(builder.gep(lists, [_I64(2 * number + i)])) for i in range(2))
                with cgutils.for_range(builder, count) as t:
                    source, weights = self._places(at[0], at[1], inner, builder.add(begin, t.index))
                    self._multiply([self.sums[p] for p in phases], source, weights)
                keep_rolled(t)
        with builder.if_else(builder.icmp_signed("!=", bypass, _I64(0))) as ways:
            for way, bypasses in zip(ways, (True, False), strict=True):
                with way:
                    self._write(c, bypasses)

    def _places(self, x: ir.Value, w: ir.Value, table: ir.Value, number: ir.Value) -> list[ir.Value]:
        """Where a tap of a table begins in X and in W."""
        builder, word = self.builder, self.builder.mul(number, _I64(WORDS))
        return [
            builder.gep(base, [builder.load(builder.gep(table, [builder.add(word, _I64(i))]))])
            for i, base in enumerate((x, w))
        ]

    def _multiply(self, phases: list[list[list[ir.Value]]], source: ir.Value, weights: ir.Value) -> None:
        """Emit the products of a tap for some phases."""
        builder, rows = self.builder, self.rows
        vectors = [builder.gep(weights, [builder.mul(self.w_step, _I64(v))]) for v in range(len(self.at))]
        factors = [
            [rows.load(builder, self.element, vector, _I64(p * rows.lanes)) for vector in vectors]
            for p in range(len(phases))
        ]
        for j in range(len(phases[0])):
            for v, at in enumerate(self.at):
                value = rows.load(builder, self.element, source, at)
                for factor, phase in zip(factors, phases, strict=True):
                    total = phase[j][v]
                    builder.store(builder.call(self.fma, [factor[v], value, builder.load(total)]), total)
            source = builder.gep(source, [self.x_step])

    def _write(self, c: ir.Value, bypasses: bool) -> None:
        builder, (c_step, c_phase) = self.builder, self.c_steps
        for blocks in zip(*self.sums, strict=True):
            target = c
            for block in blocks:
                for v, total in zip(self.at, block, strict=True):
                    self.rows.store(builder, builder.load(total), target, v, bypasses=bypasses)
                target = builder.gep(target, [c_phase])
            c = builder.gep(c, [c_step])


#: Arguments of the compiled tiles, named in `channel_tile`: addresses of Elements and Tables, and Numbers.
CHANNELS = Shapes("channel", "EEEETTNTTNNNN", _emit_all)
