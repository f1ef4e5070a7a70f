"""Two machines, or two commits, side by side, each as a fraction of its own roofline.

Each is a name in benchmarks/results, a file that `peers`, `gpu_check` or asv wrote, or a commit that asv has measured::

    python -m benchmarks.compare amd-epyc-zen4-1-thread amd-epyc-zen4-2-threads --picture compare.png
    python -m benchmarks.compare main HEAD
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpu_transconv.tools.bench.report import geometric_mean

from .documents import RESULTS, Speed, read_asv, read_groups, speeds_of

ROOT = Path(__file__).resolve().parents[1]


class Side(NamedTuple):
    """One of the two: its title, and the package's speeds by layer."""

    title: str
    speeds: Mapping[str, Speed]


def read_side(word: str, asv_results: Path) -> Side:
    """Find and read what a word of the command line means.

    Raises
    ------
    ValueError
        If it is none of the possible things, or a commit with results from several machines or environments.
    """
    path = next((path for path in (RESULTS / f"{word}.json", Path(word)) if path.is_file()), None)
    if path is None:
        path = _of_commit(word, asv_results)
    if "result_columns" in json.loads(path.read_text(encoding="utf-8")):
        return Side(f"{path.parent.name}, {path.stem}", read_asv(path))
    groups = read_groups(path)
    return Side(groups[0].device if groups else path.stem, speeds_of(groups))


def _of_commit(word: str, asv_results: Path) -> Path:
    done = subprocess.run(["git", "rev-parse", "-q", "--verify", word], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        names = ", ".join(sorted(path.stem for path in RESULTS.glob("*.json")))
        raise ValueError(f"{word!r} is no file, no commit, and none of the results {names}")
    found = sorted(asv_results.glob(f"*/{done.stdout[:8]}-*.json"))
    if not found:
        raise ValueError(f"asv has no results of {word} ({done.stdout[:8]}) in {asv_results}")
    if len(found) > 1:
        raise ValueError(f"asv has several results of {word}; give one: {', '.join(map(str, found))}")
    return found[0]


def make_table(left: Side, right: Side) -> Any:
    """Make one line per layer that both have, and the geometric means."""
    from rich.table import Table

    table = Table(title=f"A: {left.title}\nB: {right.title}", header_style="bold")
    table.add_column("layer", no_wrap=True)
    for title in ("A, GFLOP/s", "A, of roofline", "B, GFLOP/s", "B, of roofline", "B / A, of roofline"):
        table.add_column(title, justify="right")
    pairs = pairs_of(left, right)
    for name, (a, b) in pairs.items():
        ratio = b.fraction / a.fraction
        colour = "green" if ratio > 1.1 else "red" if ratio < 1 / 1.1 else "white"
        speeds = (f"{a.gflops:.3g}", f"{a.fraction:.0%}", f"{b.gflops:.3g}", f"{b.fraction:.0%}")
        table.add_row(name, *speeds, f"[{colour}]{ratio:.2f}[/]")
    means = [geometric_mean([pair[side].fraction for pair in pairs.values()]) or 0.0 for side in (0, 1)]
    table.add_section()
    table.add_row("geometric mean", "", f"{means[0]:.0%}", "", f"{means[1]:.0%}", f"{means[1] / means[0]:.2f}")
    return table


def pairs_of(left: Side, right: Side) -> dict[str, tuple[Speed, Speed]]:
    """Return the layers that both sides have.

    Raises
    ------
    ValueError
        If there is none.
    """
    common = [name for name in left.speeds if name in right.speeds]
    if not common:
        raise ValueError(f"{left.title} and {right.title} have no layer in common")
    return {name: (left.speeds[name], right.speeds[name]) for name in common}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, draw the picture; 2 for bad input."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.split("\n", 1)[0])
    parser.add_argument("left", metavar="A")
    parser.add_argument("right", metavar="B")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a PNG (needs matplotlib)")
    parser.add_argument("--asv-results", type=Path, default=ROOT / ".asv" / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        left, right = (read_side(word, options.asv_results) for word in (options.left, options.right))
        table = make_table(left, right)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table)
    for side, other in ((left, right), (right, left)):
        alone = [name for name in side.speeds if name not in other.speeds]
        if alone:
            console.print(f"only in {side.title}: {', '.join(alone)}", highlight=False)
    if options.picture:
        from .charts import draw_pairs

        draw_pairs((left.title, right.title), pairs_of(left, right), options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
