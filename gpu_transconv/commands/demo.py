"""``gpu-transconv demo``: detect a feature in a picture, generate it back, check, and draw."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress

from ..demo import THRESHOLD, Picture, Result, demonstrate, normalise, strokes
from ..settings import resolve
from . import CommandError, add_command, make_console, print_json, print_table

T = TypeVar("T")
SAMPLE = "grace_hopper.jpg"
NEEDED = ("matplotlib", "PIL", "scipy")


def add(parsers: Any) -> None:
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
    words = "responses up to T are dropped; default: %(default)s, a full diagonal gives 3"
    parser.add_argument("--threshold", type=float, default=THRESHOLD, metavar="T", help=words)
    parser.add_argument("--json", action="store_true", help="print the checks and the paths as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; 1 if a check fails."""
    _check(args)
    source, grey, original = _read(args)
    with _writable(args.output):
        args.output.mkdir(parents=True, exist_ok=True)
    seen = strokes(grey)
    steps = (demonstrate(seen, args.threshold, stride) for stride in (1, 2))
    try:
        results = tuple(_watched("painting (compiles on first use)", steps, 2))
    except MemoryError:
        raise CommandError(f"not enough memory at --size {args.size}; choose a smaller one") from None
    draw = import_module("..figures", __package__).draw
    with _writable(args.output):
        paths = _watched("drawing", draw(args.output, grey, seen, results, args.threshold), 4)
    facts = _facts(source, original, grey, args.threshold, results, paths)
    if args.json:
        print_json(facts)
    else:
        _print(facts, results)
    return 0 if facts["passed"] else 1


def _check(args: argparse.Namespace) -> None:
    try:
        for name in NEEDED:
            import_module(name)
    except ImportError as error:
        raise CommandError(f'the demo needs {error.name or error}: pip install "gpu_transconv[demo]"') from None
    if args.size < 1:
        raise CommandError(f"--size must be at least 1, got {args.size}")
    if not (math.isfinite(args.threshold) and args.threshold >= 0):
        raise CommandError(f"--threshold must be a number >= 0, got {args.threshold}")
    try:
        resolve()
    except ValueError as error:  # a setting in the environment
        raise CommandError(str(error)) from None


def _read(args: argparse.Namespace) -> tuple[Path, Picture, tuple[int, int]]:
    sample = import_module("matplotlib.cbook").get_sample_data
    source = args.image or Path(sample(SAMPLE, asfileobj=False))
    try:
        values, original = import_module("..picture", __package__).read_grey(source, args.size)
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


def _facts(
    source: Path,
    original: tuple[int, int],
    grey: Picture,
    threshold: float,
    results: Iterable[Result],
    paths: list[Path],
) -> dict[str, Any]:
    checks = [
        {
            "stride": result.stride,
            "check": check.name,
            "difference": check.difference if math.isfinite(check.difference) else None,
            "allowed": check.allowed,
            "passed": check.passed,
        }
        for result in results
        for check in result.checks
    ]
    return {
        "image": str(source),
        "image_size": original[::-1],
        "size": grey.shape[::-1],
        "threshold": threshold,
        "passed": all(check["passed"] for check in checks),
        "checks": checks,
        "figures": [str(path) for path in paths],
    }


def _print(facts: dict[str, Any], results: Iterable[Result]) -> None:
    (width, height), (columns, rows) = facts["image_size"], facts["size"]
    scaled = "" if (width, height) == (columns, rows) else f", scaled down to {columns} x {rows} (--size)"
    print(f"{facts['image']}: {width} x {height} pixels{scaled}")
    for result in results:
        kept, strongest = int((result.kept > 0).sum()), float(result.features.max())
        counts = f"{kept:,} of {result.kept.size:,} responses exceed {facts['threshold']:g}"
        hint = "" if kept else f"; the strongest is {strongest:.3g}, lower --threshold to see some"
        print(f"stride {result.stride}: {counts}{hint}")
    print()
    rows_ = [
        (
            c["stride"],
            c["check"],
            _short(c["difference"]),
            _short(c["allowed"]),
            "ok" if c["passed"] else "FAILED",
        )
        for c in facts["checks"]
    ]
    print_table(("stride", "check", "largest difference", "allowed", ""), rows_, right=(0, 2, 3))
    print()
    for path in facts["figures"]:
        print(path)


def _short(number: float | None) -> str:
    return "not a number" if number is None else f"{number:.2g}"
