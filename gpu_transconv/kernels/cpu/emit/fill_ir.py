"""Rows of sums between the value of the phases that have no taps, as LLVM IR.

With a kernel shorter than the stride most outputs are the bias. Here whole aligned vectors of them are made from
registers, wherever rows begin and end: in every vector the sums lie at the same lanes, since the stride divides a
vector. In those where a row of sums ends or the next one begins, masks tell what is which.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .intrinsics import call_for_halves
from .registers import select_elements, selects
from .row_ir import ELEMENTS, RowFunctions
from .shuffles import splat

_I64 = ir.IntType(64)


class FillFunctions(RowFunctions):
    """The functions of a module that write sums (type `wide`) with a value between them as elements (`stored`)."""

    def filler(self, half):
        """The function behind `fill_row`."""
        stored, wide = self.stored.as_pointer(), self.wide.as_pointer()
        function, builder = self.begin(f"fill_{self.wide}_{self.stored}_{half}", [stored, wide, _I64, _I64])
        if builder is None:
            return function
        target, fill, outputs, stream = function.args
        value = self.narrow(builder, splat(builder, builder.load(fill), self.lanes), half)
        self._write(builder, target, outputs, stream, lambda: value)
        builder.ret_void()
        return function

    def filler_between(self, half):
        """The function behind `fill_between`; elements of a vector that are sums are counted in strides."""
        stored, wide = self.stored.as_pointer(), self.wide.as_pointer()
        name = f"fill_between_{self.wide}_{self.stored}_{half}"
        function, builder = self.begin(name, [stored, wide, wide, *[_I64] * 7])
        if builder is None:
            return function
        target, source, fill, step, row, period, first, stride, outputs, stream = function.args
        around = splat(builder, builder.load(fill), self.lanes)
        past = self._elements_past(builder, target)
        before = builder.add(first, past)
        lane = builder.urem(before, stride)  # first lane with a sum
        numbers = self._places(builder, lane, stride)
        each, cycle = builder.udiv(_I64(self.lanes), stride), builder.udiv(period, stride)
        # Where the first row begins after the first vector, the vector belongs to a row before it.
        begin = builder.sdiv(builder.sub(lane, before), stride)
        early = builder.icmp_signed("<", begin, _I64(0))
        begin = builder.select(early, builder.add(begin, cycle), begin)
        place = cgutils.alloca_once_value(builder, begin)
        start = builder.gep(source, [builder.select(early, builder.neg(step), _I64(0))])
        line = cgutils.alloca_once_value(builder, start)
        found = cgutils.alloca_once_value(builder, around)

        def value():
            at, here = builder.load(place), builder.load(line)
            after, following = builder.add(at, each), builder.gep(here, [step])
            builder.store(around, found)
            bare = builder.and_(builder.icmp_signed(">=", at, row), builder.icmp_signed("<=", after, cycle))
            # Vectors of one kind follow each other, so these branches are mostly guessed right.
            with builder.if_else(builder.icmp_signed("<=", after, row)) as (full, other):
                with full:
                    builder.store(self.load(builder, self.wide, here, at), found)
                with other, builder.if_then(builder.not_(bare)):
                    known = builder.select(builder.icmp_signed("<", at, row), at, row)
                    ends = self.below(builder, at, row)
                    some = builder.select(ends, self.load(builder, self.wide, here, known, ends), around)
                    begins = self.between(builder, at, cycle, builder.add(cycle, row))
                    more = self.load(builder, self.wide, following, builder.sub(at, cycle), begins)
                    builder.store(builder.select(begins, more, some), found)
            over = builder.icmp_signed(">=", after, cycle)
            builder.store(builder.select(over, builder.sub(after, cycle), after), place)
            builder.store(builder.select(over, following, here), line)
            return self.narrow(builder, select_elements(builder, builder.load(found), around, numbers), half)

        self._write(builder, target, outputs, stream, value)
        builder.ret_void()
        return function

    def _places(self, builder, lane, stride):
        """Numbers for `select_elements`: from `lane` on, every `stride` lanes the next sum, else the other vector's."""
        integer = ir.IntType(8 * self.bytes)
        lanes = ir.Constant(ir.VectorType(integer, self.lanes), list(range(self.lanes)))

        def every(number):
            number = builder.trunc(number, integer) if integer.width < _I64.width else number
            return splat(builder, number, self.lanes)

        after = builder.sub(lanes, every(lane))
        is_sum = builder.icmp_unsigned("==", builder.urem(after, every(stride)), after.type(None))
        others = builder.add(lanes, every(_I64(self.lanes)))
        return builder.select(is_sum, builder.udiv(after, every(stride)), others)

    def _write(self, builder, target, outputs, stream, value):
        """Store what `value` emits, vector after vector, from the boundary before `target` on what belongs to it."""
        past = self._elements_past(builder, target)
        begin, total = builder.gep(target, [builder.neg(past)]), builder.add(past, outputs)
        streams = builder.trunc(stream, ir.IntType(1))
        with cgutils.for_range(builder, self.parts(builder, total)) as loop:
            at = builder.mul(loop.index, _I64(self.lanes))
            ends = builder.sub(past, at), builder.sub(total, at)
            self.store_between(builder, [value()], builder.gep(begin, [at]), *ends, streams)


@intrinsic
def fill_row(typingctx, target, fill, outputs, half, stream):
    """Write the value at `fill` over `outputs` elements, where `stream` says so past the caches."""

    def codegen(context, builder, _signature, args):
        functions = FillFunctions(builder.module, ELEMENTS[fill.dtype], ELEMENTS[target.dtype])
        *numbers, half_, stream_ = args
        call_for_halves(builder, functions, functions.filler, [*numbers, stream_], half_)
        return context.get_dummy_value()

    return types.void(target, fill, *[types.int64] * 3), codegen


@intrinsic
def fill_between(typingctx, target, source, fill, step, row, period, first, stride, outputs, half, stream):
    """Write rows of `row` sums with the value at `fill` between them, `outputs` elements.

    ``target[first + r*period + j*stride] = source[r*step + j]``. The stride divides `period` and the lanes of a vector,
    and the elements before `first`, with a vector more, are no more than `period`.
    """

    def codegen(context, builder, _signature, args):
        if not selects():  # no caller asks then
            return context.get_dummy_value()
        functions = FillFunctions(builder.module, ELEMENTS[fill.dtype], ELEMENTS[target.dtype])
        *numbers, half_, stream_ = args
        call_for_halves(builder, functions, functions.filler_between, [*numbers, stream_], half_)
        return context.get_dummy_value()

    return types.void(target, source, fill, *[types.int64] * 8), codegen
