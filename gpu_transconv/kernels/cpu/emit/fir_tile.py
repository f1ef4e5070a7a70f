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

from ..runtime.compiled import entry
from .registers import (
    ELEMENT,
    broadcast,
    call_entry,
    emit_table,
    keep,
    keep_rolled,
    kind_of,
    most_sums,
    multiply_add,
    registers,
    select_elements,
    selects,
)
from .row_ir import ALIGNED_STREAMED, STREAMED, STRIDES, RowFunctions
from .shuffles import interleaved, splat

_I64 = ir.IntType(64)
#: Arguments of the compiled functions, named in `filter_rows`: addresses of Elements and Tables, and Numbers.
_ARGUMENTS = "ENNNENNNENTNTEE"
#: Vectors of a run, and the one before, up to which the ends of rows are code for each of them, not a loop.
_UNROLLED = 9


def filter_vectors(stride: int) -> list[int]:
    """Numbers of vectors of blocks that a function of this stride exists for: their sums fit the registers."""
    count, most = registers()[1], most_sums()
    return [v for v in (1, 2, 4, 8) if v == 1 or ((stride + 1) * v + 1 < count and stride * v < most)]


@lru_cache(maxsize=2)
def filter_table(dtype: str) -> int:
    """Address of the table of compiled functions behind `filter_rows`, for sums of type `dtype`."""
    find = keep(entry(types.int64(types.CPointer(getattr(types, dtype))), _filters))
    return int(find.ctypes(None))


def _filters(like):
    return _filters_like(like)


@intrinsic
def _filters_like(typingctx, like):
    def codegen(context, builder, _signature, _args):
        return builder.ptrtoint(emit_filters(builder.module, ELEMENT[like.dtype]), _I64)

    return types.int64(like), codegen


@intrinsic
def filter_rows(
    typingctx, table, out, out_step, drop, outputs, last, begins, stream, aside, x, x_step, offsets, taps, inner,
    weight, bias, stride, vectors,
):  # fmt: skip
    """Filter `vectors` vectors of blocks and write their outputs, `stride` for a block.

    table : what `filter_table` returned
    out, out_step : where the outputs of the first vector go, and the distance to those of the next one
    outputs, drop : outputs from the first vector on that are written, and how much less they are for the next one
    last : where the last outputs of a row are kept for the next call: a vector, and where `drop` is 0, so that the
        vectors are in as many rows, one for each
    begins : whether the rows begin here
    stream : 0, or `row_ir.STREAMED` where all vectors are whole and aligned, or where `registers.selects` is true
        `row_ir.ALIGNED_STREAMED`, so that they are rotated
    aside : distance in bytes at which streamed vectors are stored in which a row begins or ends amidst
    x, x_step : input of the first vector, and the distance to that of the next one
    offsets, taps : distances of the rows of input to read, and how many
    inner : shifts within a row: number and list of those that all phases share, then of each phase's own
    weight, bias : weights in the order of use, and the start of all sums
    stride, vectors : shape of the function; one of `STRIDES` and `filter_vectors`
    """
    kinds = {"E": out, "T": offsets, "N": types.int64}
    arguments = [kinds[kind] for kind in _ARGUMENTS]

    def codegen(context, builder, _signature, args):
        call_entry(builder, kind_of(ELEMENT[out.dtype], _ARGUMENTS), args[0], args[-1], args[-2], args[1:-2])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments, types.int64, types.int64), codegen


def emit_filters(module: ir.Module, element: ir.Type) -> ir.GlobalVariable:
    """Add the functions of all shapes and the table of their addresses."""
    entries = {(v, s): _emit_filter(module, element, s, v) for s in STRIDES for v in filter_vectors(s)}
    return emit_table(module, f"gtc_filters_{element}", kind_of(element, _ARGUMENTS), entries)


