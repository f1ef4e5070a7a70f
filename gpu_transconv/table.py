"""The table of implementations: backends, formulations, variants, and where their modules are.

A row is a backend, a formulation and, where there are several kernels for that, a variant. No other module
asks which backend it is. What a backend's modules must offer is in `gpu_transconv.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from .errors import BackendUnavailableError
from .problem.dtypes import DTYPES
from .problem.plan import Plan

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_COMPLEX = ("complex64", "complex128")
#: Kernels of the backends whose scatter has one, and of those that have two.
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
#: Backends that "auto" tries, by where the arrays are; the first that can take the problem.
AUTO_BACKENDS = {"cpu": ("cpu",), "cuda": ("cupy", "numba-cuda")}


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
        """Function that prepares the weights for plans with the same `packing`: pack(plan, weight, bias)."""
        return _function(self.backend, "pack", self.formulation, self.variant)

    def packing(self, plan: Plan) -> Any:
        """What tells apart the ways in which `pack` prepares the same weights for inputs of different sizes."""
        return self._offer("packing", None, plan)

    @property
    def memory(self) -> Any:
        """Module that moves arrays to the backend's device, or None where that is the host."""
        return _memory(self.backend)

    def supports(self, plan: Plan) -> str | None:
        """Reason why the row cannot run `plan`, or None where it can."""
        reason: str | None = self._offer("supports", None, plan)
        return reason

    def details(self, plan: Plan) -> dict[str, Any]:
        """What the backend tells of the row: ``kernel``, its name, and ``workspace_bytes``; either may be missing."""
        found: dict[str, Any] = self._offer("details", {}, plan)
        return found

    def _offer(self, word: str, default: Any, plan: Plan) -> Any:
        """Call a function that a backend may have or not."""
        offered = getattr(launch_module(self.backend), _joined(word, self.formulation, self.variant), None)
        return default if offered is None else offered(plan)


IMPLEMENTATIONS = tuple(Implementation(name, *kernel) for name, backend in TABLE.items() for kernel in backend.kernels)


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
    return {name: status(name) for name in TABLE}


@cache
def status(name: str) -> BackendStatus:
    """Whether one backend can run here."""
    try:
        reason = (_memory(name) or import_module(TABLE[name].package, __package__)).status()
    except ImportError as error:
        reason = f"this version of gpu_transconv has no kernels for it ({error}); install a newer one"
    return BackendStatus(reason is None, reason)


def cuda_memory() -> Any:
    """Module of the first backend that can allocate on a CUDA device here."""
    for name in AUTO_BACKENDS["cuda"]:
        if status(name):
            return _memory(name)
    raise no_backend("cuda")


def no_backend(device: str) -> BackendUnavailableError:
    """Error for arrays on a device, "cpu" or "cuda", where no backend can take them."""
    reasons = "; ".join(f"{name}: {status(name).reason}" for name in AUTO_BACKENDS[device])
    place = {"cpu": "in host memory", "cuda": "on a CUDA device"}[device]
    return BackendUnavailableError(f"no backend for arrays {place} is available: {reasons}")


@cache
def launch_module(backend: str) -> Any:
    """Module with the backend's functions."""
    return import_module(f"{TABLE[backend].package}.launch", __package__)


@cache
def _memory(backend: str) -> Any:
    return None if TABLE[backend].device == "cpu" else import_module(f"{TABLE[backend].package}.memory", __package__)


@cache
def _function(backend: str, *words: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(launch_module(backend), _joined(*words))
    return found


def _joined(*words: str) -> str:
    return "_".join(filter(None, words))


def forget() -> None:
    """Look up everything about the backends afresh."""
    for cached in (status, _memory, launch_module, _function):
        cached.cache_clear()
