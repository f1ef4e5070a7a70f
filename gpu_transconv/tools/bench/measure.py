"""Check every contender on a layer, then time those that are right, in turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from ...dispatch.timing import take_turns
from ..console import Report
from .contenders import Build, Contender, UnsupportedError
from .layers import Problem
from .libraries import PEERS


def measure_layer(problem: Problem, builds: Mapping[str, Build], threads: int, seconds: float) -> dict[str, Report]:
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
            contender = build(problem, threads)
            found[name] = _check(problem, contender)
        except Exception as error:
            out = isinstance(error, UnsupportedError | ImportError) or name in PEERS
            found[name] = {"status": "left out" if out else "failed", "note": _first_line(error)}
            continue
        if found[name]["status"] == "ok":
            ready[name] = contender
    times = take_turns({name: contender.run for name, contender in ready.items()}, seconds)
    for name, contender in ready.items():
        after = _check(problem, contender)
        if after["status"] == "ok":
            after |= {
                "min_ms": min(times[name]) * 1e3,
                "median_ms": statistics.median(times[name]) * 1e3,
                "calls": len(times[name]),
            }
        found[name] = after
    return found


def _check(problem: Problem, contender: Contender) -> Report:
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
