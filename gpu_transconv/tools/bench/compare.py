"""Measure layer after layer behind a progress bar, each as a row of `gpu_transconv.tools.bench.report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..console import Report
from .contenders import Build
from .layers import Layer, make_problem
from .measure import measure_layer
from .report import Row, make_row


class Conditions(NamedTuple):
    """How every layer is measured; `seconds` is for all contenders of one layer together."""

    threads: int
    dtype: str = "float32"
    data_format: str = "channels_first"
    seconds: float = 3.0
    statistic: str = "min"
    seed: int = 0


def measure_rows(
    layers: Sequence[Layer], builds: Mapping[str, Build], machine: Report, how: Conditions
) -> Iterator[Row]:
    """Check and time the contenders on each layer."""
    for layer in watched(layers):
        problem = make_problem(layer, how.dtype, how.data_format, how.seed)
        found = measure_layer(problem, builds, how.threads, how.seconds)
        yield make_row(problem, found, machine, how.statistic)


def watched(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Go through layers behind a progress bar, which only a terminal shows."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:26}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # No refreshing thread: it would run beside what is timed.
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(layers))
        for layer in layers:
            progress.update(task, description=layer.name, refresh=True)
            yield layer
            progress.update(task, advance=1, refresh=True)
