"""The inner tile of every dense CPU kernel: a small matrix product held in vector registers, emitted as LLVM IR.

``C[m, n] (+)= sum over taps t and channels k of A[m, t, k] * B[t, k, n]`` for up to `MAX_ROWS` rows m, each
broadcast from memory, and a few vectors of columns n. All sums stay in registers until the end. One LLVM
function exists per tile shape, so that a remainder of rows costs what it is and no more; columns come in
whole vectors, and the callers' scratch buffers are padded to them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_ARGUMENTS = [
    "element",
    "table",
    "number",
    "element",
    "number",
    "number",
    "table",
    "number",
    "element",
    "number",
    "table",
    "number",
    "element",
    "number",
    "number",
    "number",
    "number",
    "number",
]
#: How the sums of a tile start.
ADD, PER_ROW, PER_COLUMN = range(3)
_ELEMENT = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


@lru_cache(maxsize=1)
def _features() -> str:
    """CPU features that Numba compiles for: the host's, or those of NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""
    return str(cpu_target.target_context.codegen().magic_tuple())


@lru_cache(maxsize=1)
def registers() -> tuple[int, int]:
    """Bytes of a vector register, and how many there are."""
    features = _features()
    if "+avx512f" in features:
        return 64, 32
    if "+avx2" in features or "+avx," in features:
        return 32, 16
    return 16, 32 if "+neon" in features else 16


def lanes(itemsize: int) -> int:
    """Elements in a vector."""
    return registers()[0] // itemsize


def tile_shapes() -> dict[int, int]:
    """Vectors of columns -> most rows: the sums, a row of columns and one factor fit the registers."""
    count = registers()[1]
    return {
        vectors: min(14, (count - 1) // vectors - 1) for vectors in (1, 2, 4, 8) if (count - 1) // vectors > 1
    }


@lru_cache(maxsize=2)
def tile_function(dtype: str) -> int:
    """Address of the compiled function behind `tile`, for sums of type `dtype`.

    The kernels call it through this address, so that its many shapes are compiled once and not again with
    every kernel.
    """
    pointer, table = types.CPointer(getattr(types, dtype)), types.CPointer(types.int64)
    kinds = {"element": pointer, "table": table, "number": types.int64}
    compiled = cfunc(types.void(*[kinds[kind] for kind in _ARGUMENTS]), cache=True)(_tile)
    return int(compiled.address)


def _tile(
    c, c_rows, c_row, a, a_row, a_step, a_taps, a_tap, b, b_step, b_taps, b_tap, init, mode, taps, depth, rows, vectors
):  # fmt: skip
    _emit(
        c,
        c_rows,
        c_row,
        a,
        a_row,
        a_step,
        a_taps,
        a_tap,
        b,
        b_step,
        b_taps,
        b_tap,
        init,
        mode,
        taps,
        depth,
        rows,
        vectors,
    )


@intrinsic
def tile(
    typingctx, function, c, c_rows, c_row, a, a_row, a_step, a_taps, a_tap, b, b_step, b_taps, b_tap,
    init, mode, taps, depth, rows, vectors,
):  # fmt: skip
    """Run one tile; c, c_rows, a, a_taps, b, b_taps and init are addresses (see `vectors.address`), the rest integers.

    function : what `tile_function` returned
    c, c_rows, c_row : first column of C, table of rows and what to multiply it by
    a, a_row, a_step, a_taps, a_tap : A, its row and channel strides, table of taps and what to multiply it by
    b, b_step, b_taps, b_tap : B, its channel stride, table of taps and what to multiply it by
    init, mode : start values; mode ADD ignores them and adds to C, PER_ROW and PER_COLUMN say what they belong to
    taps, depth : numbers of taps and channels
    rows, vectors : shape of the tile; one of `tile_shapes`

    In mode ADD the rows of C may overlap.
    """
    kinds = {"element": c, "table": c_rows, "number": types.int64}
    arguments = [kinds[kind] for kind in _ARGUMENTS]

    def codegen(context, builder, _signature, args):
        kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(argument) for argument in arguments])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments), codegen


@intrinsic
def _emit(
    typingctx, c, c_rows, c_row, a, a_row, a_step, a_taps, a_tap, b, b_step, b_taps, b_tap, init, mode, taps, depth, rows, vectors
):  # fmt: skip
    """Emit the code of all tile shapes and the jump to the right one."""
    element = c.dtype
    arguments = [c, c_rows, c_row, a, a_row, a_step, a_taps, a_tap, b, b_step, b_taps, b_tap]
    arguments += [init, mode, taps, depth, rows, vectors]

    def codegen(context, builder, _signature, args):
        width = registers()[0] // (element.bitwidth // 8)
        builder.call(_dispatcher(builder.module, _ELEMENT[element], width), args)
        return context.get_dummy_value()

    return types.void(*arguments), codegen


