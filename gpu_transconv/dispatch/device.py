"""The device that kernels run on: its name, its cores and the threads in use; nothing is measured."""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path


def usable_cores() -> int:
    """Number of cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's name as its maker writes it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def threads() -> int:
    """Threads of the CPU kernels: Numba's number, without importing Numba for it."""
    word = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(word) if word.isascii() and word.isdecimal() and int(word) else usable_cores()


def identity(device: str) -> str:
    """Name a device as far as its speed goes."""
    if device == "cpu":
        return f"{cpu_name()}, {threads()} threads"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return "Numba's simulator"
    try:  # not by CuPy or Numba, of which one may be missing; the bindings come with either
        cuda = import_module("cuda.bindings.runtime")
        return str(cuda.cudaGetDeviceProperties(cuda.cudaGetDevice()[1])[1].name.decode())
    except Exception:  # no bindings, or no device
        return _cupy_name()


def _cupy_name() -> str:
    try:  # where there is a CUDA device, its backend has been imported
        cupy = sys.modules["cupy"]
        return str(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode())
    except Exception:  # an old CuPy, or none
        return "cuda"
