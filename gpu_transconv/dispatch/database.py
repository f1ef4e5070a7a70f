"""Tuning results on disk: one SQLite table, written with SQLite's own locks by any number of processes.

A file that cannot be used is set aside; where no file can be written, `DatabaseError` says so.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from .. import cache_folder

#: Seconds by the names of implementations.
Times = dict[str, float]

#: Form of the table; a file of another form is set aside.
SCHEMA = 1
#: Seconds that one process waits for others that are writing.
_PATIENCE = 60.0


def load(path: Path) -> dict[str, Times]:
    """Read all entries; none, after a warning, where the file cannot be used."""
    seen = cache_folder.inode(path)
    try:
        return {} if seen is None else _read(path)
    except sqlite3.OperationalError as error:  # locked for too long, or no right to read it
        cache_folder.warn_once(f"{path} cannot be read and is not used: {error}")
    except (sqlite3.DatabaseError, ValueError, RecursionError, OSError) as error:
        cache_folder.set_aside(path, error, seen)
    return {}


def save(path: Path, entries: Mapping[str, Times]) -> bool:
    """Add entries, or replace those of the same key; one warning, and False, where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        seen = cache_folder.inode(path)
        try:
            _write(path, entries)
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, ValueError) as error:
            cache_folder.set_aside(path, error, seen)
            _write(path, entries)
    except (OSError, sqlite3.Error) as error:
        cache_folder.warn_once(
            f"{path} cannot be written; tuning results are kept in memory only: {error}; "
            "set GPU_TRANSCONV_CACHE_DIR to a folder that can be"
        )
        return False
    return True


def check_times(found: object) -> Times:
    """Return times by implementation as they are, or raise `ValueError`."""
    if not isinstance(found, dict) or not found:
        raise ValueError(f"expected times by implementation, got {found!r}")
    for name, seconds in found.items():
        if not isinstance(name, str) or not isinstance(seconds, float) or not 0 < seconds < math.inf:
            raise ValueError(f"expected positive seconds by implementation, got {found!r}")
    return found


def _read(path: Path) -> dict[str, Times]:
    if path.stat().st_size == 0:  # another process is about to write it
        return {}
    with _open(path, "BEGIN") as connection:
        rows = connection.execute("SELECT key, times FROM tuned").fetchall()
    return {key: check_times(json.loads(text)) for key, text in rows}


def _write(path: Path, entries: Mapping[str, Times]) -> None:
    rows = [(key, json.dumps(times)) for key, times in entries.items()]
    with _open(path, "BEGIN IMMEDIATE") as connection:
        connection.executemany("INSERT OR REPLACE INTO tuned VALUES (?, ?)", rows)


@contextmanager
def _open(path: Path, begin: str) -> Iterator[sqlite3.Connection]:
    """Open in one transaction, which is committed unless the block raises."""
    with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
        connection.execute(begin)
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema == 0 and begin == "BEGIN IMMEDIATE":
            connection.execute("CREATE TABLE tuned (key TEXT PRIMARY KEY, times TEXT NOT NULL)")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        elif schema != SCHEMA:
            raise ValueError(f"its schema is {schema}, expected {SCHEMA}")
        yield connection
        connection.execute("COMMIT")
