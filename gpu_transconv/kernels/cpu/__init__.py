"""The CPU backend: Numba kernels, parallel, bitwise repeatable for any number of threads."""

from __future__ import annotations

import os
from importlib import import_module

from ...problem.dtypes import DTYPES
from ..kernel import Backend, Kernel


def status() -> str | None:
    """Return None where the kernels can run here, else why not; a variable at fault is named. Never raises."""
    try:
        reason: str | None = import_module(".requirements", __package__).unmet()
    except Exception as error:  # Numba refuses a version of NumPy, or a setting, with whatever it likes
        settings = ", ".join(f"{name}={word}" for name, word in os.environ.items() if name.startswith("NUMBA_"))
        cure = f"these variables are set: {settings}" if settings else "install another version of numba"
        reason = f"Numba cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}); {cure}"
    return reason


def _kernels() -> tuple[Kernel, ...]:
    from .launch import KERNELS

    return KERNELS


BACKEND = Backend("cpu", "cpu", tuple(DTYPES), status, _kernels)
