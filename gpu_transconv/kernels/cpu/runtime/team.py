"""Threads of the package's own, which wait awake for a moment: a small call gets its second thread in a microsecond.

Each has a mailbox, and every call gives it the part of the same number, so that what a part reads stays in the caches
of one core. A part that its thread has not begun when the caller is done with its own is the caller's again: nobody
waits for a thread that sleeps or whose core another program has. And a thread that the system woke on the caller's own
core is kept off it from then on. One caller at a time has the team; others, and systems other than Linux on x86-64, use
Numba's threads.
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
from numba import types

from ..emit.registers import keep
from .atomics import call_thunk, current_core, load, package, pause, store, swap, system
from .compiled import entry, inner, kernel

#: Threads of the team at most, the caller included.
MOST = 64
#: What `fork_join` returns where another caller has the team.
BUSY = -1
# States of a mailbox.
_IDLE, _READY, _TAKEN, _DONE, _QUIT = range(5)
# Words of a mailbox, in bytes; the first mailbox, the caller's, has the lock of the team in place of a state.
# Cores are counted from one there.
_STATE, _ASLEEP, _THUNK, _BLOCK, _RESULT, _THREAD, _CORE, _AVOIDED, _BOX = *range(0, 64, 8), 128
#: Where the set of cores lies, behind the mailboxes of all members, and its bytes.
_CORES, _CORES_BYTES = MOST * _BOX, 1024
#: Looks at the mailbox before a thread goes to sleep, 30 to 100 microseconds, and of a caller that waits between two
#: offers of its core to other programs. Chosen, not measured.
_LOOKS, _POLITE = 2000, 256
# Of Linux on x86-64.
_FUTEX, _YIELD, _WAIT, _WAKE = 202, 24, 128, 129
_OWN_NUMBER, _SET_CORES, _GET_CORES = 186, 203, 204


@kernel
def fork_join(team, part, x, weight, bias, out, table, work, parts):
    """Run the parts of the function at the address `part`, the first one here; their sum, or BUSY."""
    if not swap(team, 0, 1):
        return BUSY
    thunk, block = package(part, x, weight, bias, out, table, work)
    core = current_core() + 1
    for number in range(1, parts):
        box = team + number * _BOX
        if load(box + _CORE) == core:
            _part_from(team, box, core)
        store(box + _THUNK, thunk)
        store(box + _BLOCK, block)
        store(box + _STATE, _READY)
        if load(box + _ASLEEP):
            system(_FUTEX, box, _WAKE, 1)
    total = call_thunk(thunk, block, 0)
    for number in range(1, parts):
        box = team + number * _BOX
        if swap(box + _STATE, _READY, _TAKEN):
            _part_from(team, box, current_core() + 1)
            total += call_thunk(thunk, block, number)
            continue
        looks = 0
        while load(box + _STATE) != _DONE:
            looks = _look(looks)
        total += load(box + _RESULT)
    store(team, 0)
    return total


@inner
def _part_from(team, box, core):
    """Keep the thread of a mailbox off a core, the caller's, and let it have all others that the caller may have.

    `core` is its number and one.

    Where the others seem busy the system wakes a thread on the core of whoever wakes it, and there it would wait until
    the caller has done all parts, call after call.
    """
    thread = load(box + _THREAD)
    if thread == 0 or load(box + _AVOIDED) == core:
        return
    store(box + _AVOIDED, core)
    cores = team + _CORES
    size = system(_GET_CORES, 0, _CORES_BYTES, cores)
    if 0 < core <= 8 * size:
        word, bit = cores + (core - 1) // 64 * 8, (core - 1) % 64
        store(word, load(word) & ~(1 << bit))
        system(_SET_CORES, thread, size, cores)  # in vain where the caller has but one


def _serve(box):
    """What a thread of the team does from its start until it is told to quit; the mailbox has its number."""
    number, looks = load(box + _RESULT), 0
    store(box + _THREAD, system(_OWN_NUMBER, 0, 0, 0))
    while True:
        state = load(box + _STATE)
        if state == _READY and swap(box + _STATE, _READY, _TAKEN):
            store(box + _CORE, current_core() + 1)
            store(box + _RESULT, call_thunk(load(box + _THUNK), load(box + _BLOCK), number))
            store(box + _STATE, _DONE)
            looks = 0
        elif state == _QUIT:
            return 0
        elif looks < _LOOKS:  # without giving way: on the caller's core it would never sleep, nor wake on another one
            pause()
            looks += 1
        else:
            store(box + _ASLEEP, 1)
            state = load(box + _STATE)
            if state not in (_READY, _QUIT):
                system(_FUTEX, box, _WAIT, state)
            store(box + _ASLEEP, 0)
            looks = 0


@kernel
def dismiss(team, members):
    """Tell the threads to quit when they are done, and keep the team to oneself."""
    looks = 0
    while not swap(team, 0, 1):
        looks = _look(looks)
    for number in range(1, members):
        box = team + number * _BOX
        store(box + _STATE, _QUIT)
        system(_FUTEX, box, _WAKE, 1)
    return 0


@inner
def _look(looks):
    """Wait for a moment, and now and then let other programs have the core; return how often that was."""
    pause()
    if looks % _POLITE == _POLITE - 1:
        system(_YIELD, 0, 0, 0)
    return looks + 1


class _Team:
    """The mailboxes and threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.members = 1
        self.threads: list[ctypes.c_ulong] = []
        self.memory = np.zeros(((MOST + 1) * _BOX + _CORES_BYTES) // 8, np.int64)
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
                    begin = ctypes.byref(thread), None, ctypes.c_void_p(thread_entry()), ctypes.c_void_p(box)
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
def thread_entry() -> int:
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
