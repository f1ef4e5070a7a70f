"""What the stages share: their names, folder, options, and when their time is up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import processes, records

#: Stage -> seconds that it takes at most, unless told otherwise: half an hour in all.
SECONDS = {"probe": 90.0, "tests": 420.0, "sanitize": 300.0, "measure": 540.0, "profile": 180.0}
#: Exit status: all done and right; something is wrong; bad options or no device; time was up.
DONE, WRONG, REFUSED, UNFINISHED = 0, 1, 2, 3


@dataclass(frozen=True)
class Stage:
    """A stage at work in a folder; `deadline` is of `time.monotonic`."""

    name: str
    folder: Path
    deadline: float
    again: bool = False

    @property
    def path(self) -> Path:
        """The file of records."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.folder / f"{self.name}.log"

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def append(self, record: dict[str, Any]) -> None:
        """Write a record, which is then safe."""
        records.append(self.path, record)

    def finished(self, key: Callable[[dict[str, Any]], Hashable]) -> set[Hashable]:
        """Keys of what need not be done again: all that has a result, with `again` only what was right."""
        poor = ("failed", "wrong", "stopped", "crashed", "errors")
        return {
            key(record)
            for record in records.read(self.path)
            if not record.get("about") and not (self.again and record.get("status") in poor)
        }


@contextmanager
def at_work(name: str, folder: Path, seconds: float, again: bool) -> Any:
    """Make the folder, and hold the stage against a second process.

    Raises
    ------
    BlockingIOError
        If another process is at this stage in this folder.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with processes.only_one(folder / f"{name}.lock"):
        yield Stage(name, folder, time.monotonic() + seconds, again)


def say(text: str) -> None:
    """Print a line at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def count_words(found: Iterable[str]) -> str:
    """Say how often each word is there."""
    words = list(found)
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words)) or "nothing"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
