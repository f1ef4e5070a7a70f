"""The sub-commands of ``gpu-transconv``: per module, ``add(parsers)`` declares it and ``run(args)`` does it.

Here is what they share: the exception that stands for bad input, and output that is plain text where nobody
watches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def add_command(
    parsers: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str, examples: str, about: str = ""
) -> argparse.ArgumentParser:
    """Declare a sub-command; its help ends with the examples, one a line."""
    parser: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=about + example(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def example(lines: str) -> str:
    """End of a help page."""
    return "\n  ".join(("example:" if "\n" not in lines else "examples:", *lines.split("\n")))


class CommandError(Exception):
    """Bad input: its message goes to stderr as one line, and the exit code is 2."""


def make_console(*, stderr: bool = False) -> Console:
    """Console that colours and frames on a terminal only, and breaks no lines elsewhere."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    return (
        console
        if console.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=240)
    )


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = (), widest: int | None = None
) -> None:
    """Print rows under headings; the columns counted in `right` are numbers, none is wider than `widest`."""
    console = make_console()
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, show_header=any(columns))
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold", max_width=widest)
    for row in rows:
        table.add_row(*map(str, row))
    print_lines(console, table)


def print_lines(console: Console, table: Table) -> None:
    """Print a table; where nobody watches, without blanks at the ends of lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_json(values: Any) -> None:
    """Print for a script to read."""
    print(json.dumps(values, indent=2, allow_nan=False))
