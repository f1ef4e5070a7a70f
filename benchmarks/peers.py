"""Compare the package with other libraries, layer by layer, in one process.

Every result is checked before it is timed; a wrong one gets no speed, and the exit status is then 1. ::

    python -m benchmarks.peers                                   # the shipped layers up to 4 GMAC, all cores
    python -m benchmarks.peers --threads 1 --json out.json --picture out.png
    python -m benchmarks.peers --random 20 --seed 7 --contenders prepared,torch
    python -m benchmarks.peers --own                             # the package's formulations alone
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("float32", "float64", "float16", "bfloat16")

#: Libraries read these when they are first imported, so each number of threads is a process of its own.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_CHILD = "GPU_TRANSCONV_BENCHMARK_CHILD"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run it in a child process with the number of threads set."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser().parse_args(arguments)
    if os.environ.get(_CHILD):
        import gpu_transconv as gtc

        with gtc.use(precision=options.precision):
            return run(options)
    environment = os.environ | {_CHILD: "1"} | {name: str(options.threads) for name in _THREAD_VARIABLES}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run([sys.executable, "-m", "benchmarks.peers", *arguments], env=environment).returncode


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.split("\n", 1)[0])
    layers = parser.add_argument_group("layers")
    layers.add_argument("--layers", type=Path, metavar="FILE", help="JSON list of layers (default: the shipped ones)")
    layers.add_argument("--max-gmac", type=float, default=4.0, metavar="G", help="skip larger layers (default: 4)")
    layers.add_argument("--only", type=_names, metavar="NAME[,NAME]", help="only these layers")
    layers.add_argument("--random", type=int, metavar="N", help="N random layers around those in the file instead")
    layers.add_argument("--seed", type=int, default=0, help="of the random layers and of all contents")
    how = parser.add_argument_group("measurement")
    how.add_argument("--threads", type=_positive, default=_cores(), help="of every library (default: all cores)")
    how.add_argument("--dtype", choices=DTYPES, default="float32")
    how.add_argument("--data-format", choices=("channels_first", "channels_last"), default="channels_first")
    how.add_argument("--precision", choices=("highest", "fast"), default="highest", help="of the package")
    how.add_argument("--seconds", type=float, default=3.0, help="time per layer (default: 3)")
    how.add_argument("--statistic", choices=("min", "median"), default="min", help="that ratios use")
    who = parser.add_argument_group("contenders")
    who.add_argument("--contenders", type=_names, metavar="NAME[,NAME]", help="only these")
    who.add_argument("--no-peers", action="store_true", help="the package alone")
    who.add_argument("--own", action="store_true", help="the formulations and what auto picks, instead of all others")
    who.add_argument("--backend", default="cpu", help="of the package (default: cpu)")
    results = parser.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and rows")
    results.add_argument("--picture", type=Path, metavar="FILE", help="write a PNG (needs matplotlib)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure in this process; 0 if every result was right, 1 if one was wrong, 2 for bad options."""
    from rich.console import Console

    from gpu_transconv.tools.bench.machine import make_heading, measure_machine, name_machine
    from gpu_transconv.tools.bench.report import describe, left_out, make_table, summarise

    try:
        layers, builds = _choose_layers(options), _choose_contenders(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 200)
    machine = measure_machine(options.threads)
    console.print(
        f"{name_machine(machine)}, threads: {options.threads}, {options.dtype} peak: "
        f"{machine['peak_gflops'][options.dtype]:.0f} GFLOP/s, copies: {machine['copy_gb_per_s']:.1f} GB/s"
    )
    if (machine["busy"] or 0) > 0.1:
        console.print(
            f"other processes take {machine['busy']:.0%} of the cores: expect noise, not figures", style="red"
        )
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    document = make_heading(machine) | {"options": settings}
    rows: list[dict[str, Any]] = []
    for row in _measure(layers, builds, machine, options):
        rows.append(row)
        document |= {"summary": summarise(rows), "rows": rows}
        if options.json:  # after every layer, so that an interrupted run is not lost
            options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    console.print(make_table(rows, list(builds), options.statistic))
    summary = summarise(rows)
    for line in (*left_out(rows), *describe(summary)):
        console.print(line)
    if options.picture:
        from .charts import draw

        draw(rows, machine, options.dtype, options.picture)
    return 1 if summary["wrong"] else 0


def _measure(layers: Any, builds: Any, machine: Any, options: argparse.Namespace) -> Any:
    from gpu_transconv.tools.bench.compare import Conditions, measure_rows

    how = Conditions(
        options.threads, options.dtype, options.data_format, options.seconds, options.statistic, options.seed
    )
    return measure_rows(layers, builds, machine, how)


def _choose_layers(options: argparse.Namespace) -> Any:
    from gpu_transconv.tools.bench.layers import REAL_LAYERS, load_layers, random_layers

    layers = load_layers(options.layers or REAL_LAYERS)
    if options.only:
        layers = _pick({layer.name: layer for layer in layers}, options.only, "layer")
    if options.random is not None:
        return random_layers(options.random, options.seed, layers, options.max_gmac)
    kept = [layer for layer in layers if layer.gmac <= options.max_gmac]
    if len(kept) < len(layers):
        skipped = ", ".join(layer.name for layer in layers if layer.gmac > options.max_gmac)
        print(f"larger than {options.max_gmac:g} GMAC and skipped: {skipped}", file=sys.stderr)
    if not kept:
        raise ValueError("no layer is left to measure")
    return kept


def _choose_contenders(options: argparse.Namespace) -> Any:
    from gpu_transconv.tools.bench import contenders, libraries

    builds = contenders.kernels(options.backend) if options.own else contenders.ours(options.backend)
    if not (options.own or options.no_peers):
        builds |= libraries.PEERS
    if options.contenders:
        picked = _pick(builds, options.contenders, "contender")
        builds = dict(zip(options.contenders, picked, strict=True))
    return builds


def _pick(known: dict[str, Any], names: Sequence[str], what: str) -> list[Any]:
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} is called {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
