"""Moving rows of numbers between memory, panels and sums: the copies on both sides of the tiles, for use in kernels."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .block_ir import BlockFunctions
from .copy_ir import CopyFunctions
from .numbers import BFLOAT16, COUPLED, FLOAT16
from .registers import CACHE_LINE, has_couples, prefetch
from .row_ir import ELEMENTS, STRIDES, RowFunctions

# LLVM's integers, by their bits.
_I16, _I64 = ir.IntType(16), ir.IntType(64)
#: Taps of a kernel of 3 x 3.
_NINE = 9


@intrinsic
def copy_row(typingctx, target, source, low, high, length, half):
    """Copy ``target[j] = source[j]`` for low <= j < high, and zero for the other j below `length`."""

    def codegen(context, builder, _signature, args):
        target_, source_, low_, high_, length_, half_ = args
        numbers = [target_, _I64(0), source_, _I64(0), _I64(1), low_, high_, length_]
        _call_copier(builder, target, source, (1, False, False), numbers, half_)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, source, i64, i64, i64, i64), codegen


@intrinsic
def copy_rows(typingctx, target, target_step, source, source_step, count, low, high, length, half):
    """The same for `count` rows, `target_step` and `source_step` apart.

    Coupled rows are two each, `source_step` counts both, and the target gets words of an element of either.
    """
    return _copier(target, source, (1, False, False))


@intrinsic
def copy_every(typingctx, target, target_step, source, source_step, count, low, high, length, step, half):
    """Copy ``target[j] = source[step*j]``; `low` and `high` bound what is read of `source`."""

    def codegen(context, builder, _signature, args):
        functions = CopyFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        *numbers, step_, half_ = args

        def call(find, *more):
            call_for_halves(builder, functions, find, [*numbers, *more], half_)

        _call_for_strides(
            builder,
            step_,
            lambda: call(functions.picker, step_),
            lambda value: call(lambda kind: functions.copier(kind, value, False, False)),
        )
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, i64, source, *[i64] * 7), codegen


@intrinsic
def copy_differences(typingctx, target, target_step, source, source_step, count, low, high, length, half):
    """Copy ``target[j] = source[2*j] - source[2*j + 1]``; see `copy_every`."""
    return _copier(target, source, (2, True, False))


@intrinsic
def copy_rows_less(
    typingctx, target, target_step, source, source_step, count, low, high, length, distance, other_high, half
):  # fmt: skip
    """The same as `copy_rows`, less rows that lie `distance` further and are read up to `other_high`."""
    return _copier(target, source, (1, False, True))


@intrinsic
def copy_every_second_less(
    typingctx, target, target_step, source, source_step, count, low, high, length, distance, other_high, half
):  # fmt: skip
    """The same as `copy_every` with a step of 2; see `copy_rows_less`."""
    return _copier(target, source, (2, False, True))


@intrinsic
def copy_differences_less(
    typingctx, target, target_step, source, source_step, count, low, high, length, distance, other_high, half
):  # fmt: skip
    """The same as `copy_differences`; see `copy_rows_less`."""
    return _copier(target, source, (2, True, True))


@intrinsic
def pick_places(typingctx, target, target_step, source, starts, places, count, length, half):
    """Copy ``target[k*target_step + j] = source[starts[k] + places[j]]`` for `count` rows k, in whole vectors."""

    def codegen(context, builder, _signature, args):
        functions = CopyFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        call_for_halves(builder, functions, functions.place_picker, args[:-1], args[-1])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, i64, source, starts, places, i64, i64, i64), codegen


@intrinsic
def turn_rows(typingctx, target, target_step, source, source_step, count, low, high, length, half):
    """Copy ``target[k*target_step + j] = source[j*source_step + k]`` for `count` rows k; see `copy_row`."""

    def codegen(context, builder, _signature, args):
        functions = CopyFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        call_for_halves(builder, functions, functions.turner, args[:-1], args[-1])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, i64, source, *[i64] * 6), codegen


def _copier(target, source, way):
    def codegen(context, builder, _signature, args):
        _call_copier(builder, target, source, way, args[:-1], args[-1])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, i64, source, *[i64] * (8 if way[2] else 6)), codegen


def _call_copier(builder, target, source, way, args, half):
    functions = CopyFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
    couples = has_couples() and way == (1, False, False)
    call_for_halves(builder, functions, lambda kind: functions.copier(kind, *way), args, half, couples)


@intrinsic
def copy_checked(typingctx, target, target_step, source, source_step, length, count, half):
    """Copy `count` rows of `length` elements, coupled as `copy_rows` has them; return whether some are not finite."""

    def codegen(_context, builder, _signature, args):
        functions = BlockFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        return call_for_halves(builder, functions, functions.checked_copier, args[:-1], args[-1], has_couples())

    i64 = types.int64
    return i64(target, i64, source, i64, i64, i64, i64), codegen


@intrinsic
def copy_block(typingctx, target, target_step, source, source_step, length, count):
    """Copy `count` short rows of `length` elements each, `target_step` and `source_step` apart."""
    return _block_copier(False, target, source)


@intrinsic
def add_block(typingctx, target, target_step, source, source_step, length, count):
    """Add `count` short rows to others; see `copy_block`."""
    return _block_copier(True, target, source)


@intrinsic
def couple_block(typingctx, like, target, target_step, source, source_step, length, count):
    """Write `count` short rows of words: couples of the elements of two rows each; where `like` may be bfloat16."""

    def codegen(context, builder, _signature, args):
        if like.dtype == types.uint16 and has_couples():
            functions = BlockFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
            builder.call(functions.block_coupler(), args[1:])
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(like, target, i64, source, i64, i64, i64), codegen


def _block_copier(adds, target, source):
    def codegen(_context, builder, _signature, args):
        functions = BlockFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        return builder.call(functions.block_copier(adds), args)

    i64 = types.int64
    return types.void(target, i64, source, i64, i64, i64), codegen


@intrinsic
def fetch(typingctx, start, count):
    """Ask for `count` cache lines from a `place` on, perhaps outside of any array, into the second-level cache."""

    def codegen(context, builder, _signature, args):
        with cgutils.for_range(builder, args[1]) as loop:
            prefetch(builder, builder.add(args[0], builder.mul(loop.index, _I64(CACHE_LINE))))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def interleave_rows(typingctx, target, source, step, stride, outputs, half, stream):
    """Write ``target[j*stride + r] = source[r*step + j]`` up to `outputs`.

    Whole vectors of `source` are read, past its end too, and where vectors are stored aligned up to a vector before its
    beginning. `stream` is 0 or `row_ir.STREAMED` and so on; see `fence`. A stride that is a number in the call has only
    the functions of that one.
    """
    written = getattr(stride, "literal_value", None)

    def codegen(context, builder, _signature, args):
        rows = RowFunctions(builder.module, ELEMENTS[source.dtype], ELEMENTS[target.dtype])
        *rest, step_, stride_, outputs_, half_, stream_ = args

        def call(stride, *numbers):
            every = [*rest, step_, *numbers]
            call_for_halves(builder, rows, lambda half: rows.interleaver(stride, half), every, half_)

        if written is None:
            _call_for_strides(
                builder, stride_, lambda: call(None, stride_, outputs_), lambda value: call(value, outputs_, stream_)
            )
        else:
            call(written, outputs_, stream_)
        return context.get_dummy_value()

    i64 = types.int64
    # Numba finds an implementation by the types in its signature, so that of one stride must differ from the others.
    return types.void(target, source, i64, i64 if written is None else stride, i64, i64, i64), codegen


@intrinsic
def transpose(typingctx, target, step, source, rows, columns):
    """Write ``target[c*step + r] = source[r*columns + c]``.

    Whole vectors of `source` are read: past its end too, up to the next multiple of a vector of rows and a vector more.
    The numbers of columns with functions of their own are `STRIDES` and the taps of a kernel of 3 x 3.
    """

    def codegen(context, builder, _signature, args):
        """Call what turns squares of vectors, or what has a function for the number of columns."""
        functions = CopyFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        blocks = BlockFunctions(builder.module, ELEMENTS[target.dtype], ELEMENTS[source.dtype])
        target_, step_, source_, rows_, columns_ = args
        lanes = _I64(functions.lanes)
        few = builder.icmp_signed("<", rows_, lanes)

        def squares(first=None):
            small = few if first else builder.or_(few, builder.icmp_signed("<", columns_, lanes))
            with builder.if_else(small) as (edge, whole):
                with whole:
                    builder.call(blocks.square_turner(first), args)
                with edge:
                    others = [target_, step_, source_, columns_, columns_, _I64(0), rows_, rows_]
                    builder.call(functions.turner(0), others)

        def special(value):
            if value == _NINE:
                squares(value if functions.lanes > value else None)
            else:
                builder.call(functions.separator(value), [target_, source_, step_, rows_])

        _call_for_strides(builder, columns_, squares, special, (*STRIDES, _NINE))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, i64, source, i64, i64), codegen


def _call_for_strides(builder, stride, otherwise, special, strides=STRIDES):
    """Emit a call for each of `strides`, and one for all others."""
    end, other = builder.append_basic_block(), builder.append_basic_block()
    switch = builder.switch(stride, other)
    with builder.goto_block(other):
        otherwise()
        builder.branch(end)
    for value in strides:
        block = builder.append_basic_block()
        switch.add_case(_I64(value), block)
        with builder.goto_block(block):
            special(value)
            builder.branch(end)
    builder.position_at_end(end)


def call_for_halves(builder, functions, find, args, half, couples=False):
    """Emit a call of what `find` returns for the kind of 16-bit numbers that `half` names, or of find(0)."""
    if functions.stored != _I16:
        return builder.call(find(0), args)
    function = find(BFLOAT16)
    for kind in (FLOAT16, COUPLED) if couples else (FLOAT16,):
        function = builder.select(builder.icmp_signed("==", half, _I64(kind)), find(kind), function)
    return builder.call(function, args)
