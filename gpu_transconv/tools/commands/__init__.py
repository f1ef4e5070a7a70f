"""The sub-commands of ``gpu-transconv``: per module, ``add(parsers)`` declares it and ``run(args)`` does it.

Here is how one is declared, and the exception that stands for bad input.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

#: What sub-commands are added to.
Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    parsers: Parsers, name: str, run: Callable[[argparse.Namespace], int], summary: str, examples: str, about: str = ""
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
