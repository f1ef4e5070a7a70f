"""``gpu-transconv tune``: measure the implementations on layers, and keep the fastest for this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ... import ConvTranspose
from ...dispatch import store
from ...dispatch.limits import device_limits
from ...dispatch.measure_limits import measure
from ...dispatch.select import select
from ...problem.arguments import DATA_FORMATS
from ...problem.dtypes import DTYPES
from ...settings import AUTO, resolve
from ..bench.compare import watched
from ..bench.layers import Layer, choose_layers, make_problem
from ..console import Report, print_json, print_table
from . import CommandError, Parsers, add_command

EXAMPLES = "gpu-transconv tune fsrcnn_x3\ngpu-transconv tune my_layers.json --seconds 0.5"
#: Dtypes that are measured, the usual one first.
FLOATS = sorted((name for name in DTYPES if "float" in name), key="float32".__ne__)
#: What such a file looks like; docs/layers.md has every field.
LAYER_FILE = """a JSON file of layers is a list of objects like this one:
  {"name": "mine", "cin": 64, "cout": 32, "spatial": [32, 32], "kernel": [4, 4], "stride": [2, 2], "padding": [1, 1]}
  n (the batch) and groups are 1 unless given, stride and dilation 1, padding and output_padding 0, on every axis

"""


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "measure the implementations on layers, and keep the fastest"
    parser = add_command(parsers, "tune", run, summary, EXAMPLES, LAYER_FILE)
    add_layer_options(parser, seconds=1.0)
    parser.add_argument("--export", type=Path, metavar="FILE", help="write all results to a file, and measure nothing")
    parser.add_argument("--import", type=Path, metavar="FILE", dest="taken", help="add the results of such a file")


def add_layer_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Declare what ``tune`` and ``bench`` share."""
    parser.add_argument(
        "layers", nargs="*", metavar="LAYER", help="shipped layer, or JSON file of layers; all shipped ones if none"
    )
    parser.add_argument("--layers", dest="file", metavar="FILE", help="JSON file of layers, as below")
    parser.add_argument("--max-gmac", type=float, default=4.0, metavar="G", help="leave larger layers out (4)")
    parser.add_argument("--seconds", type=float, default=seconds, metavar="S", help=f"for each layer ({seconds:g})")
    parser.add_argument("--dtype", default="float32", choices=FLOATS, metavar="NAME", help=_one_of(FLOATS))
    parser.add_argument(
        "--data-format", default=DATA_FORMATS[0], choices=DATA_FORMATS, metavar="NAME", help=_one_of(DATA_FORMATS)
    )
    parser.add_argument("--backend", metavar="NAME", help="of the package; auto unless given")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names)}; default: {names[0]}"


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
    settings = resolve(args.backend or AUTO)
    before = select(problem.plan, settings).implementation.name
    operator = ConvTranspose(
        problem.weight, problem.bias, **layer.geometry, data_format=args.data_format, backend=args.backend or AUTO
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
