"""The sub-commands of ``gpu-transconv``: per module, ``add(parsers)`` declares it and ``run(args)`` does it.

Here is what they share: the exception that stands for bad input, and output that is plain text where nobody
watches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


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


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print rows under headings; the columns counted in `right` are numbers."""
    console = make_console()
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False, show_header=any(columns))
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def print_json(values: Any) -> None:
    """Print for a script to read."""
    print(json.dumps(values, indent=2, allow_nan=False))
