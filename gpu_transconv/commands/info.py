"""``gpu-transconv info``: what runs here, and with which settings."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from .. import __version__
from ..dispatch import backends
from ..settings import resolve
from . import CommandError, print_json, print_table


def add(parsers: Any) -> None:
    """Declare the sub-command."""
    parser = parsers.add_parser("info", help="print versions, machine, backends and settings")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Collect and print."""
    try:
        facts = collect()
    except ValueError as error:  # a setting in the environment
        raise CommandError(str(error)) from None
    if args.json:
        print_json(facts)
        return 0
    rows = [(name.replace("_", " "), value) for name, value in facts.items() if not isinstance(value, dict)]
    print_table(("", ""), rows)
    print()
    print_table(("backend", ""), [(name, reason or "available") for name, reason in facts["backends"].items()])
    print()
    print_table(("setting", ""), facts["settings"].items())
    return 0


def collect() -> dict[str, Any]:
    """What ``--json`` prints; of a backend the reason why it is missing, or None."""
    import llvmlite.binding
    import numba

    settings, threads = resolve(), vars(numba.config)
    return {
        "gpu_transconv": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "cpu": cpu_name(),
        "cpu_target": llvmlite.binding.get_host_cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads["NUMBA_NUM_THREADS"],
        "threading_layer": threads["THREADING_LAYER"],
        "cache": cache_folder(),
        "backends": {name: status.reason for name, status in backends().items()},
        "settings": {
            "backend": settings.backend,
            "formulation": settings.formulation,
            "deterministic": settings.deterministic,
            "precision": settings.precision,
        },
    }


def cache_folder() -> str:
    """Where tuning results are kept."""
    return os.environ.get("GPU_TRANSCONV_CACHE_DIR") or user_cache_dir("gpu_transconv", appauthor=False)


def cpu_name() -> str:
    """The processor's name as its maker writes it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
