"""A comparison of contenders on layers, from its options to its report; every command that makes one calls this."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ...dispatch.device import threads
from ...settings import use
from ..console import print_lines
from .contenders import Build
from .layers import Layer
from .machine import make_heading, measure_machine, name_machine
from .measure import Conditions, measure_rows
from .report import Row, describe, left_out, make_table, summarise

#: Share of the cores' time that other processes take, above which a reader is warned; chosen, not measured.
_BUSY = 0.1
#: A file of results.
Document = dict[str, Any]


def compare(
    options: argparse.Namespace,
    chosen: tuple[list[Layer], dict[str, Build]],
    console: Console | None = None,
    keep: Callable[[Document], None] | None = None,
) -> Document:
    """Measure what `choose` made of the options of `add_options`, and print it where there is a console.

    Returns
    -------
    dict
        What `make_heading` says, ``options``, ``summary`` and ``rows``. `keep` gets it after every
        layer too, so that an interrupted run is not lost.
    """
    layers, builds = chosen
    machine = measure_machine(threads())
    if console:
        _print_conditions(console, machine, options.dtype)
    rows: list[Row] = []
    document: Document = make_heading(machine) | {"options": _plain(options), "summary": summarise(rows), "rows": rows}
    how = Conditions(options.dtype, options.data_format, options.seconds, options.statistic, options.seed)
    with use(precision=options.precision):
        for row in measure_rows(layers, builds, machine, how):
            rows.append(row)
            document["summary"] = summarise(rows)
            if keep:
                keep(document)
    if console:
        print_lines(console, make_table(rows, list(builds), options.statistic))
        console.print()
        for line in (*left_out(rows), *describe(document["summary"])):
            console.print(line)
    return document


def _print_conditions(console: Console, machine: Report, dtype: str) -> None:
    console.print(
        f"{name_machine(machine)}, threads: {threads()}, {dtype} peak: {machine['peak_gflops'][dtype]:.0f} GFLOP/s, "
        f"copies: {machine['copy_gb_per_s']:.1f} GB/s"
    )
    if (machine["busy"] or 0) > _BUSY:
        console.print(
            f"other processes take {machine['busy']:.0%} of the cores: expect noise, not figures", style="red"
        )


def _plain(options: argparse.Namespace) -> dict[str, object]:
    """Options as JSON has them, without what the command line keeps beside them."""
    values = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    return {key: value for key, value in values.items() if not callable(value)}
