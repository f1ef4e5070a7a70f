"""``gpu-transconv bench``: the package on layers of yours on this machine, against the libraries that are installed."""

from __future__ import annotations

import argparse

from ...dispatch.device import threads
from ...settings import AUTO
from ..bench import contenders, libraries
from ..bench.compare import Conditions, measure_rows
from ..bench.machine import make_heading, measure_machine, name_machine
from ..bench.report import describe, left_out, make_table, summarise
from ..console import make_console, print_json, print_lines
from . import CommandError, Parsers, add_command
from .tune import LAYER_FILE, add_layer_options, chosen_layers

EXAMPLES = "gpu-transconv bench fsrcnn_x3 dcgan_l1 --contenders prepared,function,torch"


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "time layers, against the other libraries that are installed"
    parser = add_command(parsers, "bench", run, summary, EXAMPLES, LAYER_FILE)
    add_layer_options(parser, seconds=3.0)
    parser.add_argument(
        "--contenders", metavar="NAME[,NAME]", help=f"of {', '.join((*contenders.OURS, *libraries.PEERS))}"
    )
    parser.add_argument("--no-peers", action="store_true", help="the package alone")
    parser.add_argument("--own", action="store_true", help="gather, scatter and what auto picks, instead")


def run(args: argparse.Namespace) -> int:
    """Measure; 1 if a result was wrong."""
    layers, builds = chosen_layers(args), _contenders(args)
    machine = measure_machine(threads())
    how = Conditions(threads(), args.dtype, args.data_format, args.seconds)
    rows = list(measure_rows(layers, builds, machine, how))
    summary = summarise(rows)
    if args.json:
        print_json({**make_heading(machine), "summary": summary, "rows": rows})
        return 1 if summary["wrong"] else 0
    console = make_console()
    console.print(
        f"{name_machine(machine)}, threads: {threads()}, "
        f"{args.dtype} peak: {machine['peak_gflops'][args.dtype]:.0f} GFLOP/s, "
        f"copies: {machine['copy_gb_per_s']:.1f} GB/s"
    )
    if (machine["busy"] or 0) > 0.1:
        console.print(f"other processes take {machine['busy']:.0%} of the cores: expect noise, not figures")
    print_lines(console, make_table(rows, list(builds), how.statistic))
    console.print()
    for line in (*left_out(rows), *describe(summary)):
        console.print(line)
    return 1 if summary["wrong"] else 0


def _contenders(args: argparse.Namespace) -> dict[str, contenders.Build]:
    backend = args.backend or AUTO
    builds = contenders.kernels(backend) if args.own else contenders.ours(backend)
    if not (args.own or args.no_peers):
        builds |= libraries.PEERS
    if not args.contenders:
        return builds
    names = [name.strip() for name in args.contenders.split(",")]
    unknown = [name for name in names if name not in builds]
    if unknown:
        raise CommandError(f"no contender is called {unknown[0]!r}; there are {', '.join(builds)}")
    return {name: builds[name] for name in names}
