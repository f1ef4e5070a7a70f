"""The frame of the tiles: small matrix products held in vector registers, as LLVM IR, one function for each shape.

``C[m, n] (+)= sum over steps of A[step, m] * B[step, n]`` for a few rows m, each broadcast from memory, and a few
vectors of columns n. All sums stay in registers until the end. What a step is, where its factors and columns lie, and
what happens besides is told by each tile: `gemm_tile`, `box_tile`, `flat_tile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.extending import intrinsic

from ..runtime.compiled import entry
from .registers import ELEMENT, broadcast, call_entry, emit_table, keep, kind_of, multiply_add, multiply_couples
from .row_ir import RowFunctions

# LLVM's integers, by their bits.
_I32, _I64 = ir.IntType(32), ir.IntType(64)
#: How the sums of a tile start: with zero, to be added to C in the end; with a number for each row, or each column.
ADD, PER_ROW, PER_COLUMN = range(3)


class Kind(NamedTuple):
    """A kind of tiles: a function for each shape, all with the same arguments."""

    name: str
    arguments: str  # addresses of Elements and Tables, and Numbers, see `registers.kind_of`
    shapes: Callable[[], dict[int, int]]  # vectors of columns -> most rows
    emit: Callable[[Tile], None]  # what is between its head and its end

    def emit_table(self, module: ir.Module, element: ir.Type, coupled: bool = False) -> ir.GlobalVariable:
        """Add the tiles of all shapes and the table of their addresses."""
        entries = {}
        for vectors, most in self.shapes().items():
            for rows in range(1, most + 1):
                tile = Tile(module, element, self, (rows, vectors), coupled)
                self.emit(tile)
                tile.builder.ret_void()
                entries[vectors, rows] = tile.function
        return emit_table(module, f"gtc_{self.name}s_{element}", kind_of(element, self.arguments), entries)

    def call(self, element: types.Type, table: types.Type) -> tuple[object, Callable[..., object]]:
        """What an intrinsic returns that runs a tile: of the table's address, these arguments, rows and vectors."""
        kinds = {"E": element, "T": table, "N": types.int64}

        def codegen(context: BaseContext, builder: ir.IRBuilder, _signature: object, args: list[ir.Value]) -> object:
            kind = kind_of(ELEMENT[element.dtype], self.arguments)
            call_entry(builder, kind, args[0], args[-1], args[-2], args[1:-2])
            return context.get_dummy_value()

        arguments = [kinds[each] for each in self.arguments]
        return types.void(types.int64, *arguments, types.int64, types.int64), codegen

    def find_table(self, dtype: str, coupled: bool = False) -> int:
        """Compile the tiles, or read them, and return the address of their table, for sums of type `dtype`."""

        @intrinsic
        def tiles_like(typingctx, like):
            def codegen(_context, builder, _signature, _args):
                return builder.ptrtoint(self.emit_table(builder.module, ELEMENT[like.dtype], coupled), _I64)

            return types.int64(like), codegen

        def find(like):
            return tiles_like(like)

        find.__name__ = f"{self.name}{'_of_couples' if coupled else ''}"
        return int(keep(entry(types.int64(types.CPointer(getattr(types, dtype))), find)).ctypes(None))


class Tile:
    """A tile of some kind and shape, (rows, vectors), while it is emitted."""

    def __init__(self, module: ir.Module, element: ir.Type, kind: Kind, shape: tuple[int, int], coupled: bool) -> None:
        self.rows, self.vectors = shape
        self.element, self.coupled = element, coupled
        name = f"gtc_{kind.name}_{element}_{self.rows}x{self.vectors}"
        self.function = ir.Function(module, kind_of(element, kind.arguments), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.builder = builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.memory = RowFunctions(module, element, element)
        self.vector = ir.VectorType(element, self.memory.lanes)
        self._fma = multiply_couples(module) if coupled else multiply_add(module, self.vector)
        self.sums = [[cgutils.alloca_once(builder, self.vector) for _ in range(self.vectors)] for _ in range(self.rows)]

    def start(self, mode: ir.Value, init: ir.Value, *modes: int) -> None:
        """Emit the start of the sums, in one of `modes`."""
        builder = self.builder
        started = self.function.append_basic_block("started")
        switch = builder.switch(mode, started)
        for value in modes:
            with builder.goto_block(self.function.append_basic_block()):
                switch.add_case(_I64(value), builder.block)
                for m, row in enumerate(self.sums):
                    zero = ir.Constant(self.vector, None)
                    first = broadcast(builder, init, _I64(m), self.vector) if value == PER_ROW else zero
                    for v, total in enumerate(row):
                        builder.store(self._load(init, self.place(v)) if value == PER_COLUMN else first, total)
                builder.branch(started)
        builder.position_at_end(started)

    def place(self, v: int) -> ir.Value:
        """Number of the first element of a vector among those that follow each other."""
        return _I64(v * self.memory.lanes)

    def look_up(self, base: ir.Value, table: ir.Value, index: ir.Value, scale: ir.Value | None = None) -> ir.Value:
        """Address that is as far from `base` as a table says, perhaps in a unit of its own."""
        number = self.builder.load(self.builder.gep(table, [index]))
        return self.builder.gep(base, [number if scale is None else self.builder.mul(number, scale)])

    def add_products(self, a: ir.Value, offsets: list[ir.Value], b: ir.Value) -> None:
        """Emit the products of a step: rows at `offsets` from `a`, columns from `b` on."""
        columns, builder = range(self.vectors), self.builder
        if self.rows < self.vectors:  # the fewer of both stay in registers meanwhile
            factors = [broadcast(builder, a, offset, self.vector) for offset in offsets]
            for v in columns:
                self._multiply(factors, [self._load(b, self.place(v))], [[row[v]] for row in self.sums])
            return
        loaded = [self._load(b, self.place(v)) for v in columns]
        for offset, row in zip(offsets, self.sums, strict=True):
            self._multiply([broadcast(builder, a, offset, self.vector)], loaded, [row])

    def _multiply(self, factors: list[ir.Value], columns: list[ir.Value], sums: list[list[ir.Value]]) -> None:
        words = ir.VectorType(_I32, self.memory.lanes)
        for factor, row in zip(factors, sums, strict=True):
            for column, total in zip(columns, row, strict=True):
                value = self.builder.load(total)
                operands = [factor, column, value]
                if self.coupled:
                    operands = [value, self.builder.bitcast(factor, words), self.builder.bitcast(column, words)]
                self.builder.store(self.builder.call(self._fma, operands), total)

    def write(self, mode: ir.Value, targets: list[ir.Value]) -> None:
        """Emit the end, a row at a time: rows may overlap in C, so an addition is finished before the next is read."""
        builder = self.builder
        with builder.if_else(builder.icmp_signed("==", mode, _I64(ADD))) as branches:
            for adds, branch in zip((True, False), branches, strict=True):
                with branch:
                    for target, row in zip(targets, self.sums, strict=True):
                        for v, total in enumerate(row):
                            value = builder.load(total)
                            value = builder.fadd(self._load(target, self.place(v)), value) if adds else value
                            self.memory.store(builder, value, target, self.place(v))

    def _load(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.memory.load(self.builder, self.element, base, index)
