"""Check every contender on a layer, then time those that are right, in turns; layer after layer, each as a row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...dispatch.device import threads
from ...dispatch.timing import take_turns
from ..console import Report
from .contenders import Build, Contender, UnsupportedError
from .layers import Layer, Problem, make_problem
from .libraries import PEERS
from .report import Row, make_row


class Conditions(NamedTuple):
    """How every layer is measured; `seconds` is for all contenders of one layer together."""

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
        found = measure_layer(problem, builds, how.seconds)
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


def measure_layer(problem: Problem, builds: Mapping[str, Build], seconds: float) -> dict[str, Report]:
    """Time `builds` on `problem` in about `seconds`.

    Returns
    -------
    dict of dict
        Per contender ``status`` and ``note``: ``"ok"`` with ``min_ms``, ``median_ms`` and ``calls``;
        ``"left out"`` where it cannot take the problem; ``"failed"`` where one of ours raised; ``"wrong"``
        where a result, before or after the timing, was beyond the tolerance. Only ``"ok"`` carries times.
    """
    found: dict[str, Report] = {}
    ready: dict[str, Contender] = {}
    for name, build in builds.items():
        try:
            contender = build(problem, threads())
            found[name] = check(problem, contender)
        except Exception as error:
            out = isinstance(error, UnsupportedError | ImportError) or name in PEERS
            found[name] = {"status": "left out" if out else "failed", "note": _first_line(error)}
            continue
        if found[name]["status"] == "ok":
            ready[name] = contender
    times = take_turns({name: contender.run for name, contender in ready.items()}, seconds)
    for name, contender in ready.items():
        after = check(problem, contender)
        if after["status"] == "ok":
            after |= {
                "min_ms": min(times[name]) * 1e3,
                "median_ms": statistics.median(times[name]) * 1e3,
                "calls": len(times[name]),
            }
        found[name] = after
    return found


def check(problem: Problem, contender: Contender) -> Report:
    """Run a contender once, which may compile it; its status, note and error, without a time."""
    contender.poison()
    error = problem.error(contender.as_array(contender.run()))
    right = error <= problem.tolerance
    note = contender.note if right else f"error {error:.2g} of the largest value, allowed {problem.tolerance:.2g}"
    return {
        "status": "ok" if right else "wrong",
        "note": note,
        "error": error if math.isfinite(error) else None,
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    kind = "" if isinstance(error, UnsupportedError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0]}"[:200]
