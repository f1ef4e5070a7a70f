"""Functions that copy rows of numbers into scratch memory, and combine them there, as LLVM IR.

Half types become floats on the way. What several rows have in common, their masks above all, is found once.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .numbers import BFLOAT16, COUPLED
from .registers import multiply_add
from .row_ir import RowFunctions
from .shuffles import interleaved, picked

_I64 = ir.IntType(64)
#: Rows of up to so many vectors are short: then the masks of all rows are found once.
_SHORT = 1


class CopyFunctions(RowFunctions):
    """The functions of a module that copy elements (type `stored`) to sums (type `wide`), or sums to sums."""

    def copier(self, half, reads, differs, subtracts):
        """Function that copies rows, or of each `reads` elements the first, or the difference; or less other rows.

        A coupled row is two, half its distance to the next one apart, whose elements share words.
        """
        name = f"copy_{self.wide}_{self.stored}_{half}_{reads}{differs:d}{subtracts:d}"
        wide, stored = self.wide.as_pointer(), self.stored.as_pointer()
        numbers = [_I64] * (7 if subtracts else 5)
        function, builder = self.begin(name, [wide, _I64, stored, *numbers], rare=reads > 1 or subtracts)
        if builder is None:
            return function
        target, target_step, source, source_step, count, low, high, length, *other = function.args
        ends = [high, *other[1:]]
        parts = self.parts(builder, length)

        def starts(first):
            return [builder.add(builder.mul(first, _I64(reads)), _I64(v * self.lanes)) for v in range(reads)]

        half_step = builder.sdiv(source_step, _I64(2)) if half == COUPLED else None

        def rows(index):
            row = builder.gep(source, [builder.mul(index, source_step)])
            return builder.gep(target, [builder.mul(index, target_step)]), [
                row,
                *(builder.gep(row, other[:1]) for _ in ends[1:]),
            ]

        def read(row, first, masks):
            if half == COUPLED:
                couple = (pick(some, first, masks)[0] for some in (row, builder.gep(row, [half_step])))
                return self.couple(builder, *(self.widen(builder, vector, BFLOAT16) for vector in couple))
            value, *next_value = (self.widen(builder, vector, half) for vector in pick(row, first, masks))
            return builder.fsub(value, *next_value) if differs else value

        def pick(row, first, masks):
            vectors = [
                self.load(builder, self.stored, row, at, mask) for at, mask in zip(starts(first), masks, strict=True)
            ]
            return [picked(builder, vectors, self.lanes, odd) for odd in range(1 + differs)]

        def copy(row, place):
            (to, sources), (first, masks, mask) = row, place
            value, *less = (read(row, first, some) for row, some in zip(sources, masks, strict=True))
            self.store(builder, builder.fsub(value, *less) if less else value, to, first, mask)

        def part(index):
            """First element of a part, the masks of what is read of each source, and of what is written."""
            first = builder.mul(index, _I64(self.lanes))
            masks = [[self.between(builder, at, low, end) for at in starts(first)] for end in ends]
            return first, masks, self.below(builder, first, length)

        def whole(index):
            start = builder.mul(builder.mul(index, _I64(self.lanes)), _I64(reads))
            inside = [self.within(builder, start, reads * self.lanes, low, end) for end in ends]
            return builder.and_(*inside) if subtracts else inside[0]

        everything = [[None] * reads for _ in ends]
        with builder.if_else(builder.icmp_signed("<=", parts, _I64(_SHORT))) as (short, long):
            with short, cgutils.for_range(builder, parts) as outer:
                found = part(outer.index)
                with cgutils.for_range(builder, count) as inner:
                    copy(rows(inner.index), found)
            with long, cgutils.for_range(builder, count) as outer:
                row = rows(outer.index)
                with cgutils.for_range(builder, parts) as inner, builder.if_else(whole(inner.index)) as (middle, edge):
                    with middle:
                        copy(row, (builder.mul(inner.index, _I64(self.lanes)), everything, None))
                    with edge:
                        copy(row, part(inner.index))
        builder.ret_void()
        return function

    def picker(self, half):
        """The function behind `copy_every` for the steps without their own."""
        wide, stored = self.wide.as_pointer(), self.stored.as_pointer()
        function, builder = self.begin(f"pick_{self.wide}_{self.stored}_{half}", [wide, _I64, stored, *[_I64] * 6])
        if builder is None:
            return function
        target, target_step, source, source_step, count, low, high, length, step = function.args
        with (
            cgutils.for_range(builder, count) as outer,
            cgutils.for_range(builder, self.parts(builder, length)) as inner,
        ):
            first = builder.mul(inner.index, _I64(self.lanes))
            row = builder.gep(source, [builder.mul(outer.index, source_step)])
            value = self.gather(builder, self.stored, row, (first, step), (low, high))
            to = builder.add(builder.mul(outer.index, target_step), first)
            self.store(builder, self.widen(builder, value, half), target, to, self.below(builder, first, length))
        builder.ret_void()
        return function

    def place_picker(self, half):
        """The function behind `pick_places`; a vector's elements one by one, which is as fast as gathering them."""
        wide, stored, table = self.wide.as_pointer(), self.stored.as_pointer(), _I64.as_pointer()
        kinds = [wide, _I64, stored, table, table, _I64, _I64]
        function, builder = self.begin(f"pick_places_{self.wide}_{self.stored}_{half}", kinds)
        if builder is None:
            return function
        target, target_step, source, starts, places, count, length = function.args
        with cgutils.for_range(builder, count) as outer:
            row = builder.gep(source, [builder.load(builder.gep(starts, [outer.index]))])
            to = builder.gep(target, [builder.mul(outer.index, target_step)])
            with cgutils.for_range(builder, self.parts(builder, length)) as inner:
                first = builder.mul(inner.index, _I64(self.lanes))
                value = ir.Constant(ir.VectorType(self.stored, self.lanes), ir.Undefined)
                for lane in range(self.lanes):
                    place = builder.load(builder.gep(places, [builder.add(first, _I64(lane))]))
                    value = builder.insert_element(value, builder.load(builder.gep(row, [place])), _I64(lane))
                self.store(builder, self.widen(builder, value, half), to, first)
        builder.ret_void()
        return function

    def turner(self, half):
        """The function behind `turn_rows`."""
        wide, stored = self.wide.as_pointer(), self.stored.as_pointer()
        function, builder = self.begin(f"turn_{self.wide}_{self.stored}_{half}", [wide, _I64, stored, *[_I64] * 5])
        if builder is None:
            return function
        target, target_step, source, source_step, count, low, high, length = function.args
        nothing = ir.Constant(ir.VectorType(ir.IntType(1), self.lanes), None)
        with (
            cgutils.for_range(builder, self.parts(builder, count)) as outer,
            cgutils.for_range(builder, self.parts(builder, length)) as inner,
        ):
            k, j = (builder.mul(loop.index, _I64(self.lanes)) for loop in (outer, inner))
            columns, mask = self.below(builder, k, count), self.below(builder, j, length)
            rows = []
            for i in range(self.lanes):
                at = builder.add(j, _I64(i))
                inside = builder.and_(builder.icmp_signed("<=", low, at), builder.icmp_signed("<", at, high))
                read = builder.select(inside, columns, nothing)
                place = builder.add(builder.mul(at, source_step), k)
                rows.append(self.widen(builder, self.load(builder, self.stored, source, place, read), half))
            for i, value in enumerate(interleaved(builder, rows, self.lanes)):
                row = builder.add(k, _I64(i))
                with builder.if_then(builder.icmp_signed("<", row, count)):
                    self.store(builder, value, target, builder.add(builder.mul(row, target_step), j), mask)
        builder.ret_void()
        return function

    def product_adder(self, half):
        """The function behind `add_products`."""
        wide, stored = self.wide.as_pointer(), self.stored.as_pointer()
        name = f"products_{self.wide}_{self.stored}_{half}"
        function, builder = self.begin(name, [wide, _I64, stored, _I64, wide, _I64, _I64])
        if builder is None:
            return function
        sums, sums_step, source, source_step, factors, length, count = function.args
        fma = multiply_add(self.module, ir.VectorType(self.wide, self.lanes))

        def add(first, mask):
            factor = self.load(builder, self.wide, factors, first, mask)
            with cgutils.for_range(builder, count) as loop:
                to, at = (builder.add(first, builder.mul(loop.index, step)) for step in (sums_step, source_step))
                value = self.widen(builder, self.load(builder, self.stored, source, at, mask), half)
                total = builder.call(fma, [factor, value, self.load(builder, self.wide, sums, to, mask)])
                self.store(builder, total, sums, to, mask)

        with cgutils.for_range(builder, self.parts(builder, length)) as part:
            first = builder.mul(part.index, _I64(self.lanes))
            with builder.if_else(self.within(builder, first, self.lanes, _I64(0), length)) as (whole, edge):
                with whole:
                    add(first, None)
                with edge:
                    add(first, self.below(builder, first, length))
        builder.ret_void()
        return function

    def separator(self, stride):
        """Function that writes ``target[r*step + j] = source[j*stride + r]`` for j below `count`."""
        pointer = self.wide.as_pointer()
        function, builder = self.begin(f"separate{stride}_{self.wide}", [pointer, pointer, _I64, _I64])
        if builder is None:
            return function
        target, source, step, count = function.args
        with cgutils.for_range(builder, self.parts(builder, count)) as loop:
            first = builder.mul(loop.index, _I64(self.lanes))
            start, mask = builder.mul(first, _I64(stride)), self.below(builder, first, count)
            mixed = [
                self.load(builder, self.wide, source, builder.add(start, _I64(v * self.lanes))) for v in range(stride)
            ]
            for r in range(stride):
                value = picked(builder, mixed, self.lanes, r)
                self.store(builder, value, target, builder.add(first, builder.mul(step, _I64(r))), mask)
        builder.ret_void()
        return function

    def combiner(self):
        """The function behind `combine_pairs`."""
        pointer = self.wide.as_pointer()
        function, builder = self.begin(f"combine_{self.wide}", [*[pointer] * 3, _I64], _I64)
        if builder is None:
            return function
        *rows, count = function.args
        vector = ir.VectorType(self.wide, self.lanes)
        nothing = ir.Constant(vector, None)
        wrong = cgutils.alloca_once_value(builder, nothing)
        with cgutils.for_range(builder, self.parts(builder, count)) as loop:
            at = builder.mul(loop.index, _I64(self.lanes))
            products = [self.load(builder, self.wide, row, at) for row in rows]
            results = builder.fadd(*products[:2]), builder.fsub(*products[1:])
            mask = self.below(builder, at, count)
            for result, row in zip(results, rows, strict=False):
                self.store(builder, result, row, at)
                # Zero where the result is finite, and NaN where it is not.
                trace = builder.select(mask, builder.fsub(result, result), nothing)
                builder.store(builder.fadd(builder.load(wrong), trace), wrong)
        total = builder.load(wrong)
        found = builder.bitcast(builder.fcmp_unordered("uno", total, total), ir.IntType(self.lanes))
        builder.ret(builder.zext(builder.icmp_unsigned("!=", found, found.type(0)), _I64))
        return function
