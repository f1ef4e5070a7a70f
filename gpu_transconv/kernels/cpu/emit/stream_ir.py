"""Runs of vectors in registers stored past the caches, wherever they begin, as LLVM IR."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .registers import select_elements
from .row_ir import RowFunctions
from .shuffles import splat
from .vector_memory import bytes_of

_I64 = ir.IntType(64)
#: Vectors of a run, and the one before, up to which the ends of rows are code for each of them, not a loop.
_UNROLLED = 9


class Streamer:
    """Writes runs of outputs past the caches, though they begin anywhere: each vector rotated in registers.

    What a run leaves of its last vector is kept for the run after it in the same row. Vectors in which a row begins or
    ends amidst are stored aside, where its neighbours put their part of them too, and not rounded: at their address
    times the size of a sum over that of an output, plus `aside` bytes; with half types where they belong, if that is 0.
    There are no calls, which would push the sums of other runs out of the registers.
    """

    def __init__(self, rows: RowFunctions, half: int) -> None:
        self.rows, self.half, self.size = rows, half, bytes_of(rows.stored)

    def stream(
        self, builder: ir.IRBuilder, run: list[ir.Value], target: ir.Value, left: ir.Value, kept: ir.Value,
        begins: ir.Value, aside: ir.Value,
    ) -> None:  # fmt: skip
        """Emit the stores of a run, of which `left` outputs and what follows are wanted."""
        rows, size = self.rows, _I64(len(run) * self.rows.lanes)
        before = rows.load(builder, rows.wide, kept, _I64(0))
        rows.store(builder, run[-1], kept, _I64(0))
        number = builder.ptrtoint(target, _I64)
        past = builder.and_(builder.udiv(number, _I64(self.size)), _I64(rows.lanes - 1))
        first = builder.gep(target, [builder.neg(past)])
        numbers = self._rotation(builder, past)
        ends, total = builder.icmp_signed("<=", left, size), builder.add(past, left)
        high = builder.select(ends, total, size)
        low = builder.select(builder.icmp_signed("!=", begins, _I64(0)), past, _I64(0))
        exact = builder.and_(builder.icmp_signed("==", low, _I64(0)), builder.icmp_signed("==", high, size))
        with builder.if_else(exact) as (whole, edge):
            with whole:
                for j, pair in enumerate(zip([before, *run[:-1]], run, strict=True)):
                    value = rows.narrow(builder, select_elements(builder, pair[0], pair[1], numbers), self.half)
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
        begin = builder.mul(builder.ptrtoint(first, _I64), _I64(rows.bytes // self.size))
        away = builder.inttoptr(builder.add(begin, aside), rows.wide.as_pointer())

        def store(at, pair):
            value = select_elements(builder, pair[0], pair[1], numbers)
            with builder.if_else(rows.within(builder, at, lanes, *ends)) as (full, cut):
                with full:
                    rows.store(builder, rows.narrow(builder, value, self.half), first, at, bypasses=True)
                with cut:
                    mask = rows.between(builder, at, *ends)
                    if not self.half:
                        rows.store(builder, value, away, at, mask)
                        return
                    with builder.if_else(builder.icmp_signed("==", aside, _I64(0))) as (here, there):
                        with here:
                            rows.store(builder, rows.narrow(builder, value, self.half), first, at, mask)
                        with there:
                            rows.store(builder, value, away, at, mask)

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
