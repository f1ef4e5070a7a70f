"""The tile of `gemm_tile` for sums of few channels over many taps, as LLVM IR: one loop over all that is added.

``C[m, n] = init[m] + sum over steps s of A[s, m] * B[place[s] + n]``. Where a tap has but a channel or two, a loop over
channels inside of one over taps is mostly its own beginning and end.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..runtime.compiled import entry
from .gemm_tile import tile_shapes
from .registers import ELEMENT, broadcast, call_entry, emit_table, keep, kind_of, multiply_add, registers

_I64 = ir.IntType(64)
#: Arguments of the compiled tiles, named in `flat_tile`: addresses of Elements and Tables, and Numbers.
_ARGUMENTS = "".join(("EN", "E", "ET", "E", "N"))


@lru_cache(maxsize=2)
def flat_table(dtype: str) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`."""
    find = keep(entry(types.int64(types.CPointer(getattr(types, dtype))), _flats))
    return int(find.ctypes(None))


def _flats(like):
    return _flats_like(like)


@intrinsic
def _flats_like(typingctx, like):
    def codegen(context, builder, _signature, _args):
        return builder.ptrtoint(emit_flats(builder.module, ELEMENT[like.dtype]), _I64)

    return types.int64(like), codegen


@intrinsic
def flat_tile(typingctx, table, c, c_row, a, b, b_places, init, steps, rows, vectors):
    """Run one tile; c, a, b, b_places and init are addresses of `pointers.address`.

    table : what `flat_table` returned
    c, c_row : first column of C, and the distance of its rows
    a : A, the rows of a step next to each other
    b, b_places : B, and by step the place of its first column
    init, steps : start value of every row, and the number of steps
    rows, vectors : shape of the tile; one of `tile_shapes`
    """
    kinds = {"E": c, "T": b_places, "N": types.int64}
    arguments = [kinds[kind] for kind in _ARGUMENTS]

    def codegen(context, builder, _signature, args):
        call_entry(builder, kind_of(ELEMENT[c.dtype], _ARGUMENTS), args[0], args[-1], args[-2], args[1:-2])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments, types.int64, types.int64), codegen


def emit_flats(module: ir.Module, element: ir.Type) -> ir.GlobalVariable:
    """Add the tiles of all shapes and the table of their addresses."""
    entries = {
        (width, height): _emit_flat(module, element, height, width)
        for width, most in tile_shapes().items()
        for height in range(1, most + 1)
    }
    return emit_table(module, f"gtc_flats_{element}", kind_of(element, _ARGUMENTS), entries)


def _emit_flat(module: ir.Module, element: ir.Type, rows: int, vectors: int) -> ir.Function:
    """Add the tile of one shape; its arguments are those of `flat_tile` up to `steps`.

    It reads `rows` factors of A and `vectors` vectors of B for each step and writes whole vectors of C; the sums are
    its own and stay in registers.
    """
    bits = 32 if element == ir.FloatType() else 64
    align, width = bits // 8, registers()[0] * 8 // bits
    function = ir.Function(module, kind_of(element, _ARGUMENTS), f"gtc_flat_{element}_{rows}x{vectors}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    c, c_row, a, b, places, init, steps = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    vector = ir.VectorType(element, width)
    fma = multiply_add(module, vector)

    def vector_at(base, v):
        return builder.bitcast(builder.gep(base, [_I64(v * width)]), vector.as_pointer())

    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    for m, row in enumerate(sums):
        start = broadcast(builder, init, _I64(m), vector)
        for total in row:
            builder.store(start, total)
    with cgutils.for_range(builder, steps) as step:
        line = builder.gep(b, [builder.load(builder.gep(places, [step.index]))])
        columns = [builder.load(vector_at(line, v), align=align) for v in range(vectors)]
        factors = builder.gep(a, [builder.mul(step.index, _I64(rows))])
        for m, row in enumerate(sums):
            factor = broadcast(builder, factors, _I64(m), vector)
            for column, total in zip(columns, row, strict=True):
                builder.store(builder.call(fma, [factor, column, builder.load(total)]), total)
    for m, row in enumerate(sums):
        target = builder.gep(c, [builder.mul(c_row, _I64(m))])
        for v, total in enumerate(row):
            builder.store(builder.load(total), vector_at(target, v), align=align)
    builder.ret_void()
    return function
