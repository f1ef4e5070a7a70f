"""The threads of another library's OpenMP, for calls that come between that library's own.

GNU's OpenMP lets its threads spin for milliseconds after a parallel region, in wait for the next one. Threads of our
own would share their processors with them, and a kernel on two threads would take as long as on one. So its parts are
run in a region of that OpenMP: its threads, which wait already, take them at once.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic

from ....arrays.views import Array
from ..emit.registers import keep
from .atomics import FAILED
from .compiled import entry

#: Words of a task before its arrays: addresses of the part, of the functions for a thread's number and for how many
#: there are, and the number of parts. After the arrays comes a result per part.
_HEAD = 4
#: Words in which Numba's functions take five arrays of one axis and one of two: two for the owner of their memory, the
#: numbers of elements and of bytes of one, the address, shape and strides.
_WORDS = 5 * 7 + 9


class OpenMP:
    """An OpenMP runtime that is in this process already."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
        self._start = library.GOMP_parallel
        self._start.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
        self._start.restype = None
        asked = library.omp_get_thread_num, library.omp_get_num_threads
        self._who = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in asked]

    def run(self, part: int, arguments: tuple[Array, ...], parts: int, threads: int) -> int:
        """Run the parts of a kernel, whose machine code is at an address, and return the sum of their results."""
        words = [part, *self._who, parts]
        for array in arguments:
            address = array.__array_interface__["data"][0]
            words += (0, 0, array.size, array.itemsize, address, *array.shape, *array.strides)
        assert len(words) == _HEAD + _WORDS
        task = np.array(words + [0] * parts, np.int64)
        self._start(take_parts(), task.__array_interface__["data"][0], threads, 0)
        return int(task[_HEAD + _WORDS :].sum())


@lru_cache(maxsize=1)
def take_parts() -> int:
    """Address of what each thread of a region runs, compiled where it was not yet."""
    return int(keep(entry(types.void(types.int64), _take_parts)).address)


def _take_parts(task):
    _run_share(task)


@intrinsic
def _run_share(typingctx, task):
    """Run what is a thread's of a task: the parts from its number on, in steps of the number of threads."""

    def codegen(context, builder, signature, args):
        word, code = ir.IntType(64), ir.IntType(32)
        base = builder.inttoptr(args[0], word.as_pointer())

        def place(index):
            return builder.gep(base, [index])

        head = [builder.load(place(word(index))) for index in range(_HEAD)]
        ask = ir.FunctionType(code, []).as_pointer()
        number, count = (builder.sext(builder.call(builder.inttoptr(at, ask), []), word) for at in head[1:3])
        given = [builder.load(place(word(_HEAD + index))) for index in range(_WORDS)]
        kind = ir.FunctionType(code, [word.as_pointer(), excinfo_ptr_t.as_pointer(), *[word] * (_WORDS + 1)])
        function = builder.inttoptr(head[0], kind.as_pointer())
        result = cgutils.alloca_once_value(builder, word(0))
        problem = cgutils.alloca_once_value(builder, ir.Constant(excinfo_ptr_t, None))
        with cgutils.for_range_slice(builder, number, head[3], count, word) as (index, _):
            status = builder.call(function, [result, problem, *given, index])
            failed = builder.icmp_signed("!=", status, code(0))
            value = builder.select(failed, word(FAILED), builder.load(result))
            builder.store(value, place(builder.add(index, word(_HEAD + _WORDS))))
        return context.get_dummy_value()

    return types.void(task), codegen
