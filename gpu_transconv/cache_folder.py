"""The folder in which tuning results and machine figures are kept; without it they live as long as the process."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

from .errors import CacheWarning

_warned: set[str] = set()


def folder() -> Path:
    """Return the folder: ``GPU_TRANSCONV_CACHE_DIR``, or the user's cache folder of this system."""
    named = os.environ.get("GPU_TRANSCONV_CACHE_DIR")
    if named:
        return _path(named)
    try:
        from platformdirs import user_cache_dir
    except ImportError:  # copied to a machine without the package's dependencies
        return _plain_folder()
    return Path(user_cache_dir("gpu_transconv", appauthor=False))


@lru_cache(maxsize=8)
def _path(named: str) -> Path:
    return Path(named)


def _plain_folder() -> Path:
    """The user's cache folder by each system's own rule, as platformdirs names it."""
    if sys.platform == "win32":
        return _home(os.environ.get("LOCALAPPDATA"), "AppData/Local") / "gpu_transconv" / "Cache"
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return _home(os.environ.get("XDG_CACHE_HOME"), usual) / "gpu_transconv"


def _home(named: str | None, usual: str) -> Path:
    """Return the folder that is named, or the usual one in the user's home, or in that for temporary files."""
    if named:
        return Path(named)
    try:
        return Path.home() / usual
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / usual


def warn_once(message: str) -> None:
    """Warn, but only the first time in this process."""
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, CacheWarning, stacklevel=3)


def inode(path: Path) -> int | None:
    """Number of the file that is now at a path, or None."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def set_aside(path: Path, reason: object, seen: int | None) -> None:
    """Rename a file that cannot be used, so that a new one can take its place, and warn.

    `seen` is its `inode`: another process may have set it aside already, and what is there now is then in order.
    """
    aside = path.with_name(f"{path.name}.unusable")
    if inode(path) != seen:
        return
    try:
        path.replace(aside)
    except OSError:
        warnings.warn(f"{path} cannot be used: {reason}", CacheWarning, stacklevel=3)
    else:
        warnings.warn(f"{path} cannot be used and is now {aside}: {reason}", CacheWarning, stacklevel=3)
