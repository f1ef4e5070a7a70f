"""The machine that a comparison ran on: its peaks, its versions, and how busy it was."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ...dispatch import measure_limits
from ...dispatch.device import cpu_name, usable_cores
from ...dispatch.limits import DeviceLimits
from ...problem.plan import Plan
from ..console import Report

_OTHERS = ("torch", "onnxruntime", "openvino", "ncnn", "ai-edge-litert")
_PACKAGES = ("gpu_transconv", "numpy", "numba", "llvmlite", "tbb", *_OTHERS)


def measure_machine(threads: int, copy_bytes: int = 2**28, tries: int = 7) -> Report:
    """Name the machine and measure its peaks with `threads` threads.

    Returns
    -------
    dict
        What `identify` finds, ``peak_gflops`` per dtype, how each was reached, ``copy_gb_per_s``, bytes read plus
        bytes written, and ``busy``, the share of the cores' time that other processes took just before.
        The half types without a peak of their own have float32's, in which the package computes them.
    """
    busy = _busy_share()
    ways = measure_limits.peak_ways(threads, tries)
    found = measure_limits.measure_cpu(threads, ways, copy_bytes, tries)
    return {
        **identify(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "threads": threads,
        "busy": busy,
        "peak_gflops": found.peak_gflops,
        "peak_by": ways,
        "copy_gb_per_s": found.copy_gb_per_s,
    }


def identify(cpuinfo: Path = Path("/proc/cpuinfo")) -> Report:
    """Tell what the processor is: makers sell many by one name, and a virtual machine often hides which.

    Returns
    -------
    dict
        ``cpu``, the maker's name; ``model``, its numbers ("AuthenticAMD family 25 model 17 stepping 1");
        ``cpu_target``, LLVM's name of what the kernels are compiled for; ``virtual``, whether a hypervisor runs
        the machine. None stands for what the system does not tell.
    """
    import llvmlite.binding

    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:  # not Linux
        lines = []
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [known.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping")]
    return {
        "cpu": known.get("model name") or cpu_name(),
        "model": "{} family {} model {} stepping {}".format(*numbers) if all(numbers) else None,
        "cpu_target": llvmlite.binding.get_host_cpu_name(),
        # The flag is x86's; Arm has none, and there it stays unknown.
        "virtual": "hypervisor" in known["flags"].split() if "flags" in known else None,
    }


def name_machine(machine: Report) -> str:
    """Name a processor with what its maker's name leaves out."""
    kind = {True: "virtual machine", False: "bare metal"}.get(machine.get("virtual"))  # type: ignore[arg-type]
    more = ", ".join(filter(None, (machine.get("cpu_target"), kind)))
    return f"{machine['cpu']} ({more})" if more else str(machine["cpu"])


def make_heading(machine: Report, packages: Mapping[str, str] | None = None) -> Report:
    """Begin a file of results: when, at which commit, on which machine and with which versions it was measured."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    packages = versions() if packages is None else packages
    return {"schema": 2, "date": date, "commit": commit(), "machine": dict(machine), "versions": dict(packages)}


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """Name the commit of the checkout that `folder` lies in, with "+" where files were changed; None outside of one."""
    try:
        found, changed = (
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
        # An installed copy may lie inside a checkout of something else.
        subprocess.run(["git", "-C", str(folder), "ls-files", "--error-unmatch", "."], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.strip() + "+" * bool(changed.strip())


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that take part."""
    found = {"python": platform.python_version()}
    found |= {package.name: package.version for package in metadata.distributions() if package.name in _PACKAGES}
    return found


def roofline_seconds(plan: Plan, machine: Report) -> tuple[float, str]:
    """Least time the machine needs for a plan, and whether operations (compute) or bytes (memory) set it."""
    return DeviceLimits("cpu", 1, machine["peak_gflops"], machine["copy_gb_per_s"], 0.0).roofline(plan)


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