def _emit_filter(module: ir.Module, element: ir.Type, stride: int, vectors: int) -> ir.Function:
    """Add the function of one shape; its arguments are those of `filter_rows` up to `bias`.

    It reads the rows of input at `offsets`, whole vectors of them, and writes the first `outputs` of each vector of
    blocks; the sums, `stride` times `vectors`, are its own and stay in registers.
    """
    function = ir.Function(module, kind_of(element, _ARGUMENTS), f"gtc_filter_{element}_{stride}x{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    out, out_step, drop, outputs, last, begins, stream, aside, x, x_step, offsets, taps, inner, weight, bias = (
        function.args
    )
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    rows = RowFunctions(module, element, element)
    vector = ir.VectorType(element, rows.lanes)
    fma = multiply_add(module, vector)
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(stride)]
    used = cgutils.alloca_once_value(builder, _I64(0))
    starts = [builder.gep(x, [builder.mul(x_step, _I64(v))]) for v in range(vectors)]
    for total in chain.from_iterable(sums):
        builder.store(broadcast(builder, bias, _I64(0), vector), total)

    def add_taps(place, phases, row):
        """Emit the taps at the shifts listed at `place` of `inner`, for some of the phases; return the next place."""
        count = builder.load(builder.gep(inner, [place]))
        first = builder.add(place, _I64(1))
        with cgutils.for_range(builder, count) as loop:
            shift = builder.load(builder.gep(inner, [builder.add(first, loop.index)]))
            at = builder.add(row, shift)
            number = builder.load(used)
            factors = [broadcast(builder, weight, builder.add(number, _I64(i)), vector) for i in range(len(phases))]
            # Each vector of input is used up before the next one is read: no register goes to memory in between.
            for v, start in enumerate(starts):
                column = rows.load(builder, element, start, at)
                for factor, phase in zip(factors, phases, strict=True):
                    total = sums[phase][v]
                    builder.store(builder.call(fma, [factor, column, builder.load(total)]), total)
            builder.store(builder.add(number, _I64(len(phases))), used)
        keep_rolled(loop)
        return builder.add(first, count)

    with cgutils.for_range(builder, taps) as tap:
        row = builder.load(builder.gep(offsets, [tap.index]))
        place = add_taps(_I64(0), range(stride), row)
        for phase in range(stride):
            place = add_taps(place, [phase], row)
    streams, rotates = (builder.icmp_signed("==", stream, _I64(way)) for way in (STREAMED, ALIGNED_STREAMED))
    apart = builder.icmp_signed("!=", drop, _I64(0))
    mixed = [interleaved(builder, [builder.load(row[v]) for row in sums], rows.lanes) for v in range(vectors)]
    targets = [builder.gep(out, [builder.mul(out_step, _I64(v))]) for v in range(vectors)]
    if selects():
        streamer = _Streamer(rows)
        with builder.if_else(rotates) as (rotated, normal):
            with rotated, builder.if_else(apart) as (along, across):
                with along:
                    streamer.stream(builder, [*chain.from_iterable(mixed)], out, outputs, last, begins, aside)
                with across:
                    for v, (run, target) in enumerate(zip(mixed, targets, strict=True)):
                        kept = builder.gep(last, [_I64(v * rows.lanes)])
                        streamer.stream(builder, run, target, outputs, kept, begins, aside)
            with normal:
                _store(builder, rows, mixed, targets, outputs, drop, streams)
    else:
        _store(builder, rows, mixed, targets, outputs, drop, streams)
    builder.ret_void()
    return function


def _store(builder, rows, mixed, targets, outputs, drop, streams):
    """Store the first `outputs` of each vector of blocks, of each next one `drop` less."""
    for v, (run, target) in enumerate(zip(mixed, targets, strict=True)):
        left = builder.sub(outputs, builder.mul(drop, _I64(v)))
        rows.store_between(builder, run, target, _I64(0), left, streams)


