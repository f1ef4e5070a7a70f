"""A kernel's numbers and tables as one array, because a compiled function takes long to receive many arguments.

All that a kernel knows of a problem is one named tuple of `int`, `float`, `Table`, `Rows` and other such tuples.
`flatten` writes it into one array of int64, and `unpack` is how the kernel gets it back. In the place of a table stand
how many words away it begins, and its sizes. So tables are shared by all problems that have the same, and a new size
copies none.

In kernels the tuple is its address: a function that gets one is called with a pointer and not with hundreds of values,
and what is asked of it is read from memory, which nobody writes while the kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Annotated, NamedTuple, TypeAlias, cast, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

Table: TypeAlias = NDArray[np.int64]
#: A table of two axes.
Rows: TypeAlias = Annotated[NDArray[np.int64], "rows"]

_I64 = ir.IntType(64)
#: Annotation -> type in kernels, words of a field.
_KINDS = {
    int: (types.int64, 1),
    float: (types.float64, 1),
    Table: (types.Array(types.int64, 1, "C"), 2),
    Rows: (types.Array(types.int64, 2, "C"), 3),
}


@lru_cache(maxsize=32)
def _fields(cls: type) -> list[tuple[object, int]]:
    """Of every field of a named tuple its type in kernels and number of words; of a tuple in it its class, and 0."""
    return [_KINDS.get(hint, (hint, 0)) for hint in get_type_hints(cls, include_extras=True).values()]


def _extend(leaves: list[object], values: Iterable[object], classes: Iterable[tuple[object, int]]) -> None:
    """Add the numbers and tables of a named tuple and of those in it."""
    for value, (kind, count) in zip(values, classes, strict=True):
        if count:
            leaves.append(value)
        else:
            _extend(leaves, cast("Iterable[object]", value), _fields(kind))


class _Words(NamedTuple):
    """Of a named tuple, what is what among its leaves, and where that goes in the array."""

    integers: list[int]  # leaves
    floats: list[int]
    tables: list[int]
    places: list[int]  # words of the integers, then of each table's address and sizes
    float_places: list[int]
    addresses: list[int]  # words of the tables' addresses
    size: int


@lru_cache(maxsize=32)
def _words_of(cls: type) -> _Words:
    kinds: list[tuple[object, int]] = []

    def add(cls: type) -> None:
        for kind, count in _fields(cls):
            if count:
                kinds.append((kind, count))
            else:
                add(cast(type, kind))

    add(cls)
    words = [0, *accumulate(count for _, count in kinds)]
    leaves = range(len(kinds))
    integers = [leaf for leaf in leaves if kinds[leaf][0] == types.int64]
    floats = [leaf for leaf in leaves if kinds[leaf][0] == types.float64]
    tables = [leaf for leaf in leaves if kinds[leaf][1] > 1]
    places = [words[leaf] for leaf in integers]
    places += [word for leaf in tables for word in range(words[leaf], words[leaf + 1])]
    addresses = [words[leaf] for leaf in tables]
    return _Words(integers, floats, tables, places, [words[leaf] for leaf in floats], addresses, words[-1])


class Arguments(NamedTuple):
    """What a kernel unpacks, and the tables in it, which stay where they are and must live as long."""

    table: Table
    tables: list[Table]


def flatten(values: Iterable[object]) -> Arguments:
    """Write a named tuple as one array; in the place of a table how far it is from there, and its sizes."""
    words, leaves = _words_of(values.__class__), list[object]()
    _extend(leaves, values, _fields(values.__class__))
    tables = [np.ascontiguousarray(cast(Table, leaves[leaf])) for leaf in words.tables]
    numbers = [leaves[leaf] for leaf in words.integers]
    for each in tables:
        numbers += _address(each), *each.shape
    table = np.empty(words.size, np.int64)
    table[words.places] = np.array(numbers, np.int64)
    table.view(np.float64)[words.float_places] = np.array([leaves[leaf] for leaf in words.floats], np.float64)
    table[words.addresses] = (table[words.addresses] - _address(table)) // table.itemsize - words.addresses
    return Arguments(table, tables)


def _address(table: Table) -> int:
    return int(table.__array_interface__["data"][0])


class Words(types.Type):  # type: ignore[misc]
    """Type in kernels of a named tuple that `flatten` wrote: the address of its first word."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        super().__init__(f"Words({cls.__module__}.{cls.__qualname__})")


@register_model(Words)
class _WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _I64.as_pointer())


@infer_getattr
class _WordsAttributes(AttributeTemplate):  # type: ignore[misc]
    key = Words

    def generic_resolve(self, kind, name):
        """Type of a field."""
        if name in kind.cls._fields:
            field, count = _fields(kind.cls)[kind.cls._fields.index(name)]
            return field if count else Words(field)
        return None


@lower_getattr_generic(Words)
def _read_field(context, builder, kind, words, name):
    """Emit the reading of a field."""
    fields, number = _fields(kind.cls), kind.cls._fields.index(name)
    before = sum(count or _words_of(cast(type, field)).size for field, count in fields[:number])
    field, count = fields[number]
    place = builder.gep(words, [_I64(before)])
    if count == 0:
        return place
    read = [builder.load(builder.gep(place, [_I64(i)])) for i in range(count)]
    for load in read:
        load.set_metadata("invariant.load", builder.module.add_metadata([]))
    if count > 1:
        return _view(context, builder, field, builder.gep(place, read[:1]), read[1:])
    return builder.bitcast(read[0], ir.DoubleType()) if field == types.float64 else read[0]


@intrinsic
def unpack(typingctx, cls, table):
    """Named tuple of class `cls` from the `table` that `flatten` wrote; the table must outlive it."""

    def codegen(context, builder, signature, args):
        return make_array(signature.args[1])(context, builder, args[1]).data

    return Words(cls.instance_class)(cls, table), codegen


@intrinsic
def values_of(typingctx, words):
    """The named tuple itself, whose numbers are in registers: for kernels whose innermost loops ask for many."""
    result = _type_of(words.cls)

    def codegen(context, builder, signature, args):
        return _read_all(context, builder, signature.args[0], args[0])

    return result(words), codegen


def _type_of(cls):
    """Type in kernels of a named tuple that is read whole."""
    return types.NamedTuple([kind if count else _type_of(kind) for kind, count in _fields(cls)], cls)


def _read_all(context, builder, kind, words):
    values = [_read_field(context, builder, kind, words, name) for name in kind.cls._fields]
    for i, (field, count) in enumerate(_fields(kind.cls)):
        if count == 0:
            values[i] = _read_all(context, builder, Words(cast(type, field)), values[i])
    return context.make_tuple(builder, _type_of(kind.cls), values)


def _view(context, builder, kind, data, shape):
    item = _I64(8)
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
