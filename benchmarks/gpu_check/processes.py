"""Processes of a stage: none outlives it, each can be stopped with its children, and what it prints is kept."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
#: prctl's number for "send me this signal when my parent ends", from linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 3.0


def end_with_parent() -> None:
    """Let Linux kill this process when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    pipes: bool = False,
    folder: Path = ROOT,
) -> subprocess.Popen[bytes]:
    """Start a command in `folder`, in a process group of its own; what it prints is added to `log`.

    With `pipes`, its standard input and output are pipes instead.
    """
    wrapped = [sys.executable, "-m", f"{__package__}.processes", *command]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("ab") as errors:
        return subprocess.Popen(
            wrapped,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else errors,
            stderr=errors,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, if it has not ended, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what it never read
                pipe.close()


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """Say how an ended process ended."""
    code = process.wait()
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a file against other processes, until the block or this process ends.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    with path.open("w") as file:
        deadline = time.monotonic() + _STOP_SECONDS  # a killed one may still be ending
        while not _lock(file):
            if time.monotonic() > deadline:
                raise BlockingIOError(f"another process is at this stage in {path.parent}")
            time.sleep(0.05)
        yield


def _lock(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    end_with_parent()  # holds across what replaces this program
    os.execvp(sys.argv[1], sys.argv[1:])