def _dispatcher(module: ir.Module, element: ir.Type, width: int) -> ir.Function:
    """Function that jumps to the tile of the shape given by its last two arguments."""
    name = f"gtc_tile_{element}x{width}"
    if name in module.globals:
        return module.globals[name]
    pointer, table = element.as_pointer(), _I64.as_pointer()
    signature = [
        pointer,
        table,
        _I64,
        pointer,
        _I64,
        _I64,
        table,
        _I64,
        pointer,
        _I64,
        table,
        _I64,
        pointer,
        _I64,
        _I64,
        _I64,
    ]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*signature, _I64, _I64]), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    end = function.append_basic_block("end")
    key = builder.add(builder.mul(function.args[-2], _I64(16)), function.args[-1])
    switch = builder.switch(key, end)
    for vectors, most in tile_shapes().items():
        for rows in range(1, most + 1):
            block = function.append_basic_block()
            switch.add_case(_I64(rows * 16 + vectors), block)
            builder.position_at_end(block)
            builder.call(_tile_function(module, element, width, signature, rows, vectors), function.args[:-2])
            builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


def _tile_function(
    module: ir.Module, element: ir.Type, width: int, signature: Any, rows: int, vectors: int
) -> ir.Function:
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), signature), f"gtc_tile_{element}_{rows}x{vectors * width}"
    )
    function.linkage = "internal"
    function.attributes.add("noinline")
    (
        c,
        c_rows,
        c_row,
        a,
        a_row,
        a_step,
        a_taps,
        a_scale,
        b,
        b_step,
        b_taps,
        b_scale,
        init,
        mode,
        taps,
        depth,
    ) = function.args
    vector = ir.VectorType(element, width)
    fma = _intrinsic(module, f"llvm.fma.v{width}f{32 if element == ir.FloatType() else 64}", vector)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    align = 4 if element == ir.FloatType() else 8

    def load(base: Any, index: Any) -> Any:
        return builder.load(builder.bitcast(builder.gep(base, [index]), vector.as_pointer()), align=align)

    def broadcast(value: Any) -> Any:
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
        return builder.shuffle_vector(
            one,
            ir.Constant(vector, ir.Undefined),
            ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width),
        )

    def column(v: int) -> Any:
        return _I64(v * width)

    targets = [
        builder.gep(c, [builder.mul(builder.load(builder.gep(c_rows, [_I64(m)])), c_row)])
        for m in range(rows)
    ]
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    done = function.append_basic_block("started")
    switch = builder.switch(mode, done)
    for value in (ADD, PER_ROW, PER_COLUMN):
        switch.add_case(_I64(value), function.append_basic_block())
        builder.position_at_end(function.blocks[-1])
        for m in range(rows):
            row = (
                broadcast(builder.load(builder.gep(init, [_I64(m)])))
                if value == PER_ROW
                else ir.Constant(vector, None)
            )
            for v in range(vectors):
                builder.store(load(init, column(v)) if value == PER_COLUMN else row, sums[m][v])
        builder.branch(done)
    builder.position_at_end(done)
    with cgutils.for_range(builder, taps) as tap:
        a_tap = builder.gep(a, [builder.mul(builder.load(builder.gep(a_taps, [tap.index])), a_scale)])
        b_tap = builder.gep(b, [builder.mul(builder.load(builder.gep(b_taps, [tap.index])), b_scale)])
        row_offsets = [builder.mul(a_row, _I64(m)) for m in range(rows)]
        with cgutils.for_range(builder, depth) as loop:
            b_row = builder.gep(b_tap, [builder.mul(loop.index, b_step)])
            columns = [load(b_row, column(v)) for v in range(vectors)]
            a_column = builder.gep(a_tap, [builder.mul(loop.index, a_step)])
            for m in range(rows):
                factor = broadcast(builder.load(builder.gep(a_column, [row_offsets[m]])))
                for v in range(vectors):
                    builder.store(
                        builder.call(fma, [factor, columns[v], builder.load(sums[m][v])]), sums[m][v]
                    )
    # Rows may overlap in C, so an addition is finished before the next one is read.
    with builder.if_else(builder.icmp_signed("==", mode, _I64(ADD))) as (add, replace):
        for block, adds in ((add, True), (replace, False)):
            with block:
                for m in range(rows):
                    for v in range(vectors):
                        total = builder.load(sums[m][v])
                        target = builder.bitcast(builder.gep(targets[m], [column(v)]), vector.as_pointer())
                        if adds:
                            total = builder.fadd(builder.load(target, align=align), total)
                        builder.store(total, target, align=align)
    builder.ret_void()
    return function


def _intrinsic(module: ir.Module, name: str, vector: ir.Type) -> ir.Function:
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(vector, [vector] * 3), name)
