"""Functional calls: ``torch.nn.functional.conv_transpose1d``, ``2d`` and ``3d`` become ours, until `unpatch`."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

from ..arrays.locks import ProcessLock
from ..arrays.pool import outputs
from . import functional

_NAMES = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
#: Who asked for it and has not left yet, and torch's own functions while there is anybody.
_active: list[Patch] = []
_originals: dict[str, Any] = {}
_lock = ProcessLock()


class Patch:
    """What `patch` returns: leaving its ``with`` block undoes it."""

    def __enter__(self) -> Patch:
        """Return itself: it has been in force since it was made."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Undo it, also after an exception."""
        with _lock():
            if self in _active:
                _active.remove(self)
            _settle()


def patch() -> Patch:
    """Let ``torch.nn.functional.conv_transpose1d``, ``2d`` and ``3d`` run on this package's kernels, in all threads.

    For models that call these functions by themselves, where `accelerate` finds no module; torch's modules call them
    too. A function that was imported by name before (``from torch.nn.functional import conv_transpose1d``) is out of
    reach. Blocks may be nested: the outermost one that is left undoes it.

    Returns
    -------
    Patch
        A context manager; without ``with`` it holds until `unpatch`.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> x, weight = torch.ones(1, 8, 16), torch.ones(8, 4, 4)
    >>> with gtc.torch.patch():
    ...     torch.nn.functional.conv_transpose1d(x, weight, stride=2).shape
    torch.Size([1, 4, 34])
    """
    handle = Patch()
    outputs.keep_heap()
    with _lock():
        _active.append(handle)
        _settle()
    return handle


def unpatch() -> None:
    """Undo every `patch`, those of enclosing blocks as well; without one it does nothing.

    Examples
    --------
    >>> import gpu_transconv as gtc
    >>> _ = gtc.torch.patch()
    >>> gtc.torch.unpatch()
    """
    with _lock():
        _active.clear()
        _settle()


def _settle() -> None:
    """Put ours or torch's own in place, as `_active` says."""
    if _active and not _originals:
        _originals.update({name: getattr(torch.nn.functional, name) for name in _NAMES})
        for name in _NAMES:
            setattr(torch.nn.functional, name, _OURS[name])
    elif _originals and not _active:
        for name in _NAMES:
            setattr(torch.nn.functional, name, _originals[name])
        _originals.clear()


_OURS = {name: getattr(functional, name) for name in _NAMES}
