"""The inner tile of sums along rows of memory: every row of one operand times every row of another, as LLVM IR.

``S[r, c] += sum over lines t and elements j of X[t, r, j] * Y[t, c, j]`` for a few r and c. Lanes lie along j, so that
neither operand is turned; what is left of a line is masked in both, so that nothing is multiplied that is not there.
One LLVM function exists per shape.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from ..emit.registers import most_sums, multiply_add, registers
from ..emit.row_ir import RowFunctions
from ..emit.shuffles import lane_numbers
from .shapes import Shapes

_I64 = ir.IntType(64)


def dot_shapes() -> dict[int, int]:
    """Rows -> most columns: the sums, a vector of every row and one of a column fit the registers."""
    count, most = registers()[1], most_sums()
    return {r: min(15, most // r, (count - r - 1) // r) for r in (1, 2, 3, 4) if (count - r - 1) // r > 1}


@lru_cache(maxsize=2)
def dot_table(dtype: str) -> int:
    """Address of the table of compiled tiles, for sums of type `dtype`."""
    return DOTS.find_table(dtype)


@intrinsic
def dot_tile(
    typingctx, table, sums, sums_step, sums_columns, x, x_step, x_lines, y, y_columns, y_lines, lines, length, rows,
    columns,
):  # fmt: skip
    """Run one tile; sums, x, y and the tables are addresses of `pointers.address`.

    table : what `dot_table` returned
    sums, sums_step, sums_columns : S, the distance of its rows, and the place of every column
    x, x_step, x_lines : X, the distance of its rows, and the place of every line
    y, y_columns, y_lines : Y, and the places of every column and of every line
    lines, length : number of lines, and the elements of each
    rows, columns : shape of the tile; one of `dot_shapes`
    """
    return DOTS.call(sums, sums_columns)


def _emit_all(module: ir.Module, element: ir.Type) -> dict[tuple[int, int], ir.Function]:
    """Add the tiles of all shapes."""
    return {
        (rows, columns): _emit_dot(module, element, rows, columns)
        for rows, most in dot_shapes().items()
        for columns in range(1, most + 1)
    }


def _emit_dot(module: ir.Module, element: ir.Type, rows: int, columns: int) -> ir.Function:
    """Add the tile of one shape; its arguments are those of `dot_tile` up to `length`.

    It reads `length` elements of `rows` rows of X and of `columns` rows of Y for each line, and adds to as many sums;
    vectors of partial sums are its own and stay in registers.
    """
    builder = DOTS.begin(module, element, rows, columns)
    sums, sums_step, sums_columns, x, x_step, x_lines, y, y_columns, y_lines, lines, length = builder.function.args
    moves = RowFunctions(module, element, element)
    vector = ir.VectorType(element, moves.lanes)
    fma = multiply_add(module, vector)
    totals = [[cgutils.alloca_once(builder, vector) for _ in range(columns)] for _ in range(rows)]
    for row in totals:
        for total in row:
            builder.store(ir.Constant(vector, None), total)

    def entry_of(table, index):
        return builder.load(builder.gep(table, [index]))

    y_rows = [builder.gep(y, [entry_of(y_columns, _I64(c))]) for c in range(columns)]
    x_rows = [builder.gep(x, [builder.mul(x_step, _I64(r))]) for r in range(rows)]
    whole = builder.sdiv(length, _I64(moves.lanes))
    edge = builder.mul(whole, _I64(moves.lanes))

    def multiply(x_at, y_at, mask):
        factors = [moves.load(builder, element, row, x_at, mask, is_cut=True) for row in x_rows]
        for c, row in enumerate(y_rows):
            value = moves.load(builder, element, row, y_at, mask, is_cut=True)
            for factor, line in zip(factors, totals, strict=True):
                builder.store(builder.call(fma, [factor, value, builder.load(line[c])]), line[c])

    with cgutils.for_range(builder, lines) as line:
        x_line, y_line = entry_of(x_lines, line.index), entry_of(y_lines, line.index)
        with cgutils.for_range(builder, whole) as part:
            at = builder.mul(part.index, _I64(moves.lanes))
            multiply(builder.add(x_line, at), builder.add(y_line, at), None)
        with builder.if_then(builder.icmp_signed("<", edge, length)):
            mask = moves.below(builder, edge, length)
            multiply(builder.add(x_line, edge), builder.add(y_line, edge), mask)
    for c in range(columns):
        column = builder.gep(sums, [entry_of(sums_columns, _I64(c))])
        for r, line in enumerate(totals):
            target = builder.gep(column, [builder.mul(sums_step, _I64(r))])
            builder.store(builder.fadd(builder.load(target), _sum(builder, builder.load(line[c]))), target)
    builder.ret_void()
    return builder.function


def _sum(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Sum of the lanes of a vector, by halves."""
    count = value.type.count
    while count > 1:
        count //= 2
        halves = [
            builder.shuffle_vector(value, value, lane_numbers([*range(first, first + count)])) for first in (0, count)
        ]
        value = builder.fadd(*halves)
    return builder.extract_element(value, ir.IntType(32)(0))


#: Arguments of the compiled tiles, named in `dot_tile`: addresses of Elements and Tables, and Numbers.
DOTS = Shapes("dot", "".join(("ENT", "ENT", "ETT", "NN")), _emit_all)
