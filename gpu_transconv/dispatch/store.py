"""Tuning results: per problem, device and software the measured seconds of each implementation.

The file (`gpu_transconv.dispatch.database`) is read once per process. Its key says on what the times depend, so that
those of another version or machine are never taken for this one's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .. import cache_folder
from .._version import __version__
from ..problem.plan import Plan
from .device import identity

#: Seconds by the names of implementations.
Times = dict[str, float]

_FILE = "tuning.sqlite"
#: What has been read in this process: file -> key -> times.
_known: dict[Path, dict[str, Times]] = {}
#: What no file could take, which lives as long as the process.
_unsaved: dict[str, Times] = {}


def times(plan: Plan, device: str) -> Times:
    """Return the measured seconds of a problem's implementations by their names; empty before it was tuned."""
    known = _entries()
    return known.get(key_of(plan, device), {}) if known else {}


def record(plan: Plan, device: str, found: Mapping[str, float]) -> None:
    """Keep the seconds of a problem's implementations, on disk where that can be had."""
    _store({key_of(plan, device): {**times(plan, device), **found}})


def count() -> int:
    """Number of problems with results, those of other machines and versions included."""
    return len(_entries())


def export(path: Path) -> int:
    """Write all results to a JSON file; returns the number of problems."""
    known = _entries()
    document = {"schema": _database().SCHEMA, "tuned": known}
    Path(path).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return len(known)


def import_file(path: Path) -> int:
    """Add what `export` wrote, perhaps on another machine of the same kind; returns the number of problems.

    Raises
    ------
    ValueError
        If the file is not one that `export` wrote.
    """
    schema = _database().SCHEMA
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["schema"] != schema:
            raise ValueError(f"its schema is {document['schema']!r}, expected {schema}")
        entries = {str(key): _database().check_times(found) for key, found in document["tuned"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no file of tuning results: {error}") from None
    _store(entries)
    return len(entries)


def forget() -> None:
    """Read the file afresh, with what other processes have added."""
    _known.clear()


def database() -> Path:
    """Path of the file."""
    return _file_in(cache_folder.folder())


@lru_cache(maxsize=8)
def _file_in(folder: Path) -> Path:
    return folder / _FILE


def _entries() -> dict[str, Times]:
    path = database()
    if path not in _known:
        _known[path] = {} if cache_folder.inode(path) is None else _database().load(path)
        _known[path].update(_unsaved)
    return _known[path]


def _store(entries: dict[str, Times]) -> None:
    _entries().update(entries)
    if not _database().save(database(), entries):
        _unsaved.update(entries)


def _database() -> ModuleType:
    from . import database as on_disk  # and with it SQLite, when there is something to read

    return on_disk


@lru_cache(maxsize=4096)
def key_of(plan: Plan, device: str) -> str:
    """Name of a problem on this machine: exact in all but the sizes, which are rounded to four leading bits."""
    axes = plan.axes[3 - plan.ndim :]
    problem = {
        "batch": _rounded(plan.batch),
        "channels": (plan.in_channels, plan.out_channels, plan.groups),
        "axes": [(_rounded(axis.size), axis.kernel, axis.stride, axis.dilation, axis.pad_low) for axis in axes],
        "layout": "channels_last" if plan.channels_last else "channels_first",
        "dtype": plan.dtype,
        "precision": plan.precision,
    }
    if plan.operation != "forward":  # which keys of earlier versions do not name
        problem["operation"] = plan.operation
    return json.dumps([problem, identity(device), software(device)])


def _rounded(size: int) -> int:
    """Keep four leading bits: at most an eighth is lost."""
    shift = max(0, size.bit_length() - 4)
    return size >> shift << shift


@lru_cache(maxsize=2)
def software(device: str) -> str:
    """Versions of what compiles the kernels."""
    names = ("numba", "llvmlite") if device == "cpu" else ("numba-cuda", "cupy", "cupy-cuda12x", "cupy-cuda13x")
    return ", ".join([f"gpu_transconv {__version__}", *filter(None, map(_version, names))])


def _version(package: str) -> str | None:
    metadata = import_module("importlib.metadata")  # which takes longer to import than half of this package
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return None
