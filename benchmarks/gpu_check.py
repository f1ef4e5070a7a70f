"""Prove and measure the package on this machine's CUDA GPU, in one command and under eight minutes.

::

    python -m benchmarks.gpu_check

First `pytest -m gpu`. Then every layer of gpu_transconv/tools/bench/layers.json in float32, TF32, float16 and bfloat16
and in both data formats: gather, scatter and auto against PyTorch with cuDNN, with its heuristic choice and with
its own search, in the same precision. Each result is checked before it is timed, by the device's events, over input
buffers that take turns and together pass the cache. Writes benchmarks/results/<device>.json after every row; what
time does not reach is listed. Needs PyTorch with CUDA, and the package's GPU extra.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_transconv.tools.bench.layers import REAL_LAYERS, Layer, load_layers
from gpu_transconv.tools.bench.machine import identify, make_heading
from gpu_transconv.tools.bench.options import names_in

from .gpu_measure import DATA_FORMATS, OURS, PEERS, PRECISIONS, Budget, Task, first_line, measure

RESULTS = Path(__file__).with_name("results")
_ROOT = Path(__file__).resolve().parents[1]
#: The largest part of all time that the tests may take.
_TEST_SHARE = 0.4
#: The largest part of what is left then, that compiling ahead may take.
_COMPILE_SHARE = 0.4
#: Channels first comes first, and within it the precisions that networks run in.
_ORDER = ("float16", "tf32", "float32", "bfloat16")


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=_positive, default=460.0, help="for everything (default: 460)")
    parser.add_argument("--layers", type=Path, default=REAL_LAYERS, metavar="FILE", help="JSON list of layers")
    parser.add_argument(
        "--max-gmac", type=_positive, default=80.0, metavar="G", help="skip larger layers (default: 80)"
    )
    parser.add_argument("--only", type=names_in, metavar="NAME[,NAME]", help="only these layers")
    parser.add_argument("--precisions", type=names_in, default=list(_ORDER), metavar="NAME[,NAME]")
    parser.add_argument("--data-formats", type=names_in, default=list(DATA_FORMATS), metavar="NAME[,NAME]")
    parser.add_argument("--backend", choices=("cupy", "numba-cuda"), default="cupy")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: benchmarks/results/<device>.json")
    return parser


def choose_tasks(options: argparse.Namespace) -> list[Task]:
    """List what is to be measured, most important first.

    Raises
    ------
    ValueError
        If a layer, precision or data format is not known, or none is left.
    """
    layers = [layer for layer in load_layers(options.layers) if layer.gmac <= options.max_gmac]
    known: dict[str, Layer] = {layer.name: layer for layer in layers}
    wanted = options.only or list(known)
    for names, valid, what in (
        (wanted, known, "layer"),
        (options.precisions, PRECISIONS, "precision"),
        (options.data_formats, DATA_FORMATS, "data format"),
    ):
        unknown = [name for name in names if name not in valid]
        if unknown or not names:
            raise ValueError(f"expected {what} among {', '.join(valid)}, got {', '.join(unknown) or 'none'}")
    return [
        Task(known[name], precision, data_format)
        for data_format in options.data_formats
        for precision in options.precisions
        for name in wanted
    ]


def run_tests(seconds: float, backend: str) -> dict[str, Any]:
    """Run `pytest -m gpu` for at most `seconds`; its status and last line."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-header"]
    started = time.monotonic()
    environment = os.environ | {"GPU_TRANSCONV_TEST_BACKENDS": backend}  # missing is then failed, not skipped
    try:
        done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"status": "stopped", "note": f"not finished after {seconds:.0f} s", "seconds": seconds}
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    status = {0: "passed", 5: "none"}.get(done.returncode, "failed")
    output = done.stdout[-8000:] if status == "failed" else ""
    return {"status": status, "note": lines[-1], "seconds": time.monotonic() - started, "output": output}


def slug(device: str) -> str:
    """File name of a device."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def check(
    device: Any, machine: dict[str, Any], document: dict[str, Any], tasks: Sequence[Task], budget: Budget, out: Path
) -> dict[str, Any]:
    """Measure all tasks that time allows, write the document after each, and return its summary."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .gpu_report import complete, summarise

    rows: list[dict[str, Any]] = []
    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        bar = progress.add_task("", total=len(tasks))
        for row in measure(device, tasks, budget, (*OURS, *PEERS)):
            rows.append(complete(row, machine))
            text = f"{row['layer']} {row['precision']} {row['data_format']}"
            progress.update(bar, advance=1, description=text, refresh=True)
            if row["contenders"] or len(rows) == len(tasks):
                document |= {"summary": summarise(rows), "rows": rows}
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    summary: dict[str, Any] = document["summary"]
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; 0 if tests passed and every result was right, 1 if not, 2 for bad options or no GPU."""
    options = make_parser().parse_args(arguments)
    budget = Budget(options.seconds)
    try:
        tasks = choose_tasks(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        from .gpu_device import CudaDevice, measure_machine, versions

        device = CudaDevice(options.backend)
        machine = measure_machine(device)
    except (ImportError, RuntimeError, AssertionError) as error:
        print(f"error: no CUDA device with PyTorch: {first_line(error)}", file=sys.stderr)
        return 2
    tests = (
        {"status": "left out", "note": ""}
        if options.no_tests
        else run_tests(_TEST_SHARE * options.seconds, options.backend)
    )
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    document = make_heading(machine | {"host": identify()}, versions()) | {"options": settings, "tests": tests}
    document["compiled"] = device.compile_ahead(tasks, _COMPILE_SHARE * budget.left)
    out = options.out or RESULTS / f"{slug(machine['device'])}.json"
    summary = check(device, machine, document, tasks, budget, out)
    return show(document, summary, out)


def show(document: dict[str, Any], summary: dict[str, Any], out: Path) -> int:
    """Print the tables and what went wrong; the exit status."""
    from rich.console import Console

    from .gpu_report import make_tables

    console = Console() if sys.stdout.isatty() else Console(width=200)
    machine, tests = document["machine"], document["tests"]
    for table in make_tables(document["rows"], summary):
        console.print(table)
    peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in machine["peak_tflops"].items())
    console.print(f"{machine['device']}: copies {machine['copy_gb_per_s']:.0f} GB/s, products in TFLOP/s: {peaks}")
    console.print(f"pytest -m gpu: {tests['status']} {tests['note']}", highlight=False, markup=False)
    broken = [f"{kernel}: {note}" for kernel, note in document.get("compiled", {}).get("failed", {}).items()]
    for line in (*broken, *summary["wrong"], *summary["failed"]):
        console.print(line, style="red", highlight=False, markup=False)
    if summary["not_reached"]:
        console.print(f"time did not reach {summary['not_reached']} of {summary['rows']} rows")
    console.print(f"written to {out}", highlight=False)
    return 1 if broken or summary["wrong"] or tests["status"] in ("failed", "stopped") else 0


def _positive(text: str) -> float:
    if not float(text) > 0:
        raise ValueError(text)
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
