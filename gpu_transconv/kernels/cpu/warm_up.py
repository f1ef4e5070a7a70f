"""Compile ahead what the first calls would compile: every kernel for the types that it gets with a dtype."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from numba import types

from ...plan import DTYPES
from . import machine_code, notice
from .compiled import KERNELS
from .fir import filter_table
from .launch import TILED
from .microkernel import tile_table

#: Arguments that hold elements as they are stored, not in the type of the sums; by the beginning of a kernel's name.
_STORED = {"plain_": (), "pack_": ("weight",), "": ("x", "out")}


class Step(NamedTuple):
    """A kernel for some types, and what compiles it or reads it from its file."""

    kernel: str
    dtype: str
    run: Callable[[], Any]


def steps(dtypes: Iterable[str]) -> list[Step]:
    """List what calls with these dtypes need, each once."""
    notice.say_nothing()
    found: dict[Any, Step] = {}
    for dtype in dtypes:
        sums = DTYPES[dtype][1]
        if dtype in TILED:
            for table in (tile_table, filter_table):
                found.setdefault((table, sums), Step(table.__name__, dtype, partial(table, sums)))
        for name, kernel in KERNELS.items():
            if dtype in TILED or name.startswith("plain_"):
                signature = signature_of(kernel, dtype)
                found.setdefault((name, signature), Step(name, dtype, partial(kernel.compile, signature)))
    return list(found.values())


def signature_of(kernel: Any, dtype: str) -> tuple[Any, ...]:
    """Types of the arguments that a kernel gets with a dtype, which their names tell."""
    sums = getattr(types, DTYPES[dtype][1])
    stored = types.uint16 if DTYPES[dtype][0] == 2 else sums
    names = next(names for start, names in _STORED.items() if kernel.__name__.startswith(start))
    known = {"table": types.Array(types.int64, 1, "C"), "work": types.Array(sums, 2, "C")}
    for name in ("x", "weight", "bias", "out", "packed"):
        known[name] = types.Array(stored if name in names else sums, 1, "C")
    return tuple(known.get(name, types.int64) for name in inspect.signature(kernel.py_func).parameters)


def place() -> str | None:
    """Folder that the machine code is in, or None where there is none."""
    return next((str(folder) for folder in machine_code.folders() if folder.is_dir()), None)
