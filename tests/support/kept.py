"""Results of compilers that the tests look at, kept on disk by the hash of all that they come from."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
FOLDER = Path(__file__).parent / "__pycache__"
#: Days after which what no test has asked for is deleted.
_DAYS = 14


def digest(*parts: str) -> str:
    """A short name for texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def installed(*names: str) -> str:
    """Versions of installed packages, for a key."""

    def version_of(name: str) -> str:
        with suppress(PackageNotFoundError):
            return version(name)
        return ""

    return " ".join(f"{name} {version_of(name)}" for name in names)


@cache
def sources(folder: Path, pattern: str) -> str:
    """A short name for what the files of a folder hold."""
    return digest(*(f"{path.name}\0{path.read_text()}" for path in sorted(folder.glob(pattern))))


def kept(make: Callable[[], T], *key: str) -> T:
    """What `make` returns, or returned for the same key in an earlier run; `key` must name all that it depends on."""
    path = FOLDER / f"kept_{digest(*key)}.pickle"
    with suppress(OSError, EOFError, pickle.UnpicklingError):
        found: T = pickle.loads(path.read_bytes())
        os.utime(path)
        return found
    made = make()
    FOLDER.mkdir(exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(pickle.dumps(made))
    part.replace(path)
    return made


def kept_folder(*key: str) -> Path:
    """A folder for what another process keeps; `key` must name all that it depends on."""
    path = FOLDER / f"kept_{digest(*key)}"
    path.mkdir(parents=True, exist_ok=True)
    os.utime(path)
    return path


def forget_old() -> None:
    """Delete what has not been asked for in a long time."""
    for path in FOLDER.glob("kept_*"):
        with suppress(OSError):  # another process may do the same
            if path.stat().st_mtime < time.time() - _DAYS * 86400:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
