"""The options of the commands that measure layers, and the layers and contenders that they choose."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ...problem.arguments import DATA_FORMATS
from ...problem.dtypes import DTYPES
from ...settings import AUTO, HIGHEST, PRECISIONS, resolve
from .contenders import OURS, Build, kernels, ours
from .layers import Layer, load_layers, random_layers, shipped, small_layers
from .libraries import PEERS

#: Dtypes that are measured, the usual one first.
FLOATS = sorted((name for name in DTYPES if "float" in name), key="float32".__ne__)
#: What a file of layers looks like; docs/speed/layers.md has every field.
LAYER_FILE = """a JSON file of layers is a list of objects like this one:
  {"name": "mine", "cin": 64, "cout": 32, "spatial": [32, 32], "kernel": [4, 4], "stride": [2, 2], "padding": [1, 1]}
  n (the batch) and groups are 1 unless given, stride and dilation 1, padding and output_padding 0, on every axis

"""
_Known = TypeVar("_Known")


def add_layer_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Declare which layers are measured, and how; for every command that measures some."""
    add = parser.add_argument
    add("names", nargs="*", metavar="LAYER", help="shipped layer, or JSON file of layers; all shipped ones if none")
    add("--layers", type=Path, metavar="FILE", help="JSON file of layers, as docs/speed/layers.md describes it")
    add("--only", type=names_in, metavar="NAME[,NAME]", help="only these of the layers")
    add("--max-gmac", type=float, default=4.0, metavar="G", help="leave larger layers out (4)")
    add("--seconds", type=float, default=seconds, metavar="S", help=f"for each layer ({seconds:g})")
    add("--dtype", default=FLOATS[0], choices=FLOATS, metavar="NAME", help=_one_of(FLOATS))
    add("--data-format", default=DATA_FORMATS[0], choices=DATA_FORMATS, metavar="NAME", help=_one_of(DATA_FORMATS))
    add("--backend", default=AUTO, metavar="NAME", help="of the package (%(default)s)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare all options of a comparison but where its results go."""
    add_layer_options(parser, seconds=3.0)
    add = parser.add_argument
    add("--random", type=int, metavar="N", help="N random layers around those instead")
    add("--small", type=int, metavar="N", help="N random layers with few inputs and many weights instead")
    add("--seed", type=int, default=0, metavar="N", help="of the random layers and of all contents (0)")
    add("--precision", default=HIGHEST, choices=PRECISIONS, metavar="NAME", help=_one_of(PRECISIONS))
    add("--statistic", default="min", choices=("min", "median"), help="that ratios use (min)")
    add("--contenders", type=names_in, metavar="NAME[,NAME]", help=f"of {', '.join((*OURS, *PEERS))}")
    add("--no-peers", action="store_true", help="the package alone")
    add("--own", action="store_true", help="gather, scatter and what auto picks, instead")


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names)}; default: {names[0]}"


def names_in(text: str) -> list[str]:
    """Split a list at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def choose(options: argparse.Namespace) -> tuple[list[Layer], dict[str, Build]]:
    """Return the layers and contenders that the options of `add_options` ask for.

    Raises
    ------
    OSError, ValueError
        If there is no layer, file, contender or backend of a name, or no layer is left.
    """
    resolve(options.backend)
    builds = kernels(options.backend) if options.own else ours(options.backend)
    if not (options.own or options.no_peers):
        builds |= PEERS
    if options.contenders:
        builds = _pick(builds, options.contenders, "contender")
    if options.small is not None:
        return small_layers(options.small, options.seed), builds
    if options.random is None:
        return choose_layers(options), builds
    return random_layers(options.random, options.seed, _listed(options), options.max_gmac), builds


def choose_layers(options: argparse.Namespace) -> list[Layer]:
    """Return the layers that the options of `add_layer_options` ask for, and say which are left out.

    Those of more than `max_gmac` thousand million multiplications are, unless they are asked for by name.

    Raises
    ------
    OSError, ValueError
        If there is no layer or file of a name, or none is left.
    """
    named = {*options.names, *(options.only or ())}
    layers = _listed(options)
    kept = [layer for layer in layers if layer.gmac <= options.max_gmac or layer.name in named]
    if not kept:
        raise ValueError(f"no layer of up to {options.max_gmac:g} GMAC is left")
    if len(kept) < len(layers):
        left_out = ", ".join(layer.name for layer in layers if layer not in kept)
        print(f"larger than {options.max_gmac:g} GMAC and left out: {left_out}", file=sys.stderr)
    return kept


def _listed(options: argparse.Namespace) -> list[Layer]:
    words: Iterable[str | Path] = [*options.names, *filter(None, [options.layers])]
    layers: list[Layer] = []
    for word in words or shipped():
        if word in shipped():
            layers.append(shipped()[str(word)])
        elif isinstance(word, Path) or word.endswith(".json"):
            layers += load_layers(Path(word))
        else:
            raise ValueError(f"no layer is called {word!r}, and it is no JSON file; there are {', '.join(shipped())}")
    return (
        list(_pick({layer.name: layer for layer in layers}, options.only, "layer").values()) if options.only else layers
    )


def _pick(known: Mapping[str, _Known], names: Iterable[str], what: str) -> dict[str, _Known]:
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} is called {name!r}; there are {', '.join(known)}")
    return {name: known[name] for name in names}
