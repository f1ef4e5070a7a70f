"""What threads that wait for each other are made of: words of memory that are seen at once, and calls of Linux."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic

_I64 = ir.IntType(64)
#: What a part returns where its memory was not to be had.
FAILED = 1 << 40


@intrinsic
def package(typingctx, part, x, weight, bias, out, table, work):
    """Address of a function of (address of a block, number) that calls the part so numbered, and that of the block."""
    kinds = (x, weight, bias, out, table, work, types.int64)

    def codegen(context, builder, signature, args):
        """Emit the block, a structure on the caller's stack, and the function, which reads it."""
        convention = context.call_conv
        packer = context.get_arg_packer(kinds)
        packed = packer.as_arguments(builder, [*args[1:], _I64(0)])[:-1]
        kept = [args[0], *packed]
        kind = ir.LiteralStructType([value.type for value in kept])
        block = cgutils.alloca_once(builder, kind)
        for i, value in enumerate(kept):
            builder.store(value, cgutils.gep_inbounds(builder, block, 0, i))
        thunk = ir.Function(builder.module, ir.FunctionType(_I64, [_I64, _I64]), "gtc_part")
        thunk.linkage = "internal"
        inside = ir.IRBuilder(thunk.append_basic_block("entry"))
        place = inside.inttoptr(thunk.args[0], kind.as_pointer())
        address, *values = (inside.load(cgutils.gep_inbounds(inside, place, 0, i)) for i in range(len(kept)))
        function = convention.get_function_type(types.int64, kinds)
        result = cgutils.alloca_once_value(inside, _I64(0))
        problem = cgutils.alloca_once_value(inside, ir.Constant(excinfo_ptr_t, None))
        code = inside.call(inside.inttoptr(address, function.as_pointer()), [result, problem, *values, thunk.args[1]])
        failed = inside.icmp_signed("!=", code, code.type(0))
        inside.ret(inside.select(failed, _I64(FAILED), inside.load(result)))
        return context.make_tuple(
            builder, signature.return_type, [builder.ptrtoint(thunk, _I64), builder.ptrtoint(block, _I64)]
        )

    pair = types.UniTuple(types.int64, 2)
    return pair(part, x, weight, bias, out, table, work), codegen


@intrinsic
def call_thunk(typingctx, thunk, block, number):
    """Call what `package` made."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(_I64, [_I64, _I64]).as_pointer()
        values = [context.cast(builder, a, k, types.int64) for a, k in zip(args, signature.args, strict=True)]
        return builder.call(builder.inttoptr(values[0], kind), values[1:])

    return types.int64(thunk, block, number), codegen


@intrinsic
def load(typingctx, address):
    """The word at an address; what was written before it was stored there is seen afterwards."""

    def codegen(_context, builder, _signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], _I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx, address, value):
    """Store a word at an address, seen by other threads in the order of the program."""

    def codegen(context, builder, _signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], _I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def swap(typingctx, address, old, new):
    """Put `new` in the place of `old`; whether it was there."""

    def codegen(_context, builder, _signature, args):
        place = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.extract_value(builder.cmpxchg(place, args[1], args[2], "seq_cst", "seq_cst"), 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this thread waits."""

    def codegen(context, builder, _signature, _args):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def system(typingctx, number, first, second, third):
    """Call Linux."""

    def codegen(_context, builder, _signature, args):
        kind = ir.FunctionType(_I64, [_I64], var_arg=True)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "syscall"), [*args, _I64(0)])

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def current_core(typingctx):
    """Number of the core that the calling thread is on."""

    def codegen(_context, builder, _signature, _args):
        kind = ir.FunctionType(ir.IntType(32), [])
        core = builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_getcpu"), [])
        return builder.sext(core, _I64)

    return types.int64(), codegen
