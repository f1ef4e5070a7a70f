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


class ThinnedFilters(RowFunctions):
    """The functions of a module that filter rows of elements (type `stored`) by sums (type `wide`)."""

    def thinner(self, step, half):
        """The function behind `filter_thinned` for a step: `_MANY` vectors of results at a time, then one."""
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

        def inputs(start, place, masks):
            """A vector of results' worth of inputs, from element `place` after `start` on."""
            at = [builder.add(place, _I64(v * self.lanes)) for v in range(step)]
            vectors = [self.load(builder, self.stored, start, *pair) for pair in zip(at, masks, strict=True)]
            return self.widen(builder, picked(builder, vectors, self.lanes, 0), half)

        def results(first, width, border):
            sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(width)]
            for total in sums:
                builder.store(ir.Constant(vector, None), total)
            places = [builder.mul(builder.add(first, _I64(u)), _I64(self.lanes * step)) for u in range(width)]
            with cgutils.for_range(builder, taps_w) as w:
                shift = builder.mul(w.index, apart_w)
                at = builder.add(builder.add(column, shift), places[0])
                masks = [None] * step
                if border:
                    masks = [
                        self.between(builder, builder.add(at, _I64(v * self.lanes)), _I64(0), size) for v in range(step)
                    ]
                with cgutils.for_range(builder, taps_d) as d, cgutils.for_range(builder, taps_h) as h:
                    outer = builder.add(builder.mul(d.index, apart_d), builder.mul(h.index, apart_h))
                    start = builder.gep(source, [builder.add(outer, shift)])
                    number = builder.add(builder.mul(d.index, weights_d), builder.mul(h.index, weights_h))
                    factor = broadcast(builder, weights, builder.add(number, w.index), vector)
                    for place, total in zip(places, sums, strict=True):
                        value = inputs(start, place, masks)
                        builder.store(builder.call(fma, [factor, value, builder.load(total)]), total)
            for u, total in enumerate(sums):
                to = builder.mul(builder.add(first, _I64(u)), _I64(self.lanes))
                value = self._narrow(builder, builder.load(total), half)
                self.store(builder, value, target, to, self.below(builder, to, length) if border else None)

        def some(first, last, width, border):
            count = builder.sdiv(builder.sub(last, first), _I64(width))
            with cgutils.for_range(builder, count) as loop:
                results(builder.add(first, builder.mul(loop.index, _I64(width))), width, border)
            return builder.add(first, builder.mul(count, _I64(width)))

        some(_I64(0), begin, 1, True)
        some(some(begin, end, _MANY, False), end, 1, False)
        some(end, self.parts(builder, length), 1, True)
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
