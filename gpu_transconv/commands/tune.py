"""``gpu-transconv tune``: measure the implementations on layers, and keep the fastest for this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import dispatch, machine, records
from ..bench.compare import watched
from ..bench.layers import Layer, choose_layers, make_problem
from ..layer import ConvTranspose
from ..params import DATA_FORMATS
from ..plan import DTYPES
from ..settings import AUTO, resolve
from . import CommandError, print_json, print_table


def add(parsers: Any) -> None:
    """Declare the sub-command."""
    parser = parsers.add_parser("tune", help="measure the implementations on layers, and keep the fastest")
    add_layer_options(parser, seconds=1.0)
    parser.add_argument("--export", type=Path, metavar="FILE", help="write all results to a file, and measure nothing")
    parser.add_argument("--import", type=Path, metavar="FILE", dest="taken", help="add the results of such a file")
    parser.set_defaults(run=run)


def add_layer_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Declare what ``tune`` and ``bench`` share."""
    parser.add_argument(
        "layers", nargs="*", metavar="LAYER", help="shipped layer, or JSON file of layers; all shipped ones if none"
    )
    parser.add_argument(
        "--layers", dest="file", metavar="FILE", help="JSON file of layers, as in gpu_transconv/bench/layers.json"
    )
    parser.add_argument("--max-gmac", type=float, default=4.0, metavar="G", help="leave larger layers out (4)")
    parser.add_argument("--seconds", type=float, default=seconds, metavar="S", help=f"for each layer ({seconds:g})")
    parser.add_argument("--dtype", default="float32", choices=[n for n in DTYPES if "float" in n], metavar="NAME")
    parser.add_argument("--data-format", default=DATA_FORMATS[0], choices=DATA_FORMATS, metavar="NAME")
    parser.add_argument("--backend", metavar="NAME", help="of the package; auto unless given")
    parser.add_argument("--json", action="store_true", help="print JSON")


def chosen_layers(args: argparse.Namespace) -> list[Layer]:
    """Layers that were asked for; raises `CommandError`."""
    try:
        resolve(args.backend or AUTO)
        return choose_layers([*args.layers, *filter(None, [args.file])], args.max_gmac)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    """Measure, or only export or import."""
    if args.export or args.taken:
        return _move(args)
    layers = chosen_layers(args)
    if not machine.figures().measured:
        machine.measure()
        dispatch.choose_afresh()
    found = [_tune(layer, args) for layer in watched(layers)]
    if args.json:
        print_json({"database": str(records.database()), "layers": found})
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
    print(f"\nkept in {records.database()}")
    return 0


def _tune(layer: Layer, args: argparse.Namespace) -> dict[str, Any]:
    problem = make_problem(layer, args.dtype, args.data_format)
    settings = resolve(args.backend or AUTO)
    before = dispatch.select(problem.plan, settings).implementation.name
    operator = ConvTranspose(
        problem.weight, problem.bias, **layer.geometry, data_format=args.data_format, backend=args.backend or AUTO
    )
    seconds = operator.tune(problem.x, seconds=args.seconds)
    fastest = dispatch.select(problem.plan, settings).implementation.name
    gain = seconds[before] / seconds[fastest] - 1
    return {"layer": layer.name, "fastest": fastest, "before": before, "gain": gain, "seconds": seconds}


def _move(args: argparse.Namespace) -> int:
    counts = {}
    try:
        if args.taken:
            counts["imported"] = records.import_file(args.taken)
        if args.export:
            counts["exported"] = records.export(args.export)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from None
    if args.json:
        print_json(counts)
    else:
        print(", ".join(f"{word} the results of {count} problems" for word, count in counts.items()))
    return 0
