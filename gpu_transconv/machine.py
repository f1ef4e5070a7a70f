"""What a machine can do at best: shipped figures, or those measured on it, which are kept in the cache folder.

The cost model reads them to predict times and to say which part of the limit a kernel should reach. Nothing is
measured unless somebody asks: ``gpu-transconv info --measure``, ``tune`` and ``bench`` do.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from . import cache
from .problem.plan import Plan

_FILE = "machine.json"
_KEY = "figures 1"


@dataclass(frozen=True)
class Figures:
    """Speed limits of a device.

    `peak_gflops` holds operations per dtype, and ``"tf32"``; a multiplication and an addition are two. Bytes
    of `copy_gb_per_s` are read or written. `units` counts threads or multiprocessors.
    """

    device: str
    units: int
    peak_gflops: dict[str, float]
    copy_gb_per_s: float
    launch_seconds: float
    measured: bool = False

    def peak(self, plan: Plan) -> float:
        """Operations per second that the device could do in a plan's dtype; a complex product is four."""
        name = "tf32" if plan.precision == "tf32" else plan.dtype
        real, share = {
            "complex64": ("float32", 0.25),
            "complex128": ("float64", 0.25),
            "int32": ("float32", 0.25),
            "int64": ("float64", 0.25),
        }.get(name, (name, 1.0))
        return self.peak_gflops.get(real, self.peak_gflops["float32"]) * share * 1e9

    def roofline(self, plan: Plan) -> tuple[float, str]:
        """Least seconds that a plan needs, and whether operations (compute) or bytes (memory) set them."""
        compute, memory = plan.flops / self.peak(plan), plan.bytes / (self.copy_gb_per_s * 1e9)
        return (compute, "compute") if compute >= memory else (memory, "memory")


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


def shipped(device: str) -> Figures:
    """Return figures for a machine that has not been measured: a middling core times their number, a middling GPU."""
    if device == "cpu":
        count = threads()
        peak = {"float32": 60.0 * count, "float64": 30.0 * count, "float16": 60.0 * count, "bfloat16": 60.0 * count}
        return Figures(device, count, peak, 20.0, 4e-6)
    peak = {"float32": 2e4, "float64": 6e2, "float16": 8e4, "bfloat16": 8e4, "tf32": 4e4}
    return Figures(device, 80, peak, 600.0, 5e-6)


@lru_cache(maxsize=8)
def figures(device: str = "cpu") -> Figures:
    """Return what is known of a device, "cpu" or "cuda": measured figures where there are some."""
    found = _stored().get(identity(device))
    if found is None or not {field.name for field in fields(Figures)}.issuperset(found):  # of another version
        return shipped(device)
    return replace(shipped(device), **found)


def measure(device: str = "cpu") -> Figures:
    """Measure a device, and keep the figures on disk; about three seconds."""
    if device == "cpu":
        found = import_module(".peaks", __package__).measure_cpu(threads())
    else:
        found = import_module(".peaks", __package__).measure_cuda(shipped(device))
    stored = _stored() | {identity(device): asdict(found)}
    _store(stored)
    figures.cache_clear()
    _memory.update(stored)
    return figures(device)


#: What has been measured by this process, for when there is no cache folder.
_memory: dict[str, Any] = {}


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
    cupy: Any = sys.modules.get("cupy")  # where there is a CUDA device, its backend has been imported
    try:
        return str(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode())
    except Exception:  # an old CuPy, or none
        return "cuda"


def _stored() -> dict[str, Any]:
    path = cache.folder() / _FILE
    seen = cache.inode(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stored = document[_KEY]
        for entry in stored.values():
            _check_figures(entry)
    except OSError:
        stored = {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cache.set_aside(path, f"{type(error).__name__}: {error}", seen)
        stored = {}
    return {**stored, **_memory}


def _check_figures(entry: dict[str, Any]) -> None:
    """Raise unless the numbers of an entry are such that times can be computed with them."""
    peaks = entry.get("peak_gflops", {"float32": 1.0})
    numbers = [entry.get("units", 1), entry.get("copy_gb_per_s", 1.0), *peaks.values()]
    if "float32" not in peaks or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"expected positive figures, got {entry}")
    if not 0 <= entry.get("launch_seconds", 0.0) < math.inf:
        raise ValueError(f"launch_seconds must be a number >= 0, got {entry['launch_seconds']}")


def _store(stored: dict[str, Any]) -> None:
    folder = cache.folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="unfinished-") as place:
            unfinished = Path(place, _FILE)
            unfinished.write_text(json.dumps({_KEY: stored}, indent=1), encoding="utf-8")
            os.replace(unfinished, folder / _FILE)
    except OSError as error:
        cache.warn_once(
            f"{folder} cannot be written; figures and tuning results are kept in memory only: {error}; "
            "set GPU_TRANSCONV_CACHE_DIR to a folder that can be"
        )
