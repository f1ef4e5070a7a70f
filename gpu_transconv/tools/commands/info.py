"""``gpu-transconv info``: what runs here, how fast the machine is, and with which settings."""

from __future__ import annotations

import argparse
import platform
import sys
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version

from ... import __version__, backends, cache_folder
from ...dispatch import store
from ...dispatch.device import cpu_name, usable_cores
from ...dispatch.limits import device_limits
from ...dispatch.measure_limits import measure
from ...kernels.registry import AUTO_BACKENDS
from ...settings import resolve
from ..console import Report, print_json, print_table
from . import CommandError, Parsers, add_command


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "print versions, machine, backends and settings"
    parser = add_command(parsers, "info", run, summary, "gpu-transconv info --measure")
    parser.add_argument("--measure", action="store_true", help="measure the machine first, and keep its figures")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Collect and print."""
    if args.measure:
        for device in _devices():
            measure(device)
    try:
        report = collect()
    except ValueError as error:  # a setting in the environment
        raise CommandError(str(error)) from None
    if args.json:
        print_json(report)
        return 0
    single = {name: value for name, value in report.items() if not isinstance(value, dict | list)}
    print_table(("", ""), [(_title(name), "none" if value is None else value) for name, value in single.items()])
    print()
    print_table(("device", "figures", "float32 GFLOP/s", "copies GB/s", "launch us"), _limits(report), right=(2, 3, 4))
    print()
    print_table(
        ("backend", ""), [(name, reason or "available") for name, reason in report["backends"].items()], widest=80
    )
    print()
    print_table(
        ("setting", ""), [(name, "not set" if value is None else value) for name, value in report["settings"].items()]
    )
    return 0


def _title(name: str) -> str:
    """Names of packages stay as they are."""
    return name if name in sys.modules else name.replace("_", " ")


def collect() -> Report:
    """What ``--json`` prints; of a backend the reason why it is missing, or None."""
    import llvmlite.binding
    import numba

    settings = resolve()
    return {
        "gpu_transconv": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "cpu": cpu_name(),
        "cpu_target": llvmlite.binding.get_host_cpu_name(),
        "cores": usable_cores(),
        "threads": vars(numba.config)["NUMBA_NUM_THREADS"],
        "threading_layer": _threading_layer(),
        "cache": str(cache_folder.folder()),
        "tuned_problems": store.count(),
        "figures": [asdict(device_limits(device)) for device in _devices()],
        "backends": {name: status.reason for name, status in backends().items()},
        "settings": {
            "backend": settings.backend,
            "formulation": settings.formulation,
            "deterministic": settings.deterministic,
            "precision": settings.precision,
        },
    }


def _threading_layer() -> str | None:
    if not backends()["cpu"]:
        return None
    return str(import_module("...kernels.cpu.runtime.threads", __package__).layer())


def _devices() -> list[str]:
    """Devices that some backend can run on."""
    return [device for device, names in AUTO_BACKENDS.items() if any(backends()[name] for name in names)]


def _limits(report: Report) -> list[tuple[object, ...]]:
    return [
        (
            limits["device"],
            "measured" if limits["measured"] else "shipped",
            f"{limits['peak_gflops']['float32']:.4g}",
            f"{limits['copy_gb_per_s']:.3g}",
            f"{limits['launch_seconds'] * 1e6:.2g}",
        )
        for limits in report["figures"]
    ]
