"""Numba's threading layer: chosen so that concurrent callers and forked children both work, and used as it is.

Of Numba's layers only TBB survives both; PyPI's `tbb` wheel puts its library where the loader does not look, so it is
loaded here by its path. Without TBB the kernels use Numba's own workqueue, which survives a fork but not two callers
at once. The first parallel function of the process settles the layer, and that may be another library's. So what
counts is the layer in force: `parallel_region` lets one caller at a time into the workqueue, and `thread_count` is 1
where a fork has broken GNU's OpenMP.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel

from ....settings import most_threads
from .openmp import OpenMP

#: The layers by the names that NUMBA_THREADING_LAYER takes, with their modules; then the names of groups of them.
LAYERS = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
GROUPS = ("default", "safe", "threadsafe", "forksafe")
_LIBRARIES = ("lib/libtbb.so.12", "lib/libtbb.12.dylib", "Library/bin/tbb12.dll")


def _settled() -> str | None:
    """The layer in force, or None."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


class _Process:
    """What a fork changes."""

    def __init__(self) -> None:
        self.one_at_a_time = threading.RLock()
        forked = multiprocessing.parent_process() and multiprocessing.get_start_method(allow_none=True) == "fork"
        self.openmp_is_broken = bool(forked) and _settled() == "omp"
        self.has_openmp = True


_process = _Process()


@lru_cache(maxsize=1)
def choose_layer() -> None:
    """Load TBB and make Numba use it, or its workqueue; a choice of the user's and a layer in force are left alone."""
    for library in _LIBRARIES:
        path = Path(sys.prefix, library)
        if path.exists():
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    chosen = str(numba.config.THREADING_LAYER).lower() != "default"
    if chosen or list(LAYERS) != numba.config.THREADING_LAYER_PRIORITY or _settled():
        return
    try:
        import_module("numba.np.ufunc.tbbpool")  # fails unless TBB can be loaded
    except ImportError:
        numba.config.THREADING_LAYER = "workqueue"
    else:
        numba.config.THREADING_LAYER = "tbb"


@lru_cache(maxsize=1)
def layer() -> str:
    """Name of the layer in force: tbb, omp or workqueue. Where none is yet, it is settled now."""
    choose_layer()
    numba.get_num_threads()
    name = str(numba.threading_layer())
    if name == "tbb":
        _finish_first_task()
    return name


def _finish_first_task() -> None:
    """Wait for the empty task with which Numba starts TBB's threads.

    On a single processor there is no thread to run it, a fork drops it, and Numba then waits for it when the process
    ends, for ever. Here the calling thread runs it.
    """
    tbb = import_module("numba.np.ufunc.tbbpool")
    ctypes.CFUNCTYPE(None)(tbb.synchronize)()


def must_be_serial() -> bool:
    """Whether entering a parallel kernel would end the process: OpenMP of GNU's kind was used before a fork."""
    return _process.openmp_is_broken


def thread_count() -> int:
    """Threads that a kernel may use: as many as `use` allows, else as many as Numba is set to in this thread."""
    count = _counter()
    if _process.openmp_is_broken:
        return 1
    asked = most_threads()
    return int(count()) if asked is None else min(asked, numba.config.NUMBA_NUM_THREADS)


@lru_cache(maxsize=1)
def _counter() -> Callable[[], int]:
    """What tells Numba's number of threads, without the two locks that its public function takes in every call."""
    layer()
    counter: Callable[[], int] = getattr(parallel, "_get_num_threads", None) or numba.get_num_threads
    return counter


class _Followed(threading.local):
    """The number of threads that `follow_threads` was last called with on a thread, and whose they are."""

    count: int | None = None
    openmp: OpenMP | None = None


_followed = _Followed()


def follow_threads(count: int, openmp: OpenMP | None = None) -> None:
    """Let the calling thread's kernels use that many threads from now on, or all that there are where these are fewer.

    They are those of `openmp`, or Numba's. Nothing happens while the count is that of the last call, so that a number
    set through Numba afterwards stays.
    """
    _followed.openmp = openmp
    if _followed.count != count:
        layer()
        numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))
        _followed.count = count


def current_openmp() -> OpenMP | None:
    """The OpenMP whose threads the calling thread's kernels use; a forked process has none."""
    return _followed.openmp if _process.has_openmp else None


def parallel_region() -> AbstractContextManager[object]:
    """Context in which a parallel kernel may be entered, with as many threads as `use` allows."""
    alone = _process.one_at_a_time if layer() == "workqueue" else nullcontext()
    return alone if most_threads() is None else _limited(alone)


@contextmanager
def _limited(alone: AbstractContextManager[object]) -> Iterator[None]:
    """Set Numba's number of threads, which is that of the calling thread, and set it back."""
    before, wanted = numba.get_num_threads(), thread_count()
    with alone:
        numba.set_num_threads(wanted)
        try:
            yield
        finally:
            numba.set_num_threads(before)


def _after_fork_in_child() -> None:
    """Replace the locks that threads may hold which are not here any more, and remember what a fork breaks."""
    global_compiler_lock._lock = threading.RLock()
    parallel._backend_init_thread_lock = threading.RLock()  # taken in every call of get_num_threads
    _process.one_at_a_time = threading.RLock()
    _process.openmp_is_broken = _settled() == "omp"
    _process.has_openmp = False


if hasattr(os, "register_at_fork"):
    # A compilation that a fork cuts in two would leave the child half of Numba's tables: the fork waits for its end.
    # The lock's own methods run no Python code, in which an interrupt would be lost.
    os.register_at_fork(
        before=global_compiler_lock._lock.acquire,
        after_in_parent=global_compiler_lock._lock.release,
        after_in_child=_after_fork_in_child,
    )
