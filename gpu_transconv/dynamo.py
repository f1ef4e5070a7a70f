"""``torch.compile`` does not look into this package: in compiled code a call of it is a break of the graph.

Else Dynamo, the tracer, would follow the Python code here, caches and ctypes included, which ends in errors of its own,
and then the code of Numba's compiler. It is told so when it is imported, by whoever that is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_DYNAMO = "torch._dynamo"
#: Modules that are made to be traced.
_TRACED = ("torch",)


def stay_out(*places: tuple[object, str]) -> None:
    """Tell Dynamo, now or when it is imported, to look into no module of the package.

    The functions at `places`, pairs of an owner and an attribute, switch it off for all that they call.
    """
    if _DYNAMO in sys.modules:
        _tell(places)
    else:
        sys.meta_path.insert(0, _Finder(places))


def _tell(places: Sequence[tuple[object, str]]) -> None:
    with suppress(AttributeError, ImportError):  # of another version: no reason to disturb what imports it
        _tell_dynamo(places)


def _tell_dynamo(places: Sequence[tuple[object, str]]) -> None:
    rules = import_module(f"{_DYNAMO}.trace_rules")
    package = __package__ or ""
    names = {path.name.partition(".")[0] for path in Path(__file__).parent.iterdir() if path.name[0] not in "._"}
    for name in sorted(names.difference(_TRACED)):
        rules.add(f"{package}.{name}")
    for owner, name in places:
        setattr(owner, name, _untraced(getattr(owner, name)))


def _untraced(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wrap a function: where Dynamo watches, it is switched off for the call; else the call costs no more."""
    callback = import_module("torch._C._dynamo.eval_frame").get_eval_frame_callback
    disabled: Callable[Parameters, Result] = import_module(_DYNAMO).disable(function)

    @wraps(function)
    def call(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        return (function if callback() is None else disabled)(*arguments, **keywords)

    return call


class _Finder(MetaPathFinder):
    """Finds nothing itself: it has Dynamo loaded as ever, and then tells it."""

    def __init__(self, places: Sequence[tuple[object, str]]) -> None:
        self.places = places

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return the spec of Dynamo with a loader that tells it; of other modules none."""
        if name != _DYNAMO:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _tell(self.places)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
