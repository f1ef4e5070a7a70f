"""Threads of the package's own, which wait awake for a moment: a small call gets its second thread in a microsecond.

Each has a mailbox, and every call gives it the part of the same number, so that what a part reads stays in the caches
of one core. A part that its thread has not begun when the caller is done with its own is the caller's again: nobody
waits for a thread that sleeps or whose core another program has. One caller at a time has the team; others, and
systems other than Linux on x86-64, use Numba's threads.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import signal
import sys
import threading
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic

from ..emit.registers import keep
from .compiled import entry, inner, kernel

#: Threads of the team at most, the caller included.
MOST = 64
#: What `fork_join` returns where another caller has the team, and what a part returns where its memory was not to be
#: had.
BUSY, FAILED = -1, 1 << 40
# States of a mailbox.
_IDLE, _READY, _TAKEN, _DONE, _QUIT = range(5)
# Words of a mailbox, in bytes; the first mailbox, the caller's, has the lock of the team in place of a state.
_STATE, _ASLEEP, _THUNK, _BLOCK, _RESULT, _BOX = 0, 8, 16, 24, 32, 128
#: Looks at the mailbox before a thread goes to sleep, 30 to 100 microseconds, and between two offers of its core to
#: other programs. Chosen, not measured.
_LOOKS, _POLITE = 2000, 256
# Of Linux on x86-64.
_FUTEX, _YIELD, _WAIT, _WAKE = 202, 24, 128, 129
_I64 = ir.IntType(64)


@kernel
def fork_join(team, part, x, weight, bias, out, table, work, parts):
    """Run the parts of the function at the address `part`, the first one here; their sum, or BUSY."""
    if not _swap(team, 0, 1):
        return BUSY
    thunk, block = _package(part, x, weight, bias, out, table, work)
    for number in range(1, parts):
        box = team + number * _BOX
        _store(box + _THUNK, thunk)
        _store(box + _BLOCK, block)
        _store(box + _STATE, _READY)
        if _load(box + _ASLEEP):
            _system(_FUTEX, box, _WAKE, 1)
    total = _call_thunk(thunk, block, 0)
    for number in range(1, parts):
        box = team + number * _BOX
        if _swap(box + _STATE, _READY, _TAKEN):
            total += _call_thunk(thunk, block, number)
            continue
        looks = 0
        while _load(box + _STATE) != _DONE:
            looks = _look(looks)
        total += _load(box + _RESULT)
    _store(team, 0)
    return total


def _serve(box):
    """What a thread of the team does from its start until it is told to quit; the mailbox has its number."""
    number, looks = _load(box + _RESULT), 0
    while True:
        state = _load(box + _STATE)
        if state == _READY and _swap(box + _STATE, _READY, _TAKEN):
            _store(box + _RESULT, _call_thunk(_load(box + _THUNK), _load(box + _BLOCK), number))
            _store(box + _STATE, _DONE)
            looks = 0
        elif state == _QUIT:
            return 0
        elif looks < _LOOKS:
            looks = _look(looks)
        else:
            _store(box + _ASLEEP, 1)
            state = _load(box + _STATE)
            if state not in (_READY, _QUIT):
                _system(_FUTEX, box, _WAIT, state)
            _store(box + _ASLEEP, 0)
            looks = 0


@kernel
def dismiss(team, members):
    """Tell the threads to quit when they are done, and keep the team to oneself."""
    looks = 0
    while not _swap(team, 0, 1):
        looks = _look(looks)
    for number in range(1, members):
        box = team + number * _BOX
        _store(box + _STATE, _QUIT)
        _system(_FUTEX, box, _WAKE, 1)
    return 0


@inner
def _look(looks):
    """Wait for a moment, and now and then let other programs have the core; return how often that was."""
    _pause()
    if looks % _POLITE == _POLITE - 1:
        _system(_YIELD, 0, 0, 0)
    return looks + 1


class _Team:
    """The mailboxes and threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.members = 1
        self.threads: list[ctypes.c_ulong] = []
        self.memory = np.zeros((MOST + 1) * _BOX // 8, np.int64)
        self.address = -(-self.memory.ctypes.data // _BOX) * _BOX

    def grow(self, members: int) -> None:
        """Start threads until there are so many members."""
        with self.lock:
            # Signals are for Python's threads.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                while self.members < members:
                    box = self.address + self.members * _BOX
                    self.memory[(box + _RESULT - self.memory.ctypes.data) // 8] = self.members
                    thread = ctypes.c_ulong()
                    begin = ctypes.byref(thread), None, ctypes.c_void_p(_start()), ctypes.c_void_p(box)
                    if _libc().pthread_create(*begin):
                        raise RuntimeError("no thread could be started")
                    self.threads.append(thread)
                    self.members += 1
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def end(self) -> None:
        """End the threads, before the interpreter takes away their code and memory."""
        if self.threads:
            dismiss(self.address, self.members)
            for thread in self.threads:
                _libc().pthread_join(thread, None)
            self.threads.clear()


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@lru_cache(maxsize=1)
def _start() -> int:
    """Address of the function that a thread begins with."""
    return keep(entry(types.int64(types.int64), _serve)).address


@lru_cache(maxsize=1)
def is_possible() -> bool:
    """Whether this system can have a team."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32


def mailboxes(members: int) -> int:
    """Address of the mailboxes of a team with so many members at least."""
    team = _teams[-1]
    if team.members < members:
        team.grow(members)
    return team.address


_teams = [_Team()]


def _after_fork_in_child() -> None:
    """Begin anew, without the threads that are not here any more."""
    _teams.append(_Team())


if is_possible():
    atexit.register(lambda: _teams[-1].end())
    os.register_at_fork(after_in_child=_after_fork_in_child)


@intrinsic
def _package(typingctx, part, x, weight, bias, out, table, work):
    """Address of a function of (address of a block, number) that calls the part so numbered, and that of the block."""
    kinds = (x, weight, bias, out, table, work, types.int64)

    def codegen(context, builder, signature, args):
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
def _call_thunk(typingctx, thunk, block, number):
    """Call what `_package` made."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(_I64, [_I64, _I64]).as_pointer()
        values = [context.cast(builder, a, k, types.int64) for a, k in zip(args, signature.args, strict=True)]
        return builder.call(builder.inttoptr(values[0], kind), values[1:])

    return types.int64(thunk, block, number), codegen


@intrinsic
def _load(typingctx, address):
    """The word at an address; what was written before it was stored there is seen afterwards."""

    def codegen(_context, builder, _signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], _I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _store(typingctx, address, value):
    """Store a word at an address, seen by other threads in the order of the program."""

    def codegen(context, builder, _signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], _I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _swap(typingctx, address, old, new):
    """Put `new` in the place of `old`; whether it was there."""

    def codegen(_context, builder, _signature, args):
        place = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.extract_value(builder.cmpxchg(place, args[1], args[2], "seq_cst", "seq_cst"), 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
    """Tell the core that this thread waits."""

    def codegen(context, builder, _signature, _args):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _system(typingctx, number, first, second, third):
    """Call Linux."""

    def codegen(_context, builder, _signature, args):
        kind = ir.FunctionType(_I64, [_I64], var_arg=True)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "syscall"), [*args, _I64(0)])

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen
