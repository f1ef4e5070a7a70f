"""Measure the implementations of a problem on this machine, and keep what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

from . import dispatch, records
from .arrays import Array, CudaArray
from .dispatch import candidates
from .execute import Operands, launch, prepare, wait
from .problem.plan import Plan
from .table import TABLE, Implementation
from .timing import take_turns


def tune(plan: Plan, operands: Operands, names: list[str], seconds: float) -> dict[str, float]:
    """Time every row of the backends `names` that can run `plan`, in about `seconds`, and keep the results.

    The weights are prepared beforehand, the result is fresh each time.

    Returns
    -------
    dict of str to float
        Seconds by name, the fastest first.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be a number > 0, got {seconds!r}")
    runs: dict[str, Callable[[], Any]] = {}
    for row in (candidate.row for name in names for candidate in candidates(plan, name) if not candidate.refusal):
        runs[row.name] = _runner(row, plan, operands)
        runs[row.name]()  # compiles
    times = take_turns(runs, seconds)
    found = {name: min(times[name]) for name in sorted(times, key=lambda name: min(times[name]))}
    records.record(plan, TABLE[names[0]].device, found)
    dispatch.choose_afresh()
    return found


def _runner(row: Implementation, plan: Plan, operands: Operands) -> Callable[[], Array]:
    weights = prepare(row, plan, operands)
    call = partial(launch, row, plan, operands, None, weights)
    if not isinstance(operands.x, CudaArray):
        return call

    def synchronised() -> Array:
        result = call()
        wait(row, operands)
        return result

    return synchronised
