"""The folder in which tuning results and machine figures are kept; without it they live as long as the process."""

from __future__ import annotations

import os
import warnings
from pathlib import Path


class CacheWarning(UserWarning):
    """Something about the cache folder is wrong; the work goes on without it."""


_warned: set[str] = set()


def folder() -> Path:
    """Return the folder: ``GPU_TRANSCONV_CACHE_DIR``, or the user's cache folder of this system."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("GPU_TRANSCONV_CACHE_DIR") or user_cache_dir("gpu_transconv", appauthor=False))


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
