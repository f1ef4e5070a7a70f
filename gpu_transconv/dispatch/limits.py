"""What a device can do at best: shipped limits, or those measured on it, which are kept in the cache folder.

The cost model reads them to predict times and to say which part of the limit a kernel should reach. Nothing is
measured unless somebody asks: ``gpu-transconv info --measure``, ``tune`` and ``bench`` do, by `measure_limits`.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from .. import cache_folder
from ..problem.plan import Plan
from .device import identity, threads

#: The limits of one device in the file, by the names of the fields.
Entry: TypeAlias = dict[str, Any]
_FILE = "machine.json"
#: Of the entries in that file; another number stands for another form of them.
_KEY = "figures 1"
#: What has been measured by this process, for when there is no cache folder.
_memory: dict[str, Entry] = {}


@dataclass(frozen=True)
class DeviceLimits:
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


def shipped(device: str) -> DeviceLimits:
    """Return limits for a machine that has not been measured: a middling core times their number, a middling GPU."""
    if device == "cpu":
        count = threads()
        peak = {"float32": 60.0 * count, "float64": 30.0 * count, "float16": 60.0 * count, "bfloat16": 60.0 * count}
        return DeviceLimits(device, count, peak, 20.0, 4e-6)
    peak = {"float32": 2e4, "float64": 6e2, "float16": 8e4, "bfloat16": 8e4, "tf32": 4e4}
    return DeviceLimits(device, 80, peak, 600.0, 5e-6)


@lru_cache(maxsize=8)
def device_limits(device: str = "cpu") -> DeviceLimits:
    """Return what is known of a device, "cpu" or "cuda": what was measured of it, else what is shipped."""
    found = _stored().get(identity(device))
    if found is None or not {field.name for field in fields(DeviceLimits)}.issuperset(found):  # of another version
        return shipped(device)
    return replace(shipped(device), **found)


def forget() -> None:
    """Read the file afresh."""
    device_limits.cache_clear()


def keep(device: str, measured: DeviceLimits) -> DeviceLimits:
    """Keep what was measured on a device, on disk where that can be had; returns what is known of it now."""
    stored = _stored() | {identity(device): asdict(measured)}
    _store(stored)
    _memory.update(stored)
    forget()
    return device_limits(device)


def _stored() -> dict[str, Entry]:
    path = cache_folder.folder() / _FILE
    seen = cache_folder.inode(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        stored = document[_KEY]
        for entry in stored.values():
            _check_entry(entry)
    except OSError:
        stored = {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cache_folder.set_aside(path, f"{type(error).__name__}: {error}", seen)
        stored = {}
    return {**stored, **_memory}


def _check_entry(entry: Entry) -> None:
    """Raise unless the numbers of an entry are such that times can be computed with them."""
    peaks = entry.get("peak_gflops", {"float32": 1.0})
    numbers = [entry.get("units", 1), entry.get("copy_gb_per_s", 1.0), *peaks.values()]
    if "float32" not in peaks or not all(0 < number < math.inf for number in numbers):
        raise ValueError(f"expected positive figures, got {entry}")
    if not 0 <= entry.get("launch_seconds", 0.0) < math.inf:
        raise ValueError(f"launch_seconds must be a number >= 0, got {entry['launch_seconds']}")


def _store(stored: dict[str, Entry]) -> None:
    folder = cache_folder.folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="unfinished-") as place:
            unfinished = Path(place, _FILE)
            unfinished.write_text(json.dumps({_KEY: stored}, indent=1), encoding="utf-8")
            os.replace(unfinished, folder / _FILE)
    except OSError as error:
        cache_folder.warn_once(
            f"{folder} cannot be written; figures and tuning results are kept in memory only: {error}; "
            "set GPU_TRANSCONV_CACHE_DIR to a folder that can be"
        )
