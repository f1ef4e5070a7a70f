"""Functions that move a row of numbers in whole vectors, as LLVM IR: what `intrinsics` calls.

The loop vectoriser needs long rows and proof that an index is not negative; maps of 4 to 64 pixels have
neither. Ends of rows are masked, so nothing is read or written outside them. Half types are converted on
the way.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .numbers import BFLOAT16, COUPLED, FLOAT16
from .registers import has_couples, registers, round_to_bfloat16
from .shuffles import interleaved, splat
from .vector_memory import VectorMemory, bytes_of

_I1, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
#: Type in kernels -> type in LLVM, of sums and of elements as they are stored.
ELEMENTS = {types.float32: _FLOAT, types.float64: _DOUBLE, types.uint16: _I16}
#: Strides along the innermost axis that have functions of their own; all others take `RowFunctions._transpose`, which
#: works in squares of a vector. Chosen by the strides of layers in use, each costs compile time; not measured.
STRIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10)
#: How rows are stored besides 0, as it comes: past the caches where they are aligned or `LONG`; aligned, but into the
#: caches; aligned and past the caches.
STREAMED, ALIGNED, ALIGNED_STREAMED = 1, 2, 3
#: Elements of a row for which it does not matter that the vectors at its ends go through the caches.
LONG = 1024


class RowFunctions(VectorMemory):
    """The functions of a module that move rows between sums (type `wide`) and elements (`stored`)."""

    def __init__(self, module, wide, stored):
        self.module, self.wide, self.stored = module, wide, stored
        self.bytes = {_FLOAT: 4, _DOUBLE: 8}[wide]
        self.lanes = registers()[0] // self.bytes

    def begin(self, name, kinds, result=None, rare=False):
        """The function of that name, and where its code goes, or None if the module has it already.

        It is compiled for each caller, with its numbers; a `rare` one once for a kernel, and its loops not unrolled.
        """
        name = f"gtc_{name}"
        if name in self.module.globals:
            return self.module.globals[name], None
        function = ir.Function(self.module, ir.FunctionType(result or ir.VoidType(), kinds), name)
        function.linkage = "linkonce_odr" if rare else "internal"
        function.attributes.update(("noinline", "optsize")[: 1 + rare])
        return function, ir.IRBuilder(function.append_basic_block())

    def interleaver(self, stride, half):
        """Function that interleaves `stride` rows of sums, or with None any number, and stores them."""
        stored, wide = self.stored.as_pointer(), self.wide.as_pointer()
        name = f"interleave{stride or ''}_{self.wide}_{self.stored}_{half}"
        function, builder = self.begin(name, [stored, wide, _I64, _I64, _I64])
        if builder is None:
            return function
        if stride is None:
            self._transpose(builder, half, *function.args)
        else:
            self._interleave(builder, half, stride, *function.args)
        builder.ret_void()
        return function

    def parts(self, builder, count):
        """Vectors that hold `count` elements."""
        return builder.sdiv(builder.add(count, _I64(self.lanes - 1)), _I64(self.lanes))

    def within(self, builder, first, count, low, high):
        """Whether `count` elements from `first` lie between `low` and `high`."""
        last = builder.add(first, _I64(count))
        return builder.and_(builder.icmp_signed("<=", low, first), builder.icmp_signed("<=", last, high))

    def between(self, builder, first, low, high):
        """Mask of the lanes whose position, counted from `first`, is `low` or more and below `high`."""
        return builder.and_(self.below(builder, first, high), builder.not_(self.below(builder, first, low)))

    def _interleave(self, builder, half, stride, target, source, step, outputs, stream):
        """A vector of each phase at a time, mixed by shuffles; reads whole vectors, writes `outputs` elements.

        `stream` is that of `intrinsics.interleave_rows`. Where vectors shall be aligned they begin at the boundary
        before `target`: as many outputs earlier, each phase begins with another block.
        """
        block, zero = stride * self.lanes, _I64(0)
        past = self._elements_past(builder, target)
        aligns = builder.and_(
            builder.icmp_signed("!=", stream, zero),
            builder.or_(
                builder.icmp_signed(">=", stream, _I64(ALIGNED)), builder.icmp_signed(">=", outputs, _I64(LONG))
            ),
        )
        streams = builder.and_(builder.trunc(stream, _I1), builder.or_(aligns, builder.icmp_signed("==", past, zero)))
        past = builder.select(aligns, past, zero)
        origin = []
        for r in range(stride):
            output = builder.sub(_I64(r + block), past)
            phase, earlier = builder.urem(output, _I64(stride)), builder.udiv(output, _I64(stride))
            origin.append(builder.add(builder.mul(step, phase), builder.sub(earlier, _I64(self.lanes))))
        total = builder.add(past, outputs)
        count = builder.sdiv(builder.add(total, _I64(block - 1)), _I64(block))
        begin = builder.gep(target, [builder.neg(past)])
        with cgutils.for_range(builder, count) as loop:
            start = builder.mul(loop.index, _I64(self.lanes))
            read = (self.load(builder, self.wide, source, builder.add(start, at)) for at in origin)
            phases = [self.narrow(builder, value, half) for value in read]
            mixed = interleaved(builder, phases, self.lanes)
            first = builder.mul(loop.index, _I64(block))
            here = builder.gep(begin, [first])
            low, high = builder.sub(past, first), builder.sub(total, first)
            self.store_between(builder, mixed, here, low, high, streams)

    def _elements_past(self, builder, pointer):
        """Elements between the vector boundary before an address and the address."""
        size, number = bytes_of(self.stored), builder.ptrtoint(pointer, _I64)
        return builder.udiv(builder.and_(number, _I64(self.lanes * size - 1)), _I64(size))

    def store_between(self, builder, values, target, low, high, streams):
        """Store vectors one after the other, of their elements those from `low` to `high`; aligned if streamed."""
        whole = self.within(builder, _I64(0), len(values) * self.lanes, low, high)
        with builder.if_else(whole) as (inner, outer):
            with inner, builder.if_else(streams) as (bypass, normal):
                for path, bypasses in ((bypass, True), (normal, False)):
                    with path:
                        for v, value in enumerate(values):
                            self.store(builder, value, target, _I64(v * self.lanes), bypasses=bypasses)
            with outer:
                for v, value in enumerate(values):
                    at = _I64(v * self.lanes)
                    bypass = builder.and_(streams, self.within(builder, at, self.lanes, low, high))
                    with builder.if_else(bypass) as (full, cut):
                        with full:
                            self.store(builder, value, target, at, bypasses=True)
                        with cut:
                            self.store(builder, value, target, at, self.between(builder, at, low, high))

    def _transpose(self, builder, half, target, source, step, stride, outputs):
        """Squares of a vector of phases by a vector of blocks, for the strides without their own function."""
        lanes = _I64(self.lanes)

        blocks = builder.sdiv(builder.add(outputs, builder.sub(stride, _I64(1))), stride)
        with (
            cgutils.for_range(builder, self.parts(builder, stride)) as phase_loop,
            cgutils.for_range(builder, self.parts(builder, blocks)) as block_loop,
        ):
            r0, j0 = builder.mul(phase_loop.index, lanes), builder.mul(block_loop.index, lanes)
            rows = []
            for i in range(self.lanes):
                r = builder.add(r0, _I64(i))
                last = builder.sub(stride, _I64(1))
                r = builder.select(builder.icmp_signed("<", r, last), r, last)
                value = self.load(builder, self.wide, source, builder.add(builder.mul(r, step), j0))
                rows.append(self.narrow(builder, value, half))
            for i, value in enumerate(interleaved(builder, rows, self.lanes)):
                at = builder.add(builder.mul(builder.add(j0, _I64(i)), stride), r0)
                room, left = builder.sub(stride, r0), builder.sub(outputs, at)
                limit = builder.add(at, builder.select(builder.icmp_signed("<", room, left), room, left))
                self.store(builder, value, target, at, self.below(builder, at, limit))

    def below(self, builder, first, limit):
        """Mask of the lanes whose position, counted from `first`, is below `limit`."""
        many = ir.VectorType(_I32, self.lanes)
        room = builder.trunc(builder.sub(limit, first), _I32)
        return builder.icmp_signed("<", ir.Constant(many, list(range(self.lanes))), splat(builder, room, self.lanes))

    def widen(self, builder, value, half):
        """Stored elements as sums."""
        floats = ir.VectorType(_FLOAT, self.lanes)
        if half == FLOAT16:
            return builder.fpext(builder.bitcast(value, ir.VectorType(ir.HalfType(), self.lanes)), floats)
        if half == BFLOAT16:
            words = builder.zext(value, ir.VectorType(_I32, self.lanes))
            return builder.bitcast(builder.shl(words, self._constant(16)), floats)
        return value

    def couple(self, builder, first, second):
        """Words of two bfloat16 numbers each, which are given as floats."""
        low, high = (builder.bitcast(value, ir.VectorType(_I32, self.lanes)) for value in (first, second))
        words = builder.or_(builder.lshr(low, self._constant(16)), high)
        return builder.bitcast(words, ir.VectorType(_FLOAT, self.lanes))

    def load_wide(self, builder, source, at, mask, half, apart=None):
        """A vector of an input of that kind as sums, masked; of couples both channels, `apart` elements."""
        stored = _I16 if half else self.wide
        source = builder.bitcast(source, stored.as_pointer())
        if half != COUPLED:
            return self.widen(builder, self.load(builder, stored, source, at, mask), half)
        both = (self.load(builder, stored, source, place, mask) for place in (at, builder.add(at, apart)))
        return self.couple(builder, *(self.widen(builder, value, BFLOAT16) for value in both))

    def narrow(self, builder, value, half):
        """Sums as they are stored."""
        words = ir.VectorType(_I16, self.lanes)
        if half == FLOAT16:
            return builder.bitcast(builder.fptrunc(value, ir.VectorType(ir.HalfType(), self.lanes)), words)
        if half == BFLOAT16 and has_couples():
            return builder.bitcast(round_to_bfloat16(builder, value), words)
        if half == BFLOAT16:
            bits = builder.bitcast(value, ir.VectorType(_I32, self.lanes))
            odd = builder.and_(builder.lshr(bits, self._constant(16)), self._constant(1))
            rounded = builder.add(bits, builder.add(odd, self._constant(0x7FFF)))
            nan = builder.fcmp_unordered("uno", value, value)
            rounded = builder.select(nan, builder.or_(bits, self._constant(0x400000)), rounded)
            return builder.trunc(builder.lshr(rounded, self._constant(16)), words)
        return value

    def _constant(self, value):
        return ir.Constant(ir.VectorType(_I32, self.lanes), [value] * self.lanes)
