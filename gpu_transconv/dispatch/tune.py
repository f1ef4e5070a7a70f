"""Measure the implementations of a problem on this machine, and keep what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Real

from ..arrays import Array, Operands
from ..kernels.kernel import Kernel
from ..kernels.registry import backend
from ..problem.plan import Plan
from ..run import launch, prepare, wait
from . import store
from .select import candidates, invalidate
from .timing import take_turns


def tune(plan: Plan, operands: Operands, names: list[str], seconds: float) -> dict[str, float]:
    """Time every kernel of the backends `names` that can run `plan`, in about `seconds`, and keep the results.

    The weights are prepared beforehand, the result is fresh each time.

    Returns
    -------
    dict of str to float
        Seconds by name, the fastest first.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be a number > 0, got {seconds!r}")
    runs: dict[str, Callable[[], Array]] = {}
    able = [candidate.kernel for name in names for candidate in candidates(plan, name) if not candidate.refusal]
    for kernel in able:
        runs[kernel.name] = _runner(kernel, plan, operands)
        runs[kernel.name]()  # compiles
    times = take_turns(runs, seconds)
    found = {name: min(times[name]) for name in sorted(times, key=lambda name: min(times[name]))}
    store.record(plan, backend(names[0]).device, found)
    invalidate()
    return found


def _runner(kernel: Kernel, plan: Plan, operands: Operands) -> Callable[[], Array]:
    weights = prepare(kernel, plan, operands)
    call = partial(launch, kernel, plan, operands, None, weights)
    if operands.device == "cpu":
        return call

    def synchronised() -> Array:
        result = call()
        wait(kernel, operands)
        return result

    return synchronised
