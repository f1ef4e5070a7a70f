"""A kernel's numbers and tables as one array, because a compiled function takes long to receive many arguments.

All that a kernel knows of a problem is one named tuple of `int`, `float`, `Table`, `Rows` and other such tuples.
`flatten` writes it into one array of int64, and `unpack` is how the kernel gets it back. In the place of a table stand
how many words away it begins, and its sizes. So long tables are shared by all problems that have the same, and a new
size copies none.

In kernels the tuple is its address: a function that gets one is called with a pointer and not with hundreds of values,
and what is asked of it is read from memory, which nobody writes while the kernel runs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar, cast, get_type_hints

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

Value = TypeVar("Value")
Result = TypeVar("Result")

_I64 = ir.IntType(64)
#: Words of a table up to which it is copied, which takes less time than to find its address. Measured: 0.2 microseconds
#: and not 0.8 for ten words, 0.3 for 256.
_NEAR = 256
#: What `share` was given.
_shared: set[object] = set()
#: A number, and the word that has its bits.
_DOUBLE, _BITS = struct.Struct("d"), struct.Struct("q")
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


class _Same:
    """A value that a cache knows by its identity."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def once_for_each(function: Callable[[Value], Result]) -> Callable[[Value], Result]:
    """Decorate a function of a value that has no hash but is used again and again; the last 64 are kept, with it."""
    cached = lru_cache(maxsize=64)(lambda same: function(same.value))
    return lambda value: cached(_Same(value))


def share(cls: type) -> None:
    """Say that the tuples of a class are part of many others, each of which has the same one."""
    _shared.add(cls)


class _Words(NamedTuple):
    """The words of named tuples, those of a table's address empty, and the tables with the places of these."""

    numbers: list[int]
    tables: list[tuple[int, Table]]


def _words_of(values: Iterable[Any]) -> _Words:
    """Words of a named tuple and of those in it."""
    numbers, tables = list[int](), list[tuple[int, Table]]()
    for value, (kind, count) in zip(values, _fields(values.__class__), strict=True):
        if count == 1:
            numbers.append(_BITS.unpack(_DOUBLE.pack(value))[0] if kind is types.float64 else value)
        elif count:
            tables.append((len(numbers), value))
            numbers += 0, *value.shape
        else:
            inner, start = _shared_words(value) if kind in _shared else _words_of(value), len(numbers)
            numbers += inner.numbers
            tables += [(start + place, table) for place, table in inner.tables]
    return _Words(numbers, tables)


_shared_words = once_for_each(_words_of)


@lru_cache(maxsize=64)
def _size_of(cls: type) -> int:
    """Words of a named tuple."""
    return sum(count or _size_of(cast(type, kind)) for kind, count in _fields(cls))


class Arguments(NamedTuple):
    """What a kernel unpacks, and the long tables of it, which stay where they are and must live as long."""

    table: Table
    tables: list[Table]


def flatten(values: Iterable[object]) -> Arguments:
    """Write a named tuple as one array; in the place of a table how far it is from there, and its sizes.

    Short tables are copied to the array's end. Of the tuples in it, those of a class that was given to `share` are part
    of many, and their words are kept.
    """
    numbers, tables = _words_of(values)
    parts, far, end = list[Table](), list[tuple[int, Table]](), len(numbers)
    for place, table in tables:
        if table.size > _NEAR:
            far.append((place, np.ascontiguousarray(table)))
        else:
            numbers[place] = end - place
            end += table.size
            parts.append(table.ravel())
    words = np.concatenate([np.array(numbers, np.int64), *parts])
    begin = _address(words)
    for place, table in far:
        words[place] = (_address(table) - begin) // words.itemsize - place
    return Arguments(words, [table for _, table in far])


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
    before = sum(count or _size_of(cast(type, field)) for field, count in fields[:number])
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
