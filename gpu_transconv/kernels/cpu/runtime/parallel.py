"""Run the parts of a kernel on several threads, those of the team or Numba's.

A kernel is a function of one part of the work, ``part(x, weight, bias, out, table, work, number)``, which returns an
int. One part alone is called as it is. For several, the address of its machine code is called by functions compiled
once per dtype, so that no kernel is compiled a second time for many threads.
"""

from __future__ import annotations

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic

from ....arrays.views import Array
from ....settings import most_threads
from .atomics import FAILED
from .compiled import CompiledKernel, address_of, parallel_kernel
from .team import BUSY, MOST, fork_join, is_possible, mailboxes
from .threads import current_openmp, must_be_serial, parallel_region, thread_count

#: Addresses of the parts, by their types; to ask Numba for the types of arrays takes longer than a small kernel.
_addresses: dict[tuple[CompiledKernel, object, object], int] = {}


def run_parts(
    part: CompiledKernel, parts: int, x: Array, weight: Array, bias: Array, out: Array, table: Array, work: Array
) -> int:
    """Run the parts numbered from 0 on and return the sum of what they return.

    Raises
    ------
    MemoryError
        If a part could not get the memory that it asked for.
    """
    arguments = x, weight, bias, out, table, work
    if parts == 1:
        return int(part(*arguments, 0))
    if must_be_serial():
        return sum(part(*arguments, number) for number in range(parts))
    return run_at(find_address(part, *arguments), *arguments, parts, thread_count())


def find_address(part: CompiledKernel, x: Array, weight: Array, *others: Array) -> int:
    """Address of a part for arrays like these."""
    key = part, x.dtype, weight.dtype  # the types of all arguments follow from these
    address = _addresses.get(key)
    if address is None:
        address = _addresses[key] = address_of(part, x, weight, *others, 0)
    return address


def run_at(
    address: int, x: Array, weight: Array, bias: Array, out: Array, table: Array, work: Array, parts: int, threads: int
) -> int:
    """Do what `run_parts` does, with the parts of the function at an address and so many threads allowed."""
    openmp = current_openmp()
    if openmp is not None:
        total = openmp.run(address, (x, weight, bias, out, table, work), parts, min(parts, threads))
    elif most_threads() is None:
        total = on_threads(address, x, weight, bias, out, table, work, parts, threads)
    else:
        with parallel_region():
            total = on_threads(address, x, weight, bias, out, table, work, parts, threads)
    if total >= FAILED:
        raise MemoryError("not enough memory for the scratch memory of a kernel")
    return total


def on_threads(
    address: int, x: Array, weight: Array, bias: Array, out: Array, table: Array, work: Array, parts: int, threads: int
) -> int:
    """Run the parts of the function at an address, each on a thread of the team where there is one for each."""
    if is_possible() and parts <= threads and parts <= MOST:
        total = int(fork_join(mailboxes(parts), address, x, weight, bias, out, table, work, parts))
        if total != BUSY:
            return total
    with parallel_region():
        return int(on_numba_threads(address, x, weight, bias, out, table, work, parts))


@parallel_kernel
def on_numba_threads(part, x, weight, bias, out, table, work, parts):
    total = 0
    for number in prange(parts):
        total += _call(part, x, weight, bias, out, table, work, number)
    return total


@intrinsic
def _call(typingctx, part, x, weight, bias, out, table, work, number):
    """Call the part whose machine code is at the address `part`, by Numba's convention for its own functions."""
    kinds = (x, weight, bias, out, table, work, types.int64)

    def codegen(context, builder, signature, args):
        values = [*args[1:-1], context.cast(builder, args[-1], signature.args[-1], types.int64)]
        convention = context.call_conv
        function = convention.get_function_type(types.int64, kinds)
        result = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(64), 0))
        problem = cgutils.alloca_once_value(builder, ir.Constant(excinfo_ptr_t, None))
        packed = context.get_arg_packer(kinds).as_arguments(builder, values)
        code = builder.call(builder.inttoptr(args[0], function.as_pointer()), [result, problem, *packed])
        failed = builder.icmp_signed("!=", code, code.type(0))
        return builder.select(failed, ir.Constant(ir.IntType(64), FAILED), builder.load(result))

    return types.int64(part, x, weight, bias, out, table, work, number), codegen
