"""The definition as a backend, so that it can be asked for by name."""

from __future__ import annotations

from ...problem.dtypes import DTYPES
from ..kernel import Backend, Kernel


def _kernels() -> tuple[Kernel, ...]:
    from .launch import KERNELS

    return KERNELS


def _status() -> None:
    """NumPy is all it needs."""


BACKEND = Backend("reference", "cpu", tuple(DTYPES), _status, _kernels)
