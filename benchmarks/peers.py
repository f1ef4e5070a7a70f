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

from gpu_transconv.dispatch.device import usable_cores
from gpu_transconv.tools.bench.comparison import Document, compare
from gpu_transconv.tools.bench.options import add_options, choose
from gpu_transconv.tools.console import make_console

ROOT = Path(__file__).resolve().parents[1]

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
        return run(options)
    environment = os.environ | {_CHILD: "1"} | {name: str(options.threads) for name in _THREAD_VARIABLES}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run([sys.executable, "-m", "benchmarks.peers", *arguments], env=environment).returncode


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line: that of ``gpu-transconv bench``, and what else this can do."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.split("\n", 1)[0])
    add_options(parser)
    parser.set_defaults(backend="cpu")
    parser.add_argument("--threads", type=_positive, default=usable_cores(), help="of every library (all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions and rows")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a PNG (needs matplotlib)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure in this process; 0 if every result was right, 1 if one was wrong, 2 for bad options."""

    def keep(document: Document) -> None:
        if options.json:
            options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    try:
        chosen = choose(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = compare(options, chosen, make_console(), keep)
    if options.picture:
        from .charts import draw

        draw(found["rows"], found["machine"], options.dtype, options.picture)
    return 1 if found["summary"]["wrong"] else 0


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
