"""The choice of an implementation, its reason, and what was chosen last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from . import records, table
from .cost import predict
from .errors import BackendUnavailableError
from .limits import device_limits
from .problem.plan import Plan
from .settings import Settings
from .table import AUTO_BACKENDS, IMPLEMENTATIONS, TABLE, Implementation, backends, cuda_memory, status

__all__ = ["IMPLEMENTATIONS", "Choice", "Implementation", "backends", "cuda_memory", "last_choice", "select"]

#: Counts how often choices became void, for those who keep them.
version = 0
_BECAUSE = {"cpu": "arrays in host memory run on the CPU", "cuda": "arrays on a CUDA device stay there"}
_log = logging.getLogger("gpu_transconv")
_local = threading.local()


class Choice(NamedTuple):
    """The implementation that will run, and why."""

    implementation: Implementation
    reason: str


class Candidate(NamedTuple):
    """A row, the seconds that it should take and those measured by tuning, and why it cannot run, if so."""

    row: Implementation
    predicted: float
    tuned: float | None
    refusal: str | None


@lru_cache(maxsize=4096)
def select(plan: Plan, settings: Settings, device: str = "cpu") -> Choice:
    """Pick the implementation for arrays on `device`, "cpu" or "cuda".

    Raises
    ------
    BackendUnavailableError
        If the backend asked for by name cannot run here, or cannot run this problem.
    TypeError
        If it does not take the arrays' dtype, or arrays on that device.
    """
    names, why = select_backends(plan, settings.backend, device)
    found = [c for name in names for c in candidates(plan, name) if _allows(settings, c.row)]
    refused = [f"{c.row.name} cannot run this problem: {c.refusal}" for c in found if c.refusal]
    able = [c for c in found if c.refusal is None]
    if not able:
        raise BackendUnavailableError("; ".join(refused))
    if settings.formulation != "auto":
        able.sort(key=lambda c: IMPLEMENTATIONS.index(c.row))  # variants in the table's order
        return Choice(able[0].row, f"{why}; formulation {settings.formulation!r} was asked for")
    row, how = _fastest(able)
    return Choice(row, "; ".join((why, *refused, how)))


def select_backends(plan: Plan, name: str, device: str) -> tuple[list[str], str]:
    """Return the backends that may run a plan on arrays of `device`, the one asked for or all, and why."""
    if name != "auto":
        if not (found := status(name)):
            raise BackendUnavailableError(f"backend {name!r} is not available: {found.reason}")
        if device == "cuda" and TABLE[name].device != "cuda":
            raise TypeError(f"x is on a CUDA device; backend {name!r} takes arrays in host memory only")
        if plan.dtype not in TABLE[name].dtypes:
            raise TypeError(f"x must have one of the dtypes {', '.join(TABLE[name].dtypes)}, got {plan.dtype}")
        return [name], f"backend {name!r} was asked for"
    present = [name for name in AUTO_BACKENDS[device] if status(name)]
    if not present:
        raise table.no_backend(device)
    able = [name for name in present if plan.dtype in TABLE[name].dtypes]
    if not able:
        dtypes = dict.fromkeys(dtype for name in present for dtype in TABLE[name].dtypes)
        raise TypeError(f"x must have one of the dtypes {', '.join(dtypes)} on a CUDA device, got {plan.dtype}")
    return able, _BECAUSE[device]


def _allows(settings: Settings, row: Implementation) -> bool:
    """Whether the formulation is the one asked for, and results are as repeatable as asked for."""
    named = settings.formulation != "auto"
    exact = settings.deterministic or (settings.deterministic is None and not named)
    return (not named or row.formulation == settings.formulation) and (row.deterministic or not exact)


def _fastest(able: Sequence[Candidate]) -> tuple[Implementation, str]:
    """Take the row that tuning found to be fastest; else that of the first backend which should be."""
    tuned = sorted((c.tuned, c.row.name, c.row) for c in able if c.tuned is not None)
    if tuned:
        times = [f"{name} {milliseconds(seconds)}" for seconds, name, _ in tuned]
        return tuned[0][2], _sentence(times, "was measured fastest here")
    rivals = [c for c in able if c.row.backend == able[0].row.backend]
    return able[0].row, _sentence(
        [f"{c.row.name} {milliseconds(c.predicted)}" for c in rivals], "is predicted to be fastest"
    )


def _sentence(times: Sequence[str], verdict: str) -> str:
    return f"{times[0]} {verdict}" + (f", before {', '.join(times[1:])}" if len(times) > 1 else "")


def milliseconds(seconds: float) -> str:
    """Write a time for a reader."""
    return f"({seconds * 1e3:.3g} ms)"


def candidates(plan: Plan, backend: str) -> list[Candidate]:
    """Rows of a backend by the time that they should take, those that cannot run at the end."""
    launch = table.launch_module(backend)
    preferred, limits = launch.prefer(plan), device_limits(TABLE[backend].device)
    efforts = launch.efforts(plan) if hasattr(launch, "efforts") else {}
    tuned = records.times(plan, TABLE[backend].device)
    found = [
        Candidate(row, predict(row, plan, limits, efforts, preferred), tuned.get(row.name), row.supports(plan))
        for row in IMPLEMENTATIONS
        if row.backend == backend
    ]
    return sorted(found, key=lambda c: (c.refusal is not None, c.predicted, c.row.formulation != preferred))


def note(choice: Choice, plan: Plan) -> None:
    """Remember what this thread runs, and log it at DEBUG."""
    _local.choice = choice
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("%s for %s %s: %s", choice.implementation.name, plan.dtype, plan.output_shape, choice.reason)


def last_choice() -> Choice | None:
    """Return the implementation that this thread ran last, and why; None before the first call.

    The same is logged by the logger ``gpu_transconv`` at level DEBUG, for all threads.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> y = gtc.conv_transpose(np.ones((1, 1, 3)), np.ones((1, 1, 2)), formulation="scatter")
    >>> gtc.last_choice().implementation.name
    'cpu/scatter'
    """
    return getattr(_local, "choice", None)


def choose_afresh() -> None:
    """Make earlier choices void: the devices' limits or the tuning results have changed."""
    global version
    version += 1
    select.cache_clear()


def forget() -> None:
    """Look up backends, limits and tuning results afresh, and choose by them."""
    choose_afresh()
    table.forget()
    records.forget()
    device_limits.cache_clear()
