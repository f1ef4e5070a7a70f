"""A lock that does not survive a fork: what holds it in the parent does not exist in the child."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager


class ProcessLock:
    """A lock of its own in every process; ``with lock():`` holds it, and may do so again inside."""

    def __init__(self) -> None:
        self._locks: dict[int, AbstractContextManager[bool]] = {}

    def __call__(self) -> AbstractContextManager[bool]:
        """Return the lock of this process."""
        process = os.getpid()
        return self._locks.get(process) or self._locks.setdefault(process, threading.RLock())
