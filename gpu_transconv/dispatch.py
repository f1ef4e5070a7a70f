"""The table of implementations, and the choice of one.

A row is a backend and a formulation with what it takes to launch it. No other module asks which backend it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from .arrays import Array
from .errors import BackendUnavailableError
from .plan import Plan
from .settings import BACKENDS, Settings


@dataclass(frozen=True, slots=True)
class Implementation:
    """One cell of backend x formulation; `module` is imported when first launched."""

    backend: str
    formulation: str
    module: str

    @property
    def name(self) -> str:
        """Name in messages, logs and explanations."""
        return f"{self.backend}/{self.formulation}"

    @property
    def launch(self) -> Callable[..., None]:
        """Function that fills `out`: launch(plan, x, weight, bias, out, packed)."""
        return _function(self.module, f"launch_{self.formulation}")

    @property
    def pack(self) -> Callable[[Plan, Array, Array | None], Any]:
        """Function that prepares the weights for `launch` and any input size: pack(plan, weight, bias)."""
        return _function(self.module, f"pack_{self.formulation}")

    @property
    def prefer(self) -> Callable[[Plan], str]:
        """Function that names the backend's cheaper formulation for a plan."""
        return _function(self.module, "prefer")


@lru_cache(maxsize=64)
def _function(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(module, __package__), name)
    return found


class Choice(NamedTuple):
    """The implementation that will run, and why."""

    implementation: Implementation
    reason: str


class BackendStatus(NamedTuple):
    """Whether a backend can run here, and if not, why."""

    available: bool
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.available


IMPLEMENTATIONS = tuple(
    Implementation(backend, formulation, module)
    for backend, module in (("cpu", ".kernels.cpu.launch"), ("reference", ".kernels.reference.launch"))
    for formulation in ("gather", "scatter")
)


def backends() -> dict[str, BackendStatus]:
    """Tell which backends can run here.

    Returns
    -------
    dict of str to BackendStatus
        Per backend a pair ``(available, reason)``, true where it is available; the reason says what is missing.

    Examples
    --------
    >>> import gpu_transconv as gtc
    >>> gtc.backends()["cpu"].available
    True
    """
    present = {row.backend for row in IMPLEMENTATIONS}
    missing = BackendStatus(False, "this version of gpu_transconv has no kernels for it; install a newer one")
    return {name: BackendStatus(True) if name in present else missing for name in BACKENDS}


def select(plan: Plan, settings: Settings) -> Choice:
    """Pick the implementation for NumPy arrays.

    Raises
    ------
    BackendUnavailableError
        If the backend asked for by name cannot run here.
    """
    backend, formulation = settings.backend, settings.formulation
    reasons = []
    if backend == "auto":
        backend = "cpu"
        reasons.append("NumPy arrays run on the CPU")
    else:
        reasons.append(f"backend {backend!r} was asked for")
    status = backends()[backend]
    if not status:
        raise BackendUnavailableError(f"backend {backend!r} is not available: {status.reason}")
    rows = [row for row in IMPLEMENTATIONS if row.backend == backend]
    if formulation == "auto":
        formulation = rows[0].prefer(plan)
        reasons.append(f"{formulation} costs less here")
    else:
        reasons.append(f"formulation {formulation!r} was asked for")
    row = next(row for row in rows if row.formulation == formulation)
    return Choice(row, "; ".join(reasons))
