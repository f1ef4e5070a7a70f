"""``gpu-transconv demo``: detect a feature in a picture, generate it back, check, and draw."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import Progress

from ...settings import resolve
from ..console import Report, make_console, print_json, print_table
from ..demo.detect import SHARE, Picture, Result, demonstrate, normalise
from . import CommandError, Parsers, add_command

T = TypeVar("T")
SAMPLE = "grace_hopper.jpg"
NEEDED = ("matplotlib", "PIL", "scipy")


def add(parsers: Parsers) -> None:
    """Declare the sub-command."""
    summary = "detect a feature in a picture, generate it back, write the figures"
    parser = add_command(parsers, "demo", run, summary, "gpu-transconv demo my_picture.jpg -o figures")
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="any image file; default: a photograph")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo_figures"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--size", type=int, default=160, metavar="N", help="scale down to N pixels; default: %(default)s"
    )
    words = "part of the responses that is kept, the strongest; default: %(default)s"
    parser.add_argument("--keep", type=float, default=SHARE, metavar="SHARE", help=words)
    parser.add_argument("--all", action="store_true", help="write the figures and films of all explaining pages too")
    parser.add_argument("--json", action="store_true", help="print the checks and the paths as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; 1 if a check fails."""
    _check(args)
    source, grey, original = _read(args)
    with _writable(args.output):
        args.output.mkdir(parents=True, exist_ok=True)
    steps = (demonstrate(picture, args.keep) for picture in (grey - grey.mean(),))
    try:
        (result,) = _watched("painting (compiles on first use)", steps, 1)
    except MemoryError:
        raise CommandError(f"not enough memory at --size {args.size}; choose a smaller one") from None
    draw = import_module("..demo.draw", __package__).draw
    with _writable(args.output):
        paths = _watched("drawing", draw(args.output, grey, result), 3)
        if args.all:
            pages = import_module("..demo.gallery", __package__)
            count = len(pages.figures(grey, result))
            paths += _watched("drawing all", pages.draw_all(args.output, grey, result), count)
    report = _report(source, original, result, paths)
    if args.json:
        print_json(report)
    else:
        _print(report)
    return 0 if report["passed"] else 1


def _check(args: argparse.Namespace) -> None:
    try:
        for name in NEEDED:
            import_module(name)
    except ImportError as error:
        words = 'pip install matplotlib pillow scipy (or, in a checkout, pip install ".[demo]")'
        raise CommandError(f"the demo needs {error.name or error}: {words}") from None
    if args.size < 1:
        raise CommandError(f"--size must be at least 1, got {args.size}")
    if not 0 < args.keep <= 1:
        raise CommandError(f"--keep must be a number above 0 and up to 1, got {args.keep}")
    try:
        resolve()
    except ValueError as error:  # a setting in the environment
        raise CommandError(str(error)) from None


def _read(args: argparse.Namespace) -> tuple[Path, Picture, tuple[int, int]]:
    sample = import_module("matplotlib.cbook").get_sample_data
    source = args.image or Path(sample(SAMPLE, asfileobj=False))
    try:
        values, original = import_module("..demo.picture", __package__).read_grey(source, args.size)
    except OSError as error:
        raise CommandError(f"cannot read {source}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    return source, normalise(values), original


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror or error}") from None


def _watched(label: str, steps: Iterable[T], total: int) -> list[T]:
    """Take the steps behind a progress bar, which only a terminal shows."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        return list(steps)
    with Progress(console=console, transient=True) as progress:
        return list(progress.track(steps, total=total, description=label))


def _report(source: Path, original: tuple[int, int], result: Result, paths: list[Path]) -> Report:
    checks = [
        {
            "check": check.name,
            "difference": check.difference if math.isfinite(check.difference) else None,
            "allowed": check.allowed,
            "passed": check.passed,
        }
        for check in result.checks
    ]
    return {
        "image": str(source),
        "image_size": original[::-1],
        "size": result.picture.shape[::-1],
        "responses": result.responses.size,
        "kept": int(np.count_nonzero(result.kept)),
        "likeness": result.likeness,
        "passed": all(check["passed"] for check in checks),
        "checks": checks,
        "figures": [str(path) for path in paths],
    }


def _print(report: Report) -> None:
    (width, height), (columns, rows) = report["image_size"], report["size"]
    scaled = "" if (width, height) == (columns, rows) else f", scaled down to {columns} x {rows} (--size)"
    print(f"{report['image']}: {width} x {height} pixels{scaled}")
    print(f"{report['kept']:,} of {report['responses']:,} responses of four filters are kept")
    like = f"correlation with the picture's own detail {report['likeness']:.2f}"
    print(f"painted back: {like if report['kept'] else 'nothing, the picture is even'}")
    print()
    rows_ = [
        (c["check"], _short(c["difference"]), _short(c["allowed"]), "ok" if c["passed"] else "FAILED")
        for c in report["checks"]
    ]
    print_table(("check", "largest difference", "allowed", ""), rows_, right=(1, 2))
    print()
    for path in report["figures"]:
        print(path)


def _short(number: float | None) -> str:
    return "not a number" if number is None else f"{number:.2g}"