class _Streamer:
    """Writes runs of outputs past the caches, though they begin anywhere: each vector rotated in registers.

    What a run leaves of its last vector is kept for the run after it in the same row. Vectors in which a row begins or
    ends amidst are stored aside, where its neighbours put their part of them too. There are no calls, which would push
    the sums of other runs out of the registers.
    """

    def __init__(self, rows: RowFunctions) -> None:
        self.rows = rows

    def stream(
        self, builder: ir.IRBuilder, run: list[ir.Value], target: ir.Value, left: ir.Value, kept: ir.Value,
        begins: ir.Value, aside: ir.Value,
    ) -> None:  # fmt: skip
        """Emit the stores of a run, of which `left` outputs and what follows are wanted."""
        rows, size = self.rows, _I64(len(run) * self.rows.lanes)
        before = rows.load(builder, rows.wide, kept, _I64(0))
        rows.store(builder, run[-1], kept, _I64(0))
        number = builder.ptrtoint(target, _I64)
        past = builder.and_(builder.udiv(number, _I64(rows.bytes)), _I64(rows.lanes - 1))
        first = builder.gep(target, [builder.neg(past)])
        numbers = self._rotation(builder, past)
        ends, total = builder.icmp_signed("<=", left, size), builder.add(past, left)
        high = builder.select(ends, total, size)
        low = builder.select(builder.icmp_signed("!=", begins, _I64(0)), past, _I64(0))
        exact = builder.and_(builder.icmp_signed("==", low, _I64(0)), builder.icmp_signed("==", high, size))
        with builder.if_else(exact) as (whole, edge):
            with whole:
                for j, pair in enumerate(zip([before, *run[:-1]], run, strict=True)):
                    value = select_elements(builder, pair[0], pair[1], numbers)
                    rows.store(builder, value, first, _I64(j * rows.lanes), bypasses=True)
            with edge:
                self._store_edges(builder, [before, *run], first, (low, high), numbers, aside)

    def _rotation(self, builder: ir.IRBuilder, past: ir.Value) -> ir.Value:
        """Numbers of the elements that `past` lanes of a vector and those of the next one make an aligned vector of."""
        lanes, integer = self.rows.lanes, ir.IntType(8 * self.rows.bytes)
        begin = builder.sub(_I64(lanes), past)
        begin = builder.trunc(begin, integer) if integer.width < 64 else begin
        steps = ir.Constant(ir.VectorType(integer, lanes), list(range(lanes)))
        return builder.add(splat(builder, begin, lanes), steps)

    def _store_edges(
        self, builder: ir.IRBuilder, run: list[ir.Value], first: ir.Value, ends: tuple[ir.Value, ir.Value],
        numbers: ir.Value, aside: ir.Value,
    ) -> None:  # fmt: skip
        """Store a run that begins or ends a row: of its aligned vectors, from `first` on, what is between the ends."""
        rows, lanes = self.rows, self.rows.lanes
        away = builder.inttoptr(builder.add(builder.ptrtoint(first, _I64), aside), first.type)

        def store(at, pair):
            value = select_elements(builder, pair[0], pair[1], numbers)
            with builder.if_else(rows.within(builder, at, lanes, *ends)) as (full, cut):
                with full:
                    rows.store(builder, value, first, at, bypasses=True)
                with cut:
                    rows.store(builder, value, away, at, rows.between(builder, at, *ends))

        if len(run) <= _UNROLLED:
            for j, pair in enumerate(zip(run, [*run[1:], run[-1]], strict=True)):
                store(_I64(j * lanes), pair)
            return
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(run[0].type, len(run) + 1))
        for j, value in enumerate([*run, run[-1]]):
            builder.store(value, builder.gep(room, [_I64(0), _I64(j)]))
        vectors = builder.sdiv(builder.add(ends[1], _I64(lanes - 1)), _I64(lanes))
        with cgutils.for_range(builder, vectors) as loop:
            places = (builder.gep(room, [_I64(0), builder.add(loop.index, _I64(i))]) for i in range(2))
            store(builder.mul(loop.index, _I64(lanes)), [builder.load(place) for place in places])
