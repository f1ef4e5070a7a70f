"""The choice of a kernel, its reason, and what was chosen last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ..errors import BackendUnavailableError
from ..kernels import registry
from ..kernels.kernel import Kernel
from ..kernels.registry import AUTO_BACKENDS, backend, kernels_of, no_backend, status
from ..problem.plan import Plan
from ..settings import Settings
from . import limits, store
from .cost import predict
from .limits import device_limits

#: Bytes of weights up to which the function keeps what it packed beside their values, and packs them once: all of them
#: are compared in every call. Measured: for 28 KB that takes 1.3 microseconds, and packing them 16.
FEW_WEIGHTS = 1 << 15
_BECAUSE = {"cpu": "arrays in host memory run on the CPU", "cuda": "arrays on a CUDA device stay there"}
_log = logging.getLogger("gpu_transconv")
_local = threading.local()
_epoch = 0


class Choice(NamedTuple):
    """The kernel that will run, and why."""

    implementation: Kernel
    reason: str


class Candidate(NamedTuple):
    """A kernel, the seconds that it should take and those measured by tuning, and why it cannot run, if so."""

    kernel: Kernel
    predicted: float
    tuned: float | None
    refusal: str | None


@lru_cache(maxsize=4096)
def select(plan: Plan, settings: Settings, device: str = "cpu", packs: bool = False) -> Choice:
    """Pick the implementation for arrays on `device`, "cpu" or "cuda"; with `packs` every call prepares many weights.

    Raises
    ------
    BackendUnavailableError
        If the backend asked for by name cannot run here, or cannot run this problem.
    TypeError
        If it does not take the arrays' dtype, or arrays on that device.
    """
    names, why = select_backends(plan, settings.backend, device)
    found = [c for name in names for c in candidates(plan, name, packs) if _allows(settings, c.kernel)]
    refused = [f"{c.kernel.name} cannot run this problem: {c.refusal}" for c in found if c.refusal]
    able = [c for c in found if c.refusal is None]
    if not found:
        raise BackendUnavailableError(f"backend {settings.backend!r} has no kernel for {_wish(plan, settings)}")
    if not able:
        raise BackendUnavailableError("; ".join(refused))
    if settings.formulation != "auto":
        able.sort(key=lambda c: kernels_of(c.kernel.backend).index(c.kernel))  # variants in the backend's order
        return Choice(able[0].kernel, f"{why}; formulation {settings.formulation!r} was asked for")
    kernel, how = _fastest(able)
    return Choice(kernel, "; ".join((why, *refused, how)))


def select_backends(plan: Plan, name: str, device: str) -> tuple[list[str], str]:
    """Return the backends that may run a plan on arrays of `device`, the one asked for or all, and why."""
    if name != "auto":
        if not (found := status(name)):
            raise BackendUnavailableError(f"backend {name!r} is not available: {found.reason}")
        if device == "cuda" and backend(name).device != "cuda":
            raise TypeError(f"x is on a CUDA device; backend {name!r} takes arrays in host memory only")
        if plan.dtype not in backend(name).dtypes:
            raise TypeError(f"x must have one of the dtypes {', '.join(backend(name).dtypes)}, got {plan.dtype}")
        return [name], f"backend {name!r} was asked for"
    present = [name for name in AUTO_BACKENDS[device] if status(name)]
    if not present:
        raise no_backend(device)
    able = [name for name in present if plan.dtype in backend(name).dtypes]
    if not able:
        dtypes = dict.fromkeys(dtype for name in present for dtype in backend(name).dtypes)
        raise TypeError(f"x must have one of the dtypes {', '.join(dtypes)} on a CUDA device, got {plan.dtype}")
    return able, _BECAUSE[device]


def _allows(settings: Settings, kernel: Kernel) -> bool:
    """Whether the formulation is the one asked for, and results are as repeatable as asked for."""
    named = settings.formulation != "auto"
    exact = settings.deterministic or (settings.deterministic is None and not named)
    return (not named or kernel.formulation == settings.formulation) and (kernel.deterministic or not exact)


def _wish(plan: Plan, settings: Settings) -> str:
    """What kind of kernel was asked for, in words."""
    exact = ", deterministic" if settings.deterministic else ""
    operation = "" if plan.operation == "forward" else f"{plan.operation}, "
    return f"{operation}formulation {settings.formulation!r}{exact}"


def _fastest(able: Sequence[Candidate]) -> tuple[Kernel, str]:
    """Take the kernel that tuning found to be fastest; else that of the first backend which should be."""
    tuned = sorted(((c.tuned, c.kernel) for c in able if c.tuned is not None), key=lambda pair: (pair[0], pair[1].name))
    if tuned:
        times = [f"{kernel.name} ({milliseconds(seconds)})" for seconds, kernel in tuned]
        return tuned[0][1], _sentence(times, "was measured fastest here")
    rivals = [c for c in able if c.kernel.backend == able[0].kernel.backend]
    times = [f"{c.kernel.name} ({milliseconds(c.predicted)})" for c in rivals]
    return able[0].kernel, _sentence(times, "is predicted to be fastest")


def _sentence(times: Sequence[str], verdict: str) -> str:
    return f"{times[0]} {verdict}" + (f", before {', '.join(times[1:])}" if len(times) > 1 else "")


def milliseconds(seconds: float) -> str:
    """Write a time for a reader."""
    return f"{seconds * 1e3:.3g} ms"


def candidates(plan: Plan, name: str, packs: bool = False) -> list[Candidate]:
    """Kernels of a backend by the time that they should take, those that cannot run at the end; see `select`."""
    limits, tuned = device_limits(backend(name).device), store.times(plan, backend(name).device)
    able = [kernel for kernel in kernels_of(name) if kernel.operation == plan.operation]
    packs = packs and plan.weight_bytes > FEW_WEIGHTS
    ratios = {kernel: kernel.work_ratio(plan) + (kernel.pack_ratio(plan) if packs else 0.0) for kernel in able}
    found = [
        Candidate(kernel, predict(kernel, plan, limits, ratio), tuned.get(kernel.name), _refusal(kernel, plan))
        for kernel, ratio in ratios.items()
    ]
    return sorted(found, key=lambda c: (c.refusal is not None, c.predicted, ratios[c.kernel]))


def _refusal(kernel: Kernel, plan: Plan) -> str | None:
    """Why a kernel cannot run a plan, or None."""
    if plan.fixed_order and not kernel.fixed_order:
        return "the order of its sums may change with the size of its input"
    return kernel.refusal(plan)


def note(choice: Choice, plan: Plan) -> None:
    """Remember what this thread runs, and log it at DEBUG."""
    _local.choice = choice
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("%s for %s %s: %s", choice.implementation.name, plan.dtype, plan.output_shape, choice.reason)


def last_choice() -> Choice | None:
    """Return the implementation that this thread ran last, and why; None before the first call.

    The same is logged by the logger ``gpu_transconv`` at level DEBUG, for all threads.

    Returns
    -------
    Choice or None
        Its `implementation`, which has a `name`, and the `reason`.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> y = gtc.conv_transpose(np.ones((1, 1, 3)), np.ones((1, 1, 2)), formulation="scatter")
    >>> gtc.last_choice().implementation.name
    'cpu/scatter'
    """
    return getattr(_local, "choice", None)


def epoch() -> int:
    """Count how often choices became void, for those who keep them."""
    return _epoch


def invalidate() -> None:
    """Look up backends, limits and tuning results afresh from now on: some of them have changed."""
    global _epoch
    _epoch += 1
    select.cache_clear()
    limits.forget()
    store.forget()
    registry.forget()
