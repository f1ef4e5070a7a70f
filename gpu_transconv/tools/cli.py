"""The command line: ``gpu-transconv`` and ``python -m gpu_transconv``.

Exit codes: 0, 1 where a check of the command's own fails, 2 with one line on stderr where the input is bad.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from .. import BackendUnavailableError, __version__
from .commands import CommandError, example

PROGRAM = "gpu-transconv"
COMMANDS = ("demo", "info", "explain", "bench", "tune", "warm-up")
DESCRIPTION = "Transposed convolution as an operator: explained, measured and tuned."


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, _line(message))


def make_parser() -> argparse.ArgumentParser:
    """Parser of the whole command line; ``args.run(args)`` does the work."""
    parser = _Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=example(f"{PROGRAM} demo my_picture.jpg\n{PROGRAM} bench --help"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in COMMANDS:
        import_module(f".commands.{name.replace('-', '_')}", __package__).add(parsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0, or 1 where a check fails, or 2 where the input is bad.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        code = args.run(args)
        sys.stdout.flush()
    except (CommandError, BackendUnavailableError) as error:
        sys.stderr.write(_line(str(error)))
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return int(code)


def _line(message: str) -> str:
    return f"{PROGRAM}: error: {' '.join(message.split())}\n"
