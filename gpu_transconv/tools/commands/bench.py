"""``gpu-transconv bench``: the package on layers of yours on this machine, against the libraries that are installed."""

from __future__ import annotations

import argparse

from ..bench.comparison import compare
from ..bench.options import LAYER_FILE, add_options, choose
from ..console import make_console, print_json
from . import CommandError, Parsers, add_command

EXAMPLES = "gpu-transconv bench fsrcnn_x3 dcgan_l1 --contenders prepared,function,torch"


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "time layers, against the other libraries that are installed"
    parser = add_command(parsers, "bench", run, summary, EXAMPLES, LAYER_FILE)
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Measure; 1 if a result was wrong."""
    try:
        chosen = choose(args)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    found = compare(args, chosen, None if args.json else make_console())
    if args.json:
        print_json(found)
    return 1 if found["summary"]["wrong"] else 0
