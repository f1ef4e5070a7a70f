"""Files that only grow: one JSON object a line, written at once, so that a killed process loses nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line, after what a killed process may have left of one; several processes may write to one file."""
    line = json.dumps({**record, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n"
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        os.write(file, (("\n" if torn else "") + line).encode())
    finally:
        os.close(file)


def read(path: Path) -> list[Record]:
    """Return every whole line, in order; none where there is no file yet."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the end of a process that was killed
            continue
        if isinstance(record, dict):
            found.append(record)
    return found
