"""The machine that a comparison ran on: its peaks, its versions, and how busy it was."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import peaks
from ..machine import Figures, cpu_name, usable_cores

_PACKAGES = ("gpu_transconv", "numpy", "numba", "llvmlite", "tbb", "torch", "onnxruntime", "openvino")


def measure_machine(threads: int, copy_bytes: int = 2**28, tries: int = 7) -> dict[str, Any]:
    """Name the machine and measure its peaks with `threads` threads.

    Returns
    -------
    dict
        ``peak_gflops`` per dtype, how each was reached, ``copy_gb_per_s``, bytes read plus bytes written, and
        ``busy``, the share of the cores' time that other processes took just before.
        The half types have float32's peak, in which the package computes them; a machine with half-precision
        products of its own can pass it.
    """
    busy = _busy_share()
    ways = peaks.peak_ways(threads, tries)
    found = peaks.measure_cpu(threads, ways, copy_bytes, tries)
    return {
        "cpu": cpu_name(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "threads": threads,
        "busy": busy,
        "peak_gflops": found.peak_gflops,
        "peak_by": ways,
        "copy_gb_per_s": found.copy_gb_per_s,
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that take part."""
    found = {"python": platform.python_version()}
    found |= {package.name: package.version for package in metadata.distributions() if package.name in _PACKAGES}
    return found


def roofline_seconds(plan: Any, machine: dict[str, Any]) -> tuple[float, str]:
    """Least time the machine needs for a plan, and whether operations (compute) or bytes (memory) set it."""
    return Figures("cpu", 1, machine["peak_gflops"], machine["copy_gb_per_s"], 0.0).roofline(plan)


def _busy_share(seconds: float = 0.3) -> float | None:
    def used_and_all() -> tuple[int, int]:
        words = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        ticks = [int(word) for word in words[:8]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # the fourth and fifth are idle time

    try:
        used, total = used_and_all()
        time.sleep(seconds)
        used_then, total_then = used_and_all()
    except OSError:  # not Linux
        return None
    return (used_then - used) / max(1, total_then - total)
