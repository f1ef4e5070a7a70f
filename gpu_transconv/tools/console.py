"""Output of the commands: coloured and framed on a terminal, plain text where nobody watches, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table

#: What a command prints with --json: names, and values that JSON has.
Report: TypeAlias = dict[str, Any]


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


def print_json(values: Mapping[str, object]) -> None:
    """Print for a script to read."""
    print(json.dumps(values, indent=2, allow_nan=False))
