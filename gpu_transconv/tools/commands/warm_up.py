"""``gpu-transconv warm-up``: compile kernels ahead, for images and clusters."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ... import backends
from ...problem.dtypes import DTYPES
from ..console import Report, make_console, print_json
from . import CommandError, Parsers, add_command

if TYPE_CHECKING:
    from ...kernels.kernel import Step

_ABOUT = """\
A dtype takes about half a minute. The machine code serves this processor and this version. It goes to the folder
that NUMBA_CACHE_DIR names, else into the package, else into the cache folder that "gpu-transconv info" prints.

With --backend cupy it compiles what gather needs on the current device, a dozen kernels for a dtype and data format:
then no shape compiles anything, unless its arrays have more than 2^30 elements. CuPy keeps the machine code.

"""


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "compile kernels ahead of the first call"
    parser = add_command(parsers, "warm-up", run, summary, "gpu-transconv warm-up --dtype float32 float16", _ABOUT)
    words = f"one or more of {', '.join(DTYPES)}; float32 unless given"
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=DTYPES, metavar="NAME", help=words)
    parser.add_argument("--backend", default="cpu", choices=("cpu", "cupy"), help="whose kernels; cpu unless given")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compile; 1 if the machine code could not be kept."""
    available = backends()[args.backend]
    if not available:
        raise CommandError(f"backend '{args.backend}' is not available: {available.reason}")
    kernels = import_module(f"...kernels.{args.backend}.warm_up", __package__)
    start = time.perf_counter()
    rows = list(_compile(kernels.steps(dict.fromkeys(args.dtype))))
    seconds, folder = time.perf_counter() - start, kernels.place()
    if args.json:
        print_json({"folder": folder, "seconds": seconds, "kernels": rows})
    else:
        print(f"{len(rows)} kernels ready after {seconds:.1f} s, kept in {folder or 'no folder'}")
    return 0 if folder else 1


def _compile(steps: Sequence[Step]) -> Iterator[Report]:
    """Take the steps behind a progress bar, which only a terminal shows."""
    console = make_console(stderr=True)
    columns = (TextColumn("{task.description:30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(steps))
        for step in steps:
            progress.update(task, description=f"{step.kernel} {step.dtype}")
            start = time.perf_counter()
            step.run()
            yield {"kernel": step.kernel, "dtype": step.dtype, "seconds": time.perf_counter() - start}
            progress.advance(task)
