"""Vectors between registers and memory, as LLVM IR: whole, in part by a mask, gathered, past the caches.

Where a CPU has no masks, LLVM moves a masked vector lane by lane, with a branch for each. Most masks of a row are full;
so there one branch asks for that first.
"""

from __future__ import annotations

from llvmlite import ir

from .registers import bypasses_caches, has_masks
from .shuffles import splat

_I1, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()


class VectorMemory:
    """Loads and stores of vectors of `lanes` elements, for the functions of a module."""

    module: ir.Module
    lanes: int

    def load(self, builder, kind, pointer, index, mask=None, is_cut=False):
        """A vector from an address that need not be aligned; zero where `mask` is not set.

        `is_cut` says that some lane is not set, so that nothing has to ask.
        """
        vector = ir.VectorType(kind, self.lanes)
        at = builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())
        if mask is None:
            return builder.load(at, align=bytes_of(kind))
        if is_cut or has_masks(bytes_of(kind)):
            return self._load_lanes(builder, vector, at, mask)
        with builder.if_else(self._is_full(builder, mask)) as (full, cut):
            with full:
                whole, after_whole = builder.load(at, align=bytes_of(kind)), builder.block
            with cut:
                some, after_some = self._load_lanes(builder, vector, at, mask), builder.block
        value = builder.phi(vector)
        value.add_incoming(whole, after_whole)
        value.add_incoming(some, after_some)
        return value

    def store(self, builder, value, pointer, index, mask=None, bypasses=False):
        """Store a vector; one that bypasses the caches must be aligned."""
        kind = value.type.element
        at = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
        if mask is None:
            value = self._opaque(builder, value) if bypasses and kind == _I16 else value
            at = builder.bitcast(at, value.type.as_pointer())
            stored = builder.store(value, at, align=self.lanes * bytes_of(kind) if bypasses else bytes_of(kind))
            if bypasses and bypasses_caches():
                stored.set_metadata("nontemporal", self.module.add_metadata([_I32(1)]))
            return
        if has_masks(bytes_of(kind)):
            self._store_lanes(builder, value, at, mask)
            return
        with builder.if_else(self._is_full(builder, mask)) as (full, cut):
            with full:
                builder.store(value, at, align=bytes_of(kind))
            with cut:
                self._store_lanes(builder, value, at, mask)

    def _opaque(self, builder, value):
        """The same bits, of which LLVM does not know that they were rounded a moment ago.

        It has no stores past the caches for vectors of bfloat16, nor for what it narrows while it stores.
        """
        words = ir.VectorType(_I64, self.lanes * bytes_of(_I16) // bytes_of(_DOUBLE))
        with builder.goto_entry_block():  # zero, though LLVM cannot know that: the sign of an address
            sign = builder.lshr(builder.ptrtoint(builder.function.args[0], _I64), _I64(63))
            nothing = splat(builder, sign, words.count)
        return builder.or_(builder.bitcast(value, words), nothing)

    def gather(self, builder, kind, pointer, places, ends):
        """A vector of elements ``step * (first + lane)``, zero where that is not between the ends."""
        first, step = places
        many, lanes = ir.VectorType(_I64, self.lanes), range(self.lanes)
        at = builder.add(splat(builder, first, self.lanes), ir.Constant(many, list(lanes)))
        at = builder.mul(at, splat(builder, step, self.lanes))
        low, high = (splat(builder, end, self.lanes) for end in ends)
        mask = builder.and_(builder.icmp_signed("<=", low, at), builder.icmp_signed("<", at, high))
        start = splat(builder, builder.ptrtoint(pointer, _I64), self.lanes)
        address = builder.add(start, builder.mul(at, ir.Constant(many, [bytes_of(kind)] * self.lanes)))
        vector, pointers = ir.VectorType(kind, self.lanes), ir.VectorType(kind.as_pointer(), self.lanes)
        name = f"llvm.masked.gather.{_suffix(kind, self.lanes)}.v{self.lanes}p0"
        gathered = self._external(name, vector, [pointers, _I32, mask.type, vector])
        nothing = ir.Constant(vector, None)
        return builder.call(gathered, [builder.inttoptr(address, pointers), _I32(bytes_of(kind)), mask, nothing])

    def _is_full(self, builder, mask):
        lanes = ir.IntType(self.lanes)
        return builder.icmp_signed("==", builder.bitcast(mask, lanes), lanes(-1))

    def _load_lanes(self, builder, vector, at, mask):
        kind = vector.element
        name = f"llvm.masked.load.{_suffix(kind, self.lanes)}.p0"
        masked = self._external(name, vector, [vector.as_pointer(), _I32, mask.type, vector])
        return builder.call(masked, [at, _I32(bytes_of(kind)), mask, ir.Constant(vector, None)])

    def _store_lanes(self, builder, value, at, mask):
        kind = value.type.element
        name = f"llvm.masked.store.{_suffix(kind, self.lanes)}.p0"
        masked = self._external(name, ir.VoidType(), [value.type, value.type.as_pointer(), _I32, mask.type])
        builder.call(masked, [value, at, _I32(bytes_of(kind)), mask])

    def _external(self, name, result, kinds):
        if name in self.module.globals:
            return self.module.globals[name]
        return ir.Function(self.module, ir.FunctionType(result, kinds), name)


def bytes_of(kind):
    """Size of an element."""
    return {_FLOAT: 4, _DOUBLE: 8, _I16: 2}[kind]


def _suffix(kind, lanes):
    return f"v{lanes}" + {_FLOAT: "f32", _DOUBLE: "f64", _I16: "i16"}[kind]
