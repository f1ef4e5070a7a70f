"""Describe this machine to asv, as `asv machine` does, with its measured limits and its GPU.

::

python -m benchmarks.asv_machine --machine zen4
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from gpu_transconv.dispatch.device import threads
from gpu_transconv.tools.bench.machine import identify, measure_machine, name_machine


def limits() -> dict[str, str]:
    """Measure this machine's peaks, with one thread and with all; name its processor, GPU and driver."""
    found = {"gpu": _gpu(), "processor": name_machine(identify())}
    for count in sorted({1, threads()}):
        machine = measure_machine(count)
        name = "1 thread" if count == 1 else "all threads"
        found[f"float32 peak, {name}"] = f"{machine['peak_gflops']['float32']:.0f} GFLOP/s"
        found[f"float64 peak, {name}"] = f"{machine['peak_gflops']['float64']:.0f} GFLOP/s"
        found[f"copies, {name}"] = f"{machine['copy_gb_per_s']:.1f} GB/s"
    return found


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return "; ".join(f"{name}, driver {driver}" for name, driver in (line.rsplit(", ", 1) for line in lines)) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the machine's entry in asv's file and print it."""
    from asv.machine import Machine, MachineCollection  # asv is not there in the environments that it builds

    parser = argparse.ArgumentParser(prog="python -m benchmarks.asv_machine", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--machine", metavar="NAME", default=Machine.get_unique_machine_name())
    name = parser.parse_args(arguments).machine
    entry = Machine.get_defaults() | {"machine": name} | limits()
    MachineCollection.save(name, entry)
    for key, value in entry.items():
        print(f"{key}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
