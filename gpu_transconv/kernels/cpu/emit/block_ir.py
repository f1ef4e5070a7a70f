"""Functions that copy, add or transpose blocks of rows in whole vectors, for weights and stamps, as LLVM IR."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .numbers import BFLOAT16, COUPLED
from .row_ir import RowFunctions
from .shuffles import interleaved

_I64 = ir.IntType(64)


class BlockFunctions(RowFunctions):
    """The functions of a module that copy elements (type `stored`) to sums (type `wide`), or add sums to sums."""

    def checked_copier(self, half):
        """The function behind `copy_checked`; what is finite leaves no bit in the difference from itself.

        A coupled row is two, half its distance to the next one apart, whose elements share words.
        """
        wide, stored = self.wide.as_pointer(), self.stored.as_pointer()
        kinds = [wide, _I64, stored, *[_I64] * 3]
        function, builder = self.begin(f"copy_checked_{self.wide}_{self.stored}_{half}", kinds, _I64)
        if builder is None:
            return function
        target, target_step, source, source_step, length, count = function.args
        words = ir.VectorType(ir.IntType(8 * self.bytes), self.lanes)
        nothing = ir.Constant(words, None)
        wrong = cgutils.alloca_once_value(builder, nothing)
        whole = builder.sdiv(length, _I64(self.lanes))
        half_step = builder.sdiv(source_step, _I64(2))
        with cgutils.for_range(builder, count) as outer:
            to, row = (
                builder.gep(pointer, [builder.mul(outer.index, step)])
                for pointer, step in ((target, target_step), (source, source_step))
            )

            def read(row, first, mask, kind):
                value = self.widen(builder, self.load(builder, self.stored, row, first, mask), kind)
                trace = builder.bitcast(builder.fsub(value, value), words)
                builder.store(builder.or_(builder.load(wrong), trace), wrong)
                return value

            def copy(first, mask, to=to, row=row):
                if half == COUPLED:
                    rows = row, builder.gep(row, [half_step])
                    value = self.couple(builder, *(read(some, first, mask, BFLOAT16) for some in rows))
                else:
                    value = read(row, first, mask, half)
                self.store(builder, value, to, first, mask)

            with cgutils.for_range(builder, whole) as inner:
                copy(builder.mul(inner.index, _I64(self.lanes)), None)
            first = builder.mul(whole, _I64(self.lanes))
            with builder.if_then(builder.icmp_signed("<", first, length)):
                copy(first, self.below(builder, first, length))
        found = builder.icmp_unsigned("!=", builder.load(wrong), nothing)
        found = builder.bitcast(found, ir.IntType(self.lanes))
        builder.ret(builder.zext(builder.icmp_unsigned("!=", found, found.type(0)), _I64))
        return function

    def block_copier(self, adds):
        """The function behind `copy_block` and `add_block`."""
        pointer = self.wide.as_pointer()
        name = f"{'add' if adds else 'copy'}_block_{self.wide}"
        function, builder = self.begin(name, [pointer, _I64, pointer, *[_I64] * 3])
        if builder is None:
            return function
        target, target_step, source, source_step, length, count = function.args
        with cgutils.for_range(builder, self.parts(builder, length)) as part:
            first = builder.mul(part.index, _I64(self.lanes))
            mask = self.below(builder, first, length)
            with cgutils.for_range(builder, count) as loop:
                to, at = (builder.add(first, builder.mul(loop.index, step)) for step in (target_step, source_step))
                value = self.load(builder, self.wide, source, at, mask)
                if adds:
                    value = builder.fadd(self.load(builder, self.wide, target, to, mask), value)
                self.store(builder, value, target, to, mask)
        builder.ret_void()
        return function

    def block_coupler(self):
        """The function behind `couple_block`."""
        pointer = self.wide.as_pointer()
        function, builder = self.begin("couple_block", [pointer, _I64, pointer, *[_I64] * 3])
        if builder is None:
            return function
        target, target_step, source, source_step, length, count = function.args
        with cgutils.for_range(builder, self.parts(builder, length)) as part:
            first = builder.mul(part.index, _I64(self.lanes))
            mask = self.below(builder, first, length)
            with cgutils.for_range(builder, count) as loop:
                row = builder.add(first, builder.mul(builder.mul(loop.index, _I64(2)), source_step))
                rows = row, builder.add(row, source_step)
                couple = (self.load(builder, self.wide, source, at, mask) for at in rows)
                to = builder.add(first, builder.mul(loop.index, target_step))
                self.store(builder, self.couple(builder, *couple), target, to, mask)
        builder.ret_void()
        return function

    def square_turner(self, first=None):
        """Function that writes ``target[c*step + r] = source[r*columns + c]``, for at least a vector of rows.

        Squares of a vector by a vector, of which the last ones begin so that they end with the rows and columns. Where
        there are fewer columns than lanes these are the `first` ones of a square, which is read beyond the last row.
        """
        pointer = self.wide.as_pointer()
        function, builder = self.begin(f"squares{first or ''}_{self.wide}", [pointer, _I64, pointer, _I64, _I64])
        if builder is None:
            return function
        target, step, source, rows, columns = function.args
        last_row = builder.sub(rows, _I64(self.lanes))
        last = _I64(0) if first else builder.sub(columns, _I64(self.lanes))
        parts = _I64(1) if first else self.parts(builder, columns)
        with (
            cgutils.for_range(builder, self.parts(builder, rows)) as outer,
            cgutils.for_range(builder, parts) as inner,
        ):
            r, c = (builder.mul(loop.index, _I64(self.lanes)) for loop in (outer, inner))
            r = builder.select(builder.icmp_signed("<", r, last_row), r, last_row)
            c = builder.select(builder.icmp_signed("<", c, last), c, last)
            square = builder.gep(source, [builder.add(builder.mul(r, columns), c)])
            mixed = [self.load(builder, self.wide, square, builder.mul(columns, _I64(i))) for i in range(self.lanes)]
            to = builder.gep(target, [builder.add(builder.mul(c, step), r)])
            for i, value in enumerate(interleaved(builder, mixed, self.lanes)[:first]):
                self.store(builder, value, to, builder.mul(step, _I64(i)))
        builder.ret_void()
        return function
