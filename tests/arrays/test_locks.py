"""No lock of the package survives a fork."""

from __future__ import annotations

import os
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gpu_transconv as gtc
from gpu_transconv.arrays.locks import ProcessLock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child():
    lock, held, done = ProcessLock(), threading.Event(), threading.Event()

    def hold():
        with lock(), lock():
            held.set()
            done.wait()

    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings():
        pool.submit(hold)
        held.wait()
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads, which is what is tested
        if (child := os.fork()) == 0:
            os._exit(0 if lock().acquire(timeout=10) else 1)
        done.set()
        assert os.waitpid(child, 0)[1] == 0
    assert lock() is lock()


def test_no_lock_of_the_package_survives_a_fork():
    package = Path(gtc.__file__).parent
    made = {path.name for path in package.rglob("*.py") if re.search(r"threading\.R?Lock\(\)", path.read_text())}
    assert made == {"locks.py", "team.py", "threads.py"}  # which replace theirs
