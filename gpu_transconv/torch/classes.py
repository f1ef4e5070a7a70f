"""The classes that modules change to: one of ours per class with ``torch.nn``'s own `forward`, and the way back."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from ..settings import AUTO
from .modules import OURS, ConvTransposeNd

Module: TypeAlias = torch.nn.Module
Class: TypeAlias = type[torch.nn.Module]

#: Torch's own, by ours.
TORCHS: dict[Class, Class] = {ours: torchs for torchs, ours in OURS.items()}
#: The attribute with the class that a class of `ours_for` stands for; what a class has by inheritance does not count.
_ORIGINAL = "_gpu_transconv_original"
#: Entries of a class that a copy of it must have of its own.
_OWN = ("__dict__", "__weakref__")


class Waiting:
    """Marks a lazy module's class that becomes one of ours as soon as its parameters have values."""


def is_ours(module: Module) -> bool:
    """Whether a module's class is one of ours, or will be after its first call."""
    return isinstance(module, ConvTransposeNd | Waiting)


def backend_of(module: Module) -> str:
    """Return the backend that a module of ours was given."""
    kind: Any = type(module)
    return str((kind.cls_to_become if isinstance(module, Waiting) else kind).backend)


def refusal(module: Module) -> str:
    """Say why a transposed convolution of torch's is left as it is, or nothing where it can be changed."""
    torchs = _torchs(type(module))
    if torchs is None:
        return "no module of torch.nn"
    if type(module).forward is not torchs.forward:
        return f"{type(module).__name__} has a forward of its own"
    if "forward" in vars(module):
        return "its forward has been replaced in the object"
    return ""


def ours_for(module: Module, backend: str) -> Class:
    """Return the class of ours for a module of torch's."""
    kind: Any = type(module)  # mypy does not take a class of modules for the key of a cache
    if is_parametrized(module):  # a class that torch made for this very module
        return _copied(kind, _ours(kind.__bases__[0], backend))
    return _ours(kind, backend)


def original_for(module: Module) -> Class:
    """Return the class that a module of ours had before."""
    kind = type(module)
    if not is_parametrized(module):
        return _original(kind)
    before: Class | None = vars(kind).get(_ORIGINAL)
    if before is not None and _properties(before) == _properties(kind):
        return before
    return _copied(kind, _original(kind.__bases__[0]) if before is None else before.__bases__[0])


def _torchs(kind: Class) -> Class | None:
    return next((torchs for torchs in OURS if issubclass(kind, torchs)), None)


def _original(kind: Class) -> Class:
    found: Class = vars(kind).get(_ORIGINAL) or TORCHS.get(kind) or kind
    return found


@cache
def _ours(kind: Any, backend: str) -> Class:
    """Return a class of ours that is also a `kind`, by the same name."""
    torchs = _torchs(kind)
    assert torchs is not None
    if kind is torchs and backend == AUTO:
        return OURS[torchs]
    names = {_ORIGINAL: kind, "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    if issubclass(kind, LazyModuleMixin):
        assert kind.cls_to_become is not None
        names |= {"cls_to_become": _ours(kind.cls_to_become, backend), "__reduce_ex__": _reduce}
        return type(kind.__name__, (Waiting, kind), names)
    names |= {"backend": backend, "__reduce_ex__": _reduce}
    return type(kind.__name__, (OURS[torchs], kind), names)


def _copied(kind: Class, base: Class) -> Class:
    """Return a parametrized class on another base.

    It inherits nothing from `kind`: to end a parametrization, torch deletes from the class and goes to its base.
    """
    names = {name: value for name, value in vars(kind).items() if name not in (*_OWN, _ORIGINAL)}
    if issubclass(base, ConvTransposeNd):
        names[_ORIGINAL] = kind
    return type(kind.__name__, (base,), names)


def _properties(kind: Class) -> set[str]:
    return {name for name, value in vars(kind).items() if isinstance(value, property)}


def _reduce(self: Module, protocol: Any) -> Any:
    """Pickle and copy by the class that the module had: the one that it has now was made here."""
    kind = type(self)
    backend = backend_of(self)
    state: Any = super(kind, self).__reduce_ex__(protocol)
    return _rebuilt, (_original(kind), backend), *state[2:]


def _rebuilt(kind: Any, backend: str) -> Module:
    ours = _ours(kind, backend)
    return ours.__new__(ours)
