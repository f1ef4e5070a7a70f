"""One line in the log when the kernels' compilation keeps a caller waiting."""

from __future__ import annotations

import logging
import threading
import time

#: Seconds of compiling, of all kernels together, after which the line is written.
PATIENCE = 2.0
_log = logging.getLogger("gpu_transconv")


class _Clock:
    """Seconds spent so far, and what is being compiled; Numba compiles in one thread at a time."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.said = False
        self.outermost: object | None = None
        self.started = 0.0
        self.timer: threading.Timer | None = None


_clock = _Clock()


def compiling(who: object) -> None:
    """Start the clock; a kernel that another one calls is compiled within its time."""
    if _clock.outermost is not None or _clock.said:
        return
    _clock.outermost, _clock.started = who, time.perf_counter()
    _clock.timer = threading.Timer(max(0.0, PATIENCE - _clock.spent), _say)
    _clock.timer.daemon = True
    _clock.timer.start()


def finished(who: object) -> None:
    """Stop the clock."""
    if _clock.outermost is who:
        if _clock.timer is not None:
            _clock.timer.cancel()
        _clock.spent += time.perf_counter() - _clock.started
        _clock.outermost = _clock.timer = None


def _say() -> None:
    _clock.said = True
    # At this level it shows, on stderr, where nothing about logging was configured: the program would seem to hang.
    _log.warning(
        "compiling CPU kernels; for a dtype that is new on this machine it takes up to twenty seconds, once "
        '("gpu-transconv warm-up" does it ahead)'
    )


def say_nothing() -> None:
    """Write no line, for who shows in another way that time passes."""
    _clock.said = True
