"""Depthwise rows: all phases of a few vectors of blocks, summed over the taps and interleaved in registers.

Where a channel meets no other there is no matrix product; what is left is a short filter per phase. The phases
along the innermost axis read much the same inputs, so a vector of input that several taps need is loaded once.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.registers import ELEMENT, broadcast, keep_rolled, most_sums, multiply_add, registers, selects
from ..emit.row_ir import ALIGNED_STREAMED, STREAMED, STRIDES, RowFunctions
from ..emit.shuffles import interleaved
from ..emit.stream_ir import Streamer
from .shapes import OF_HALVES, Shapes

_I64 = ir.IntType(64)
#: Vectors of blocks at most.
_MOST = 8


def filter_lines(stride_h: int, stride: int) -> int:
    """Rows of output, one for each phase, that are filtered at once, since they read the same rows of input."""
    return 2 if stride_h == stride == 2 else 1


def filter_vectors(stride: int, lines: int) -> list[int]:
    """Numbers of vectors of blocks that a function of this stride exists for: their sums fit the registers."""
    count, most, sums = registers()[1], most_sums(), stride * lines
    return [v for v in (1, 2, 4, _MOST) if v == 1 or ((sums + 1) * v + 1 < count and sums * v < most)]


@lru_cache(maxsize=4)
def filter_table(dtype: str, half: int = 0) -> int:
    """Address of the table of functions behind `filter_rows`, for sums of type `dtype`, and outputs of that kind."""
    return filters(half).find_table(dtype)


@intrinsic
def filter_rows(
    typingctx, table, out, out_step, line_step, drop, outputs, others, last, begins, stream, aside, x, x_step, outer,
    inner, weight, bias, stride, vectors, lines,
):  # fmt: skip
    """Filter `vectors` vectors of blocks and write their outputs, `stride` for a block in each of `lines` rows.

    table : what `filter_table` returned
    out, out_step : where the outputs of the first vector go, and the distance to those of the next one; like all places
        of outputs it counts elements as they are stored
    line_step : the distance to those of another phase of the outer axes
    outputs, drop : outputs from the first vector on that are written, and how much less they are for the next one
    others : the same as `outputs` of another phase, none if not above zero
    last : where the last outputs of a row are kept for the next call: a vector, and where `drop` is 0, so that the
        vectors are in as many rows, one for each; for another phase behind the most vectors of a function
    begins : whether the rows begin here
    stream : 0, or `row_ir.STREAMED` where all vectors are whole and aligned, or where `registers.selects` is true
        `row_ir.ALIGNED_STREAMED`, so that they are rotated
    aside : distance at which streamed vectors are stored in which a row begins or ends amidst, see `Streamer`
    x, x_step : input of the first vector, and the distance to that of the next one
    outer : distances of the rows of input to read: number and list of those that all phases share, then where these
        are several of each phase's own
    inner : shifts within a row: number and list of those that all phases share, then of each phase's own
    weight, bias : weights in the order of use, and the start of all sums
    stride, vectors, lines : shape of the function; one of `STRIDES`, `filter_vectors` and `filter_lines`
    """
    kinds, functions = {"E": out, "T": outer, "N": types.int64}, filters()
    arguments = [kinds[kind] for kind in functions.arguments]

    def codegen(context, builder, _signature, args):
        *rest, stride_, vectors_, lines_ = args
        shape = builder.add(builder.mul(lines_, _I64(_MOST)), builder.sub(vectors_, _I64(1)))
        functions.emit_call(builder, ELEMENT[out.dtype], [*rest, shape, stride_])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments, *[types.int64] * 3), codegen


def filters(half: int = 0) -> Shapes:
    """Functions for outputs of that kind; their arguments are Elements, Tables and Numbers, named in `filter_rows`."""

    def emit(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
        return {
            (_MOST * lines + v - 1, s): _emit_filter(
                found.begin(module, element, s, v, lines), element, (s, v, lines), half
            )
            for s in STRIDES
            for lines in sorted({filter_lines(s, s), 1})
            for v in filter_vectors(s, lines)
        }

    found = Shapes(f"fir{OF_HALVES[half]}", "ENNNNNENNNENTTEE", emit)
    return found


def _emit_filter(builder: ir.IRBuilder, element: ir.Type, shape: tuple[int, int, int], half: int) -> ir.Function:
    """Emit the function of one shape; its arguments are those of `filter_rows` up to `bias`.

    It reads the rows of input at the distances of `outer`, whole vectors of them, and writes the first `outputs` of
    each vector of blocks, in `lines` rows of output; the sums, `stride` times `vectors` for each of these, are its own
    and stay in registers.
    """
    (stride, vectors, lines), module = shape, builder.module
    out, out_step, line_step, drop, outputs, others, last, begins, stream, aside = builder.function.args[:10]
    x, x_step, outer, inner, weight, bias = builder.function.args[10:]
    rows = RowFunctions(module, element, ir.IntType(16) if half else element)
    out = builder.bitcast(out, rows.stored.as_pointer())
    vector = ir.VectorType(element, rows.lanes)
    fma = multiply_add(module, vector)
    sums = [
        [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(stride)] for _ in range(lines)
    ]
    used = cgutils.alloca_once_value(builder, weight)
    starts = [builder.gep(x, [builder.mul(x_step, _I64(v))]) for v in range(vectors)]
    first = broadcast(builder, bias, _I64(0), vector)
    for total in chain.from_iterable(chain.from_iterable(sums)):
        builder.store(first, total)

    def listed(table, place):
        """The number of entries of a list that begins at `place`, the first one's place, and that of the next list."""
        count, begin = builder.load(builder.gep(table, [place])), builder.add(place, _I64(1))
        return count, begin, builder.add(begin, count)

    def add_taps(place, targets, row):
        """Emit the taps at the shifts listed at `place` of `inner`, for some rows' phases; return the next place."""
        count, begin, end = listed(inner, place)
        with cgutils.for_range(builder, count) as loop:
            shift = builder.load(builder.gep(inner, [builder.add(begin, loop.index)]))
            at = builder.add(row, shift)
            factors = builder.load(used)
            factor = [broadcast(builder, factors, _I64(i), vector) for i in range(len(targets))]
            # Each vector of input is used up before the next one is read: no register goes to memory in between.
            for v, start in enumerate(starts):
                column = rows.load(builder, element, start, at)
                for number, target in zip(factor, targets, strict=True):
                    builder.store(builder.call(fma, [number, column, builder.load(target[v])]), target[v])
            builder.store(builder.gep(factors, [_I64(len(targets))]), used)
        keep_rolled(loop)
        return end

    def add_rows(place, some):
        """Emit the rows of input listed at `place` of `outer` for some rows of output; return the next place."""
        count, begin, end = listed(outer, place)
        with cgutils.for_range(builder, count) as loop:
            row = builder.load(builder.gep(outer, [builder.add(begin, loop.index)]))
            inner_place = add_taps(_I64(0), [phase for line in some for phase in line], row)
            for phase in range(stride):
                inner_place = add_taps(inner_place, [line[phase] for line in some], row)
        return end

    place = add_rows(_I64(0), sums)
    for line in sums if lines > 1 else ():
        place = add_rows(place, [line])
    streams, rotates = (builder.icmp_signed("==", stream, _I64(way)) for way in (STREAMED, ALIGNED_STREAMED))
    apart = builder.icmp_signed("!=", drop, _I64(0))
    for number, (line, left) in enumerate(zip(sums, (outputs, others), strict=False)):
        mixed = [interleaved(builder, [builder.load(row[v]) for row in line], rows.lanes) for v in range(vectors)]
        begin = builder.gep(out, [builder.mul(line_step, _I64(number))])
        targets = [builder.gep(begin, [builder.mul(out_step, _I64(v))]) for v in range(vectors)]
        here = builder.gep(last, [_I64(number * filter_vectors(stride, lines)[-1] * rows.lanes)])
        if selects():
            streamer = Streamer(rows, half)
            with builder.if_else(rotates) as (rotated, normal):
                with rotated, builder.if_else(apart) as (along, across):
                    with along:
                        streamer.stream(builder, [*chain.from_iterable(mixed)], begin, left, here, begins, aside)
                    with across:
                        for v, (run, target) in enumerate(zip(mixed, targets, strict=True)):
                            kept = builder.gep(here, [_I64(v * rows.lanes)])
                            streamer.stream(builder, run, target, left, kept, begins, aside)
                with normal:
                    _store(builder, rows, half, mixed, targets, left, drop, streams)
        else:
            _store(builder, rows, half, mixed, targets, left, drop, streams)
    builder.ret_void()
    return builder.function


def _store(builder, rows, half, mixed, targets, outputs, drop, streams):
    """Store the first `outputs` of each vector of blocks, of each next one `drop` less."""
    for v, (run, target) in enumerate(zip(mixed, targets, strict=True)):
        left = builder.sub(outputs, builder.mul(drop, _I64(v)))
        run = [rows.narrow(builder, value, half) for value in run]
        rows.store_between(builder, run, target, _I64(0), left, streams)
