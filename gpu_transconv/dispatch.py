"""The table of implementations, and the choice of one.

A row is a backend, a formulation and, where there are several kernels for that, a variant. No other module
asks which backend it is. What a backend's modules must offer is in `gpu_transconv.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from .errors import BackendUnavailableError
from .plan import DTYPES, Plan
from .settings import Settings

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_COMPLEX = ("complex64", "complex128")
#: Every formulation of the backends whose scatter has one kernel, and of those that have two.
_PLAIN = (("gather", ""), ("scatter", ""))
_WITH_ATOMICS = (("gather", ""), ("scatter", "atomic"), ("scatter", "tiles"))


class Backend(NamedTuple):
    """What the table says about a backend; `device` is where its arrays live."""

    package: str
    device: str
    dtypes: tuple[str, ...]
    kernels: tuple[tuple[str, str], ...]


TABLE = {
    "cpu": Backend(".kernels.cpu", "cpu", tuple(DTYPES), _PLAIN),
    "numba-cuda": Backend(".kernels.numba_cuda", "cuda", ("float16", "float32", "float64"), _WITH_ATOMICS),
    "cupy": Backend(".kernels.cupy_raw", "cuda", _FLOATS + _COMPLEX, _WITH_ATOMICS),
    "reference": Backend(".kernels.reference", "cpu", tuple(DTYPES), _PLAIN),
}
#: Counts how often choices became void, for those who keep them.
version = 0
#: Backends that "auto" tries, by where the arrays are; the first that can take the problem.
_AUTO = {"cpu": ("cpu",), "cuda": ("cupy", "numba-cuda")}
_BECAUSE = {"cpu": "arrays in host memory run on the CPU", "cuda": "arrays on a CUDA device stay there"}


@dataclass(frozen=True, slots=True)
class Implementation:
    """One row of the table; its module is imported when first used."""

    backend: str
    formulation: str
    variant: str = ""

    @property
    def name(self) -> str:
        """Name in messages, logs and explanations: backend/formulation or backend/formulation/variant."""
        return "/".join(filter(None, (self.backend, self.formulation, self.variant)))

    @property
    def deterministic(self) -> bool:
        """Whether results are the same to the last bit on every run."""
        return self.variant != "atomic"

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords by which a caller gets this row."""
        exact = {"deterministic": self.deterministic} if self.variant else {}
        return {"backend": self.backend, "formulation": self.formulation} | exact

    @property
    def launch(self) -> Callable[..., None]:
        """Function that fills `out`: launch(plan, x, weight, bias, out, packed)."""
        return _function(self.backend, "launch", self.formulation, self.variant)

    @property
    def pack(self) -> Callable[[Plan, Any, Any], Any]:
        """Function that prepares the weights for `launch` and any input size: pack(plan, weight, bias)."""
        return _function(self.backend, "pack", self.formulation, self.variant)

    @property
    def memory(self) -> Any:
        """Module that moves arrays to the backend's device, or None where that is the host."""
        return _memory(self.backend)

    def supports(self, plan: Plan) -> str | None:
        """Reason why the row cannot run `plan`, or None where it can."""
        check = getattr(_launch_module(self.backend), _joined("supports", self.formulation, self.variant), None)
        reason: str | None = None if check is None else check(plan)
        return reason


IMPLEMENTATIONS = tuple(Implementation(name, *kernel) for name, backend in TABLE.items() for kernel in backend.kernels)


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
    return {name: _status(name) for name in TABLE}


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
    backend, why = _select_backend(plan, settings.backend, device)
    row, how = _select_row(plan, settings, [row for row in IMPLEMENTATIONS if row.backend == backend])
    return Choice(row, f"{why}; {how}")


def _select_backend(plan: Plan, name: str, device: str) -> tuple[str, str]:
    if name != "auto":
        if not (status := _status(name)):
            raise BackendUnavailableError(f"backend {name!r} is not available: {status.reason}")
        if device == "cuda" and TABLE[name].device != "cuda":
            raise TypeError(f"x is on a CUDA device; backend {name!r} takes arrays in host memory only")
        if not _takes(name, plan):
            raise TypeError(f"x must have one of the dtypes {', '.join(TABLE[name].dtypes)}, got {plan.dtype}")
        return name, f"backend {name!r} was asked for"
    present = [name for name in _AUTO[device] if _status(name)]
    for name in present:
        if _takes(name, plan):
            return name, _BECAUSE[device]
    if present:
        dtypes = dict.fromkeys(dtype for name in present for dtype in TABLE[name].dtypes)
        raise TypeError(f"x must have one of the dtypes {', '.join(dtypes)} on a CUDA device, got {plan.dtype}")
    raise _no_cuda()


def _takes(name: str, plan: Plan) -> bool:
    return plan.dtype in TABLE[name].dtypes


def _select_row(plan: Plan, settings: Settings, rows: Sequence[Implementation]) -> tuple[Implementation, str]:
    """Take the first row in order of preference that supports the plan."""
    named = settings.formulation != "auto"
    if named:
        rows, why = [row for row in rows if row.formulation == settings.formulation], ""
    else:
        preferred = _function(rows[0].backend, "prefer")(plan)
        rows = sorted(rows, key=lambda row: row.formulation != preferred)
    if settings.deterministic or (settings.deterministic is None and not named):
        rows = [row for row in rows if row.deterministic]
    refused: list[str] = []
    for row in rows:
        if (reason := row.supports(plan)) is None:
            why = f"formulation {row.formulation!r} was asked for" if named else f"{row.formulation} costs less here"
            return row, "; ".join((*refused, why)) if not named else why
        refused.append(f"{row.name} cannot run this problem: {reason}")
    raise BackendUnavailableError("; ".join(refused))


@cache
def _status(name: str) -> BackendStatus:
    if TABLE[name].device == "cpu":
        return BackendStatus(True)
    try:
        reason = _memory(name).status()
    except ImportError as error:
        reason = f"this version of gpu_transconv has no kernels for it ({error}); install a newer one"
    return BackendStatus(reason is None, reason)


@cache
def _memory(backend: str) -> Any:
    return None if TABLE[backend].device == "cpu" else import_module(f"{TABLE[backend].package}.memory", __package__)


@cache
def _launch_module(backend: str) -> Any:
    return import_module(f"{TABLE[backend].package}.launch", __package__)


@cache
def _function(backend: str, *words: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(_launch_module(backend), _joined(*words))
    return found


def _joined(*words: str) -> str:
    return "_".join(filter(None, words))


def cuda_memory() -> Any:
    """Module of the first backend that can allocate on a CUDA device here."""
    for name in _AUTO["cuda"]:
        if _status(name):
            return _memory(name)
    raise _no_cuda()


def _no_cuda() -> BackendUnavailableError:
    reasons = "; ".join(f"{name}: {_status(name).reason}" for name in _AUTO["cuda"])
    return BackendUnavailableError(f"no backend for arrays on a CUDA device is available: {reasons}")


def forget() -> None:
    """Look up everything about the backends afresh."""
    global version
    version += 1
    for cached in (select, _status, _memory, _launch_module, _function):
        cached.cache_clear()
