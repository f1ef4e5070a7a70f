"""The frame of the tiles: small matrix products held in vector registers, as LLVM IR, one function for each shape.

``C[m, n] (+)= sum over steps of A[step, m] * B[step, n]`` for a few rows m, each broadcast from memory, and a few
vectors of columns n. All sums stay in registers until the end. What a step is, where its factors and columns lie, and
what happens besides is told by each tile: `gemm_tile`, `box_tile`, `flat_tile`, `pixel_tile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils

from ..emit.numbers import COUPLED
from ..emit.registers import add_product, broadcast
from ..emit.row_ir import RowFunctions
from .shapes import OF_HALVES, Shapes

# LLVM's integers, by their bits.
_I64 = ir.IntType(64)
#: How the sums of a tile start: with zero, to be added to C in the end; with a number for each row, or each column.
ADD, PER_ROW, PER_COLUMN = range(3)


class Kind(NamedTuple):
    """A kind of tiles: a function for each shape, (rows, vectors), all with the same arguments."""

    name: str
    arguments: str  # see `Shapes`
    shapes: Callable[[], dict[int, int]]  # vectors of columns -> most rows; 0 vectors are half of one
    emit: Callable[[Tile], None]  # what is between its head and its end

    def of(self, half: int = 0) -> Shapes:
        """Tiles for an input of that kind, see `numbers`: they multiply couples of channels, or read half types."""

        def emit(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
            shapes = [
                (rows, vectors)
                for vectors, most in self.shapes().items()
                for rows in range(1, most + 1)
                if vectors or not half
            ]
            return {shape: self._emit(found.begin(module, element, *shape), element, shape, half) for shape in shapes}

        found = Shapes(f"{self.name}{OF_HALVES[half]}", self.arguments, emit)
        return found

    def _emit(self, builder: ir.IRBuilder, element: ir.Type, shape: tuple[int, int], half: int) -> ir.Function:
        tile = Tile(builder, element, shape, half)
        self.emit(tile)
        builder.ret_void()
        return builder.function


class Tile:
    """A tile of some kind and shape, (rows, vectors), while it is emitted."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type, shape: tuple[int, int], half: int) -> None:
        self.rows, self.vectors = shape[0], max(shape[1], 1)
        self.element, self.half = element, half
        self.builder, self.function, module = builder, builder.function, builder.module
        self.memory = RowFunctions(module, element, element)
        if shape[1] < 1:  # half a vector
            self.memory.lanes //= 2
        self.vector = ir.VectorType(element, self.memory.lanes)
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
        for factor, row in zip(factors, sums, strict=True):
            for column, total in zip(columns, row, strict=True):
                value = self.builder.load(total)
                self.builder.store(add_product(self.builder, value, factor, column, self.half == COUPLED), total)

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
