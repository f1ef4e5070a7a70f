"""Short filters over rows of which only every so many-th result is wanted, as LLVM IR, and their use in kernels."""

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .intrinsics import call_for_halves
from .registers import broadcast, multiply_add
from .row_ir import ELEMENTS, STRIDES, RowFunctions
from .shuffles import picked

_I64 = ir.IntType(64)
#: Vectors of results at once: their sums, and for each a vector of inputs, fit the registers.
_MANY = 4
#: Largest step for which neighbouring taps share what they read: for longer ones the shuffles would be too many to
#: compile. Chosen, not measured.
_TOGETHER = 4


class ThinnedFilters(RowFunctions):
    """The functions of a module that filter rows of elements (type `stored`) by sums (type `wide`)."""

    def thinner(self, step, half):
        """The function behind `filter_thinned` for a step: `_MANY` vectors of results at a time, or one."""
        wide, stored, table = self.wide.as_pointer(), self.stored.as_pointer(), _I64.as_pointer()
        name = f"thinned{step}_{self.wide}_{self.stored}_{half}"
        function, builder = self.begin(name, [stored, stored, wide, table, _I64, _I64])
        if builder is None:
            return function
        target, source, weights, row, taps_d, taps_h = function.args
        fields = [builder.load(builder.gep(row, [_I64(i)])) for i in range(11)]
        taps_w, *(apart_d, apart_h, apart_w), weights_d, weights_h, length, begin, end, column, size = fields
        vector = ir.VectorType(self.wide, self.lanes)
        fma = multiply_add(self.module, vector)
        # Taps next to each other find what they read in the same vectors, as long as they are no more than the step.
        together = step if step <= _TOGETHER else 1
        near = builder.icmp_signed("==", apart_w, _I64(-1))
        shared = builder.select(near, builder.sdiv(taps_w, _I64(together)), _I64(0))

        def results(first, width, border):
            """Emit `width` vectors of results from number `first` on; at a border all that is read is masked."""
            sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(width)]
            for total in sums:
                builder.store(ir.Constant(vector, None), total)
            places = [
                builder.add(builder.mul(first, _I64(self.lanes * step)), _I64(v * self.lanes))
                for v in range(width * step)
            ]

            def add_taps(tap, taps):
                """Add so many neighbouring taps, from number `tap` on: the last of them reads furthest to the left."""
                shift = builder.mul(builder.add(tap, _I64(taps - 1)), apart_w)
                at = builder.add(column, shift)
                masks = [None] * len(places)
                if border:
                    masks = [self.between(builder, builder.add(at, place), _I64(0), size) for place in places]
                with cgutils.for_range(builder, taps_d) as d, cgutils.for_range(builder, taps_h) as h:
                    outer = builder.add(builder.mul(d.index, apart_d), builder.mul(h.index, apart_h))
                    start = builder.gep(source, [builder.add(outer, shift)])
                    number = builder.add(builder.mul(d.index, weights_d), builder.mul(h.index, weights_h))
                    number = builder.add(number, tap)
                    read = [self.load(builder, self.stored, start, *pair) for pair in zip(places, masks, strict=True)]
                    for r in range(taps):
                        factor = broadcast(builder, weights, builder.add(number, _I64(taps - 1 - r)), vector)
                        for u, total in enumerate(sums):
                            value = picked(builder, read[u * step : (u + 1) * step], self.lanes, r)
                            value = self.widen(builder, value, half)
                            builder.store(builder.call(fma, [factor, value, builder.load(total)]), total)

            with cgutils.for_range(builder, shared) as loop:
                add_taps(builder.mul(loop.index, _I64(together)), together)
            done = builder.mul(shared, _I64(together))
            with cgutils.for_range(builder, builder.sub(taps_w, done)) as loop:
                add_taps(builder.add(done, loop.index), 1)
            for u, total in enumerate(sums):
                to = builder.mul(builder.add(first, _I64(u)), _I64(self.lanes))
                value = self.narrow(builder, builder.load(total), half)
                self.store(builder, value, target, to, self.below(builder, to, length) if border else None)

        def some(first, last, width, border):
            count = builder.sdiv(builder.sub(last, first), _I64(width))
            with cgutils.for_range(builder, count) as loop:
                results(builder.add(first, builder.mul(loop.index, _I64(width))), width, border)
            return builder.add(first, builder.mul(count, _I64(width)))

        every = self.parts(builder, length)
        with builder.if_else(builder.icmp_signed("<=", every, _I64(_MANY))) as (short, long):
            with short:
                results(_I64(0), _MANY, True)
            with long:
                some(_I64(0), begin, 1, True)
                some(some(begin, end, _MANY, False), end, 1, False)
                some(end, every, 1, True)
        builder.ret_void()
        return function


@intrinsic
def filter_thinned(typingctx, target, source, weights, row, taps_d, taps_h, step, half):
    """Write ``target[j] = sum over taps d, h, w of weights[...] * source[... + j*step]``, a row of results.

    target, source, weights : result 0, and what it meets at the first tap: an element, perhaps outside the row, and
        the weight
    row : taps_w; distance of two taps in the source on d, h and w; distance of two weights on d and h; results; first
        vector of results that meets nothing outside the row, and the end of those; column of `source`, size of the row
    taps_d, taps_h : numbers of taps
    step : one of `STRIDES`
    """

    def codegen(context, builder, _signature, args):
        functions = ThinnedFilters(builder.module, ELEMENTS[weights.dtype], ELEMENTS[source.dtype])
        *others, step_, half_ = args
        end = builder.append_basic_block()
        switch = builder.switch(step_, end)
        for value in STRIDES:
            block = builder.append_basic_block()
            switch.add_case(_I64(value), block)
            with builder.goto_block(block):
                call_for_halves(builder, functions, partial(functions.thinner, value), others, half_)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, source, weights, row, i64, i64, i64, i64), codegen
