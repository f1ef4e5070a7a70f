"""Machine code of the CPU kernels on disk: one file per kernel, argument types and processor.

Numba's own cache looks at the file of the kernel alone, so that after an edit of a module which that file imports old
machine code would run; it fails on a file that was cut short, and where no folder can be written. Here a hash of all
sources names the folder, all else that decides the code the file, and each file begins with a hash of its contents.
A file appears whole, so any number of processes may write.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import llvmlite
import numba
from numba.core import config

from .... import cache_folder

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Loaded = TypeVar("Loaded")
_DIGEST_BYTES = hashlib.sha256().digest_size
#: Folders that are kept in one place: of earlier sources, of other branches and checkouts.
_MOST_VERSIONS = 8
_PREFIX = "kernels-"
#: Modules, by their path in the folder of the CPU's kernels, that no kernel imports, so that an edit of them changes no
#: machine code. Of the folders' own ``__init__`` the same holds.
NOT_IN_KERNELS = (
    "choice", "choose", "complexes", "cpu_kernel", "input_grad", "launch", "pack", "warm_up", "weight_order",
    "weight_grad/launch", "runtime/requirements", "runtime/workspace", "gemm/pairs",
    "costs/cost", "costs/cost_last", "costs/cost_lists", "costs/cost_others", "costs/cost_scatter", "costs/sizes",
)  # fmt: skip


def _sources(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    """Path and text of the modules that kernels import, in this folder and the folders in it."""
    for file in sorted(folder.iterdir(), key=lambda file: str(file.name)):
        name = above + file.name.partition(".")[0]
        if file.is_dir() and file.name != "__pycache__":
            yield from _sources(file, f"{name}/")
        elif file.name.endswith((".py", ".pyc")) and name not in NOT_IN_KERNELS and not name.endswith("__init__"):
            yield above + file.name, file.read_bytes()


def hash_sources(folder: Traversable) -> str:
    """Hash the modules in a folder and in those below, with the versions of what compiles them."""
    versions = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, getattr(sys, "abiflags", ""))
    digest = hashlib.sha256(repr((versions, platform.system())).encode())
    for name, text in _sources(folder):
        digest.update(repr((name, len(text))).encode() + text)
    return digest.hexdigest()[:16]


#: The package of the CPU's kernels, which this one is part of.
_KERNELS = __package__.rpartition(".")[0]
#: Of what is being imported, not of what is there when something is compiled.
_version = hash_sources(resources.files(_KERNELS))


def folders() -> list[Path]:
    """Return the places to look in, and to write to the first that can be written.

    They are the folder that NUMBA_CACHE_DIR names, the package itself, and the package's cache folder.
    """
    named = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []
    return [place / f"{_PREFIX}{_version}" for place in (*named, _in_package(), cache_folder.folder())]


def _in_package() -> Path:
    return Path(__file__).parents[1] / "__pycache__"


def read(name: str, key: str, load: Callable[[bytes], Loaded]) -> Loaded | None:
    """Return what `load` makes of the contents of a file, or None; a file that is damaged is set aside."""
    for folder in folders():
        path = folder / _file_name(name, key)
        seen = cache_folder.inode(path)
        try:
            data = path.read_bytes()
        except OSError:  # not there, or not for us
            continue
        try:
            if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
                raise ValueError("it was cut short or changed")
            found = load(data[_DIGEST_BYTES:])
        except Exception as error:  # whatever unpickling may raise
            cache_folder.set_aside(path, error, seen)
            continue
        _mark_as_used(folder)
        return found
    return None


def write(name: str, key: str, data: bytes) -> None:
    """Write a file to the first place that can be written; one warning where there is none."""
    refusals = []
    for folder in folders():
        refusal = _write(folder, _file_name(name, key), hashlib.sha256(data).digest() + data)
        if refusal is None:
            return
        refusals.append(f"{folder.parent} ({refusal.strerror or refusal})")
    cache_folder.warn_once(
        "the CPU kernels are compiled again by every process, because no place for their machine code can be written: "
        f"{', '.join(refusals)}; set NUMBA_CACHE_DIR or GPU_TRANSCONV_CACHE_DIR to a folder that can be"
    )


def _write(folder: Path, name: str, data: bytes) -> OSError | None:
    """Write a file, which appears whole; return the reason where that is not possible."""
    unfinished = None
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _drop_old(folder.parent)
        handle, unfinished = tempfile.mkstemp(dir=folder, prefix=name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(unfinished, 0o644)  # another user may run what an administrator compiled
        os.replace(unfinished, folder / name)
        unfinished = None
    except OSError as error:
        return error
    finally:
        if unfinished is not None:
            with suppress(OSError):
                os.unlink(unfinished)
    return None


def _drop_old(place: Path) -> None:
    """Remove the folders that were not used for longest, so that edits do not pile up."""
    with suppress(OSError):
        found = sorted(place.glob(f"{_PREFIX}*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in found[_MOST_VERSIONS:]:
            shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=8)
def _mark_as_used(folder: Path) -> None:
    """Set a folder's time, once in a process; the oldest folders are removed."""
    with suppress(OSError):
        os.utime(folder)


def _file_name(name: str, key: str) -> str:
    return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.code"
