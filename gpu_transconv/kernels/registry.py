"""The backends by name: each is imported when it is first asked for, and no other module imports one."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import NamedTuple

from ..arrays.memory import Memory, find_with
from ..errors import BackendUnavailableError
from .kernel import Backend, Kernel

#: Backends by the names that callers write, and the folder beside this file that has each.
FOLDERS = {"cpu": ".cpu", "numba-cuda": ".numba_cuda", "cupy": ".cupy", "reference": ".reference"}
#: Backends that "auto" tries, by where the arrays are; the first that can take the problem.
AUTO_BACKENDS = {"cpu": ("cpu",), "cuda": ("cupy", "numba-cuda")}


class BackendStatus(NamedTuple):
    """Whether a backend can run here, and if not, why."""

    available: bool
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.available


@cache
def backend(name: str) -> Backend:
    """Return the backend of that name."""
    found: Backend = import_module(FOLDERS[name], __package__).BACKEND
    return found


@cache
def kernels_of(name: str) -> tuple[Kernel, ...]:
    """Return the kernels of a backend, in the order in which they are asked."""
    return backend(name).kernels()


def kernels() -> tuple[Kernel, ...]:
    """Return all kernels there are, whether they can run here or not."""
    return tuple(kernel for name in FOLDERS for kernel in kernels_of(name))


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
    return {name: status(name) for name in FOLDERS}


@cache
def status(name: str) -> BackendStatus:
    """Whether one backend can run here."""
    try:
        reason = backend(name).status()
    except ImportError as error:
        reason = f"this version of gpu_transconv has no kernels for it ({error}); install a newer one"
    return BackendStatus(reason is None, reason)


def memory_for_cuda() -> Memory:
    """Return the memory of the first backend that can allocate on a CUDA device here."""
    for name in AUTO_BACKENDS["cuda"]:
        memory = backend(name).memory
        if memory is not None and status(name):
            return memory()
    raise no_backend("cuda")


def no_backend(device: str) -> BackendUnavailableError:
    """Error for arrays on a device, "cpu" or "cuda", where no backend can take them."""
    reasons = "; ".join(f"{name}: {status(name).reason}" for name in AUTO_BACKENDS[device])
    place = {"cpu": "in host memory", "cuda": "on a CUDA device"}[device]
    return BackendUnavailableError(f"no backend for arrays {place} is available: {reasons}")


def forget() -> None:
    """Look up every backend afresh."""
    for cached in (backend, kernels_of, status):
        cached.cache_clear()


find_with(memory_for_cuda)
