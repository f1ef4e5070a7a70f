"""A kernel's numbers and tables as one array, because a compiled function takes long to receive many arguments.

`flatten` writes named tuples into one array of int64, and `unpack` is how a kernel gets them back. A field is
annotated `int`, `float`, `Table` or `Rows`; in the place of a table stand how many words away it begins, and its sizes.
So tables are shared by all problems that have the same, and a new size copies none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeAlias, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

Table: TypeAlias = NDArray[np.int64]
#: A table of two axes.
Rows: TypeAlias = Annotated[NDArray[np.int64], "rows"]

#: Annotation -> type in kernels, words of a field.
_KINDS = {
    int: (types.int64, 1),
    float: (types.float64, 1),
    Table: (types.Array(types.int64, 1, "C"), 2),
    Rows: (types.Array(types.int64, 2, "C"), 3),
}


@lru_cache(maxsize=16)
def _fields(cls: Any) -> list[tuple[Any, int]]:
    """Type in kernels and number of words of every field of a named tuple."""
    return [_KINDS[hint] for hint in get_type_hints(cls, include_extras=True).values()]


def words(cls: Any) -> int:
    """Words of the fields of a named tuple, so that the next one is found behind them."""
    return sum(count for _, count in _fields(cls))


class Arguments(NamedTuple):
    """What a kernel unpacks, and the tables in it, which stay where they are and must live as long."""

    table: Table
    tables: list[Table]


def flatten(*tuples: Any) -> Arguments:
    """Write named tuples one after the other; in the place of a table its distance in memory, and its sizes."""
    head: list[int] = []
    tables: list[Table] = []
    places = []
    for values in tuples:
        for value, (kind, count) in zip(values, _fields(values.__class__), strict=True):
            if count > 1:
                places.append(len(head))
                tables.append(np.ascontiguousarray(value))
                head += [_address(tables[-1]), *value.shape]
            else:
                head.append(int(np.float64(value).view(np.int64)) if kind == types.float64 else int(value))
    table = np.array(head, np.int64)
    table[places] = (table[places] - _address(table)) // table.itemsize
    return Arguments(table, tables)


def _address(table: Table) -> int:
    return int(table.__array_interface__["data"][0])


@intrinsic
def unpack(typingctx, kind, table, first):
    """Named tuple of class `kind` whose fields begin at word `first` of `table`; the table must outlive it."""
    fields = _fields(kind.instance_class)
    result = types.NamedTuple([field for field, _ in fields], kind.instance_class)

    def codegen(context, builder, signature, args):
        data = make_array(signature.args[1])(context, builder, args[1]).data
        at = args[2]
        values = []
        for field, count in fields:
            read = [builder.load(builder.gep(data, [builder.add(at, at.type(i))])) for i in range(count)]
            at = builder.add(at, at.type(count))
            if count > 1:
                values.append(_view(context, builder, field, builder.gep(data, read[:1]), read[1:]))
            else:
                values.append(builder.bitcast(read[0], ir.DoubleType()) if field == types.float64 else read[0])
        return context.make_tuple(builder, result, values)

    return result(kind, table, types.intp), codegen


def _view(context, builder, kind, data, shape):
    item = shape[0].type(8)
    strides = [item] if len(shape) == 1 else [builder.mul(shape[1], item), item]
    array = make_array(kind)(context, builder)
    populate_array(
        array,
        data=data,
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=item,
        meminfo=None,
    )
    return array._getvalue()
