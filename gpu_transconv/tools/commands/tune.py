"""``gpu-transconv tune``: measure the implementations on layers, and keep the fastest for this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from ... import ConvTranspose
from ...dispatch import store
from ...dispatch.limits import device_limits
from ...dispatch.measure_limits import measure
from ...dispatch.select import select
from ...settings import resolve
from ..bench.layers import Layer, make_problem
from ..bench.measure import watched
from ..bench.options import LAYER_FILE, add_layer_options, choose_layers
from ..console import Report, print_json, print_table
from . import CommandError, Parsers, add_command

EXAMPLES = "gpu-transconv tune fsrcnn_x3\ngpu-transconv tune my_layers.json --seconds 0.5"


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "measure the implementations on layers, and keep the fastest"
    parser = add_command(parsers, "tune", run, summary, EXAMPLES, LAYER_FILE)
    add_layer_options(parser, seconds=1.0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write all results to a file, and measure nothing")
    parser.add_argument("--import", type=Path, metavar="FILE", dest="taken", help="add the results of such a file")


def run(args: argparse.Namespace) -> int:
    """Measure, or only export or import."""
    if args.export or args.taken:
        return _move(args)
    try:
        resolve(args.backend)
        layers = choose_layers(args)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    if not device_limits().measured:
        measure()
    found = [_tune(layer, args) for layer in watched(layers)]
    if args.json:
        print_json({"database": str(store.database()), "layers": found})
        return 0
    rows = [
        (row["layer"], row["fastest"], f"{row['seconds'][row['fastest']] * 1e3:.3g}", row["before"], row["gain"])
        for row in found
    ]
    print_table(
        ("layer", "fastest", "ms", "auto took", "which was slower by"),
        [(*row[:4], f"{row[4]:.0%}") for row in rows],
        right=(2, 4),
    )
    print(f"\nkept in {store.database()}")
    return 0


def _tune(layer: Layer, args: argparse.Namespace) -> Report:
    problem = make_problem(layer, args.dtype, args.data_format)
    settings = resolve(args.backend)
    before = select(problem.plan, settings).implementation.name
    operator = ConvTranspose(
        problem.weight, problem.bias, **layer.geometry, data_format=args.data_format, backend=args.backend
    )
    seconds = operator.tune(problem.x, seconds=args.seconds)
    fastest = select(problem.plan, settings).implementation.name
    gain = seconds[before] / seconds[fastest] - 1
    return {"layer": layer.name, "fastest": fastest, "before": before, "gain": gain, "seconds": seconds}


def _move(args: argparse.Namespace) -> int:
    counts = {}
    try:
        if args.taken:
            counts["imported"] = store.import_file(args.taken)
        if args.export:
            counts["exported"] = store.export(args.export)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    if args.json:
        print_json(counts)
    else:
        print(", ".join(f"{word} the results of {count} problems" for word, count in counts.items()))
    return 0
