"""Addresses of elements of arrays, for what kernels call by LLVM's rules and not by Numba's; and the fence."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .registers import VECTOR_BYTES
from .row_ir import ELEMENTS
from .vector_memory import bytes_of

_I64 = ir.IntType(64)


@intrinsic
def address(typingctx, array, offset):
    """Address of an element of a contiguous array."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.gep(data, [args[1]])

    return types.CPointer(array.dtype)(array, types.int64), codegen


@intrinsic
def words(typingctx, array):
    """The same contiguous memory as numbers of 64 bits."""
    kind = types.Array(types.int64, 1, "C")

    def codegen(context, builder, signature, args):
        whole = context.make_array(signature.args[0])(context, builder, args[0])
        part = context.make_array(kind)(context, builder)
        size = builder.udiv(builder.mul(whole.nitems, whole.itemsize), _I64(8))
        populate_array(
            part,
            data=builder.bitcast(whole.data, _I64.as_pointer()),
            shape=cgutils.pack_array(builder, [size]),
            strides=cgutils.pack_array(builder, [_I64(8)]),
            itemsize=_I64(8),
            meminfo=None,
        )
        return part._getvalue()

    return kind(array), codegen


@intrinsic
def place(typingctx, array, offset):
    """The same as a number, for places that may lie outside the array and are not read."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(data, [args[1]]), _I64)

    return types.int64(array, types.int64), codegen


@intrinsic
def address_as(typingctx, like, array, offset):
    """Address of an element of an array as that of an element of another type, for code that will not run."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[1])(context, builder, args[1]).data
        return builder.bitcast(builder.gep(data, [args[2]]), context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, array, types.int64), codegen


@intrinsic
def cast(typingctx, like, pointer):
    """An address as that of elements of another type, at which `like` points."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[1], context.get_value_type(signature.return_type))

    return like(like, pointer), codegen


@intrinsic
def offset(typingctx, pointer, count):
    """Address of the element that is `count` further."""

    def codegen(_context, builder, _signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def offset_bytes(typingctx, pointer, count):
    """Address that is `count` bytes further."""

    def codegen(_context, builder, _signature, args):
        moved = builder.gep(builder.bitcast(args[0], ir.IntType(8).as_pointer()), [args[1]])
        return builder.bitcast(moved, args[0].type)

    return pointer(pointer, types.int64), codegen


@intrinsic
def lanes_past(typingctx, array, offset):
    """Number of elements between an element of an array and the vector boundary before it."""
    size = bytes_of(ELEMENTS[array.dtype])

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        past = builder.and_(builder.ptrtoint(builder.gep(data, [args[1]]), _I64), _I64(VECTOR_BYTES - 1))
        return builder.udiv(past, _I64(size))

    return types.int64(array, types.int64), codegen


@intrinsic
def vector_lanes(typingctx, pointer):
    """Elements of a vector of what is at an address."""
    lanes = VECTOR_BYTES // bytes_of(ELEMENTS[pointer.dtype])
    return types.int64(pointer), lambda _context, _builder, _signature, _args: _I64(lanes)


@intrinsic
def fence(typingctx):
    """Make streamed stores visible to other threads before anything that follows."""

    def codegen(context, builder, _signature, _args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen
