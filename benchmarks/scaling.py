"""How the time of a call grows with its work, along one axis of the problem at a time.

A command as well, which prints the curves and the largest cliffs::

    python -m benchmarks.scaling
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gpu_transconv.dispatch.device import threads
from gpu_transconv.dispatch.timing import take_turns
from gpu_transconv.tools.bench.layers import Layer

from .harness import checked_call

MOST_WORK = 1000

#: 32 to 32 channels, kernel 4, stride 2: half a million operations for 64 elements.
_BASE = Layer("base", 1, 32, 32, (64,), (4,), (2,), (1,), (0,), (1,))
_NARROW = replace(_BASE, spatial=(512,))


def layer_at(axis: str, work: int) -> Layer:
    """Return the problem that has `work` times the work of the axis's first one."""
    changed: dict[str, Layer] = {
        "batch": replace(_BASE, n=work),
        "length": replace(_BASE, spatial=(64 * work,)),
        "input channels": replace(_NARROW, cin=work),
        "output channels": replace(_NARROW, cout=work),
    }
    return replace(changed[axis], name=f"{axis} x {work}")


AXES = ("batch", "length", "input channels", "output channels")


class Point(NamedTuple):
    """One problem of a curve: work relative to the first, seconds, and operations."""

    work: int
    seconds: float
    flops: int

    @property
    def cost(self) -> float:
        """Seconds per unit of work."""
        return self.seconds / self.work


class Cliff(NamedTuple):
    """Where a unit of work becomes dearer, and how much."""

    ratio: float
    cheap: int
    dear: int


def steps(count: int = 16) -> list[int]:
    """Return about `count` whole numbers from 1 to 1000, evenly spaced by their logarithms."""
    return sorted({round(MOST_WORK ** (i / (count - 1))) for i in range(count)})


def measure_axis(axis: str, works: Sequence[int], seconds: float) -> list[Point]:
    """Measure the prepared operator at every amount of work; the minimum of calls in turns.

    Raises
    ------
    AssertionError
        If a result is wrong.
    """
    layers = {work: layer_at(axis, work) for work in works}
    times = take_turns({str(work): checked_call("auto", layer) for work, layer in layers.items()}, seconds)
    return [Point(work, min(times[str(work)]), layer.plan().flops) for work, layer in layers.items()]


def largest_cliff(points: Sequence[Point]) -> Cliff:
    """Find the two problems of which the larger one costs most per unit of work, compared with the smaller one."""
    pairs = [(small, large) for i, small in enumerate(points) for large in points[i + 1 :]]
    small, large = max(pairs, key=lambda pair: pair[1].cost / pair[0].cost)
    return Cliff(large.cost / small.cost, small.work, large.work)


def main() -> int:
    """Measure all axes and print them."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=120)
    curves = {
        axis: measure_axis(axis, steps(25), 6.0)
        for axis in track(AXES, console=Console(stderr=True), disable=not sys.stderr.isatty())
    }
    table = Table(title=f"microseconds (GFLOP/s) by work, {threads()} threads", header_style="bold")
    for title in ("work", *AXES):
        table.add_column(title, justify="right")
    for points in zip(*curves.values(), strict=True):
        table.add_row(str(points[0].work), *map(_cell, points))
    console.print(table)
    for axis, curve in curves.items():
        cliff = largest_cliff(curve)
        console.print(f"{axis}: a unit of work at {cliff.dear} costs {cliff.ratio:.2f} times that at {cliff.cheap}")
    return 0


def _cell(point: Any) -> str:
    return f"{point.seconds * 1e6:.1f} ({point.flops / point.seconds / 1e9:.3g})"


if __name__ == "__main__":
    sys.exit(main())
