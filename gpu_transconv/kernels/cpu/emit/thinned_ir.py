"""Short filters over rows of which only every so many-th result is wanted, as LLVM IR, and their use in kernels."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .registers import broadcast, multiply_add
from .row_ir import ELEMENTS, STRIDES, RowFunctions
from .shuffles import picked

_I64 = ir.IntType(64)
#: Vectors of results at once: their sums, and for each a vector of inputs, fit the registers.
_MANY = 4


class ThinnedFilters(RowFunctions):
    """The functions of a module that filter rows of sums (type `wide`)."""

    def thinner(self, step):
        """The function behind `filter_thinned` for a step: `_MANY` vectors of results at a time, then one."""
        wide, table = self.wide.as_pointer(), _I64.as_pointer()
        function, builder = self.begin(f"thinned{step}_{self.wide}", [wide, wide, table, wide, _I64, _I64])
        if builder is None:
            return function
        target, source, offsets, weights, taps, count = function.args
        vector = ir.VectorType(self.wide, self.lanes)
        fma = multiply_add(self.module, vector)

        def results(first, width):
            sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(width)]
            for total in sums:
                builder.store(ir.Constant(vector, None), total)
            start = builder.mul(first, _I64(self.lanes * step))
            with cgutils.for_range(builder, taps) as tap:
                row = builder.gep(source, [builder.add(start, builder.load(builder.gep(offsets, [tap.index])))])
                factor = broadcast(builder, weights, tap.index, vector)
                for u, total in enumerate(sums):
                    places = [_I64((u * step + v) * self.lanes) for v in range(step)]
                    value = picked(builder, [self.load(builder, self.wide, row, at) for at in places], self.lanes, 0)
                    builder.store(builder.call(fma, [factor, value, builder.load(total)]), total)
            for u, total in enumerate(sums):
                at = builder.mul(builder.add(first, _I64(u)), _I64(self.lanes))
                self.store(builder, builder.load(total), target, at)

        whole = builder.sdiv(count, _I64(_MANY))
        with cgutils.for_range(builder, whole) as loop:
            results(builder.mul(loop.index, _I64(_MANY)), _MANY)
        done = builder.mul(whole, _I64(_MANY))
        with cgutils.for_range(builder, builder.sub(count, done)) as loop:
            results(builder.add(done, loop.index), 1)
        builder.ret_void()
        return function


@intrinsic
def filter_thinned(typingctx, target, source, offsets, weights, taps, count, step):
    """Write ``target[j] = sum over t of weights[t] * source[offsets[t] + j*step]``, `count` vectors of it.

    `step` is one of `STRIDES`; whole vectors of `source` are read, up to `step` of them past the last that is needed.
    """

    def codegen(context, builder, _signature, args):
        functions = ThinnedFilters(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        *others, step_ = args
        end = builder.append_basic_block()
        switch = builder.switch(step_, end)
        for value in STRIDES:
            block = builder.append_basic_block()
            switch.add_case(_I64(value), block)
            with builder.goto_block(block):
                builder.call(functions.thinner(value), others)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, source, offsets, weights, i64, i64, i64), codegen
