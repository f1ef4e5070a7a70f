"""Numba's threading layer, chosen so that concurrent callers and forked children both work.

Of Numba's layers only TBB survives both; PyPI's `tbb` wheel puts its library where the loader does not
look, so it is loaded here by its path. Without TBB the kernels use Numba's own workqueue, which survives a
fork but not two callers at once; `parallel_region` then lets one caller in at a time.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any

import numba

_one_at_a_time = RLock()
_LIBRARIES = ("lib/libtbb.so.12", "lib/libtbb.12.dylib", "Library/bin/tbb12.dll")


@lru_cache(maxsize=1)
def choose_layer() -> str:
    """Load TBB and make Numba use it, or its workqueue; a layer that the user chose is left alone."""
    if numba.config.THREADING_LAYER != "default":
        return str(numba.config.THREADING_LAYER)
    for library in _LIBRARIES:
        path = Path(sys.prefix, library)
        if path.exists():
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    try:
        import_module("numba.np.ufunc.tbbpool")  # fails unless TBB can be loaded
    except ImportError:
        numba.config.THREADING_LAYER = "workqueue"
        return "workqueue"
    numba.config.THREADING_LAYER = "tbb"
    return "tbb"


def parallel_region() -> AbstractContextManager[Any]:
    """Context in which a parallel kernel may be entered."""
    return nullcontext() if choose_layer() in ("tbb", "safe", "threadsafe", "omp", "forksafe") else _one_at_a_time
