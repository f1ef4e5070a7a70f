"""Functions of one kind, one for each shape, which kernels call by address through a table.

The many shapes are compiled once, and not again with every kernel that calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core.base import BaseContext
from numba.extending import intrinsic

from ..emit.registers import ELEMENT, keep
from ..runtime.compiled import entry

_I64 = ir.IntType(64)
#: What the names of functions say of the kind of their input, see `numbers.HALF_CODES`.
OF_HALVES = ("", "_of_float16", "_of_bfloat16", "_of_couples")
#: What an intrinsic returns.
Call = tuple[object, Callable[..., object]]


class Shapes(NamedTuple):
    """A kind of functions, which all have the same arguments; a shape is two numbers, the second of them below 16."""

    name: str
    arguments: str  # addresses of Elements and Tables, and Numbers
    emit: Callable[[ir.Module, ir.Type], dict[tuple[int, int], ir.Function]]  # adds all of them, for a type of elements

    def kind(self, element: ir.Type) -> ir.FunctionType:
        """Type of the functions."""
        kinds = {"E": element.as_pointer(), "T": _I64.as_pointer(), "N": _I64}
        return ir.FunctionType(ir.VoidType(), [kinds[each] for each in self.arguments])

    def begin(self, module: ir.Module, element: ir.Type, *shape: int) -> ir.IRBuilder:
        """Add a function of that shape, without a body."""
        name = f"gtc_{self.name}_{element}_{'x'.join(map(str, shape))}"
        function = ir.Function(module, self.kind(element), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        return ir.IRBuilder(function.append_basic_block("entry"))

    def emit_table(self, module: ir.Module, element: ir.Type) -> ir.GlobalVariable:
        """Add the functions of all shapes and the table of their addresses."""
        places = {first * 16 + second: made for (first, second), made in self.emit(module, element).items()}
        nothing = ir.Constant(self.kind(element).as_pointer(), None)
        kind = ir.ArrayType(nothing.type, max(places) + 1)
        table = ir.GlobalVariable(module, kind, f"gtc_table_of_{self.name}_{element}")
        table.initializer = ir.Constant(kind, [places.get(i, nothing) for i in range(max(places) + 1)])
        table.global_constant = True
        table.linkage = "internal"
        return table

    def find_table(self, dtype: str) -> int:
        """Compile the functions, or read them, and return the address of their table, for elements of that type."""

        @intrinsic
        def functions_like(typingctx, like):
            def codegen(_context, builder, _signature, _args):
                return builder.ptrtoint(self.emit_table(builder.module, ELEMENT[like.dtype]), _I64)

            return types.int64(like), codegen

        def find(like):
            return functions_like(like)

        find.__name__ = self.name
        return int(keep(entry(types.int64(types.CPointer(getattr(types, dtype))), find)).ctypes(None))

    def call(self, element: types.Type, table: types.Type) -> Call:
        """What an intrinsic returns that calls one: of the table's address, these arguments, and a shape."""
        kinds = {"E": element, "T": table, "N": types.int64}
        arguments = [kinds[each] for each in self.arguments]

        def codegen(context: BaseContext, builder: ir.IRBuilder, _signature: object, args: list[ir.Value]) -> object:
            self.emit_call(builder, ELEMENT[element.dtype], args)
            return context.get_dummy_value()

        return types.void(types.int64, *arguments, types.int64, types.int64), codegen

    def emit_call(self, builder: ir.IRBuilder, element: ir.Type, args: list[ir.Value]) -> None:
        """Emit such a call."""
        table, *rest, first, second = args
        shape = builder.add(builder.mul(first, _I64(16)), second)
        at = builder.gep(builder.inttoptr(table, self.kind(element).as_pointer().as_pointer()), [shape])
        builder.call(builder.load(at), rest)
