"""Give units of work to a worker process, replace it when it breaks, hangs or dies, and record what became of each."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import processes

#: Until a new worker has imported its libraries and opened the device.
_START_SECONDS = 120.0


class NoDeviceError(RuntimeError):
    """The worker says that nothing can run here."""


class TimeIsUp(Exception):  # noqa: N818
    """The stage's own limit has come; what was under way is left for the next time."""


class Supervisor:
    """One worker at a time.

    Parameters
    ----------
    device : sequence of str
        The device's class as ``module:Class``, and its arguments.
    log : Path
        Where what the workers print is added.
    deadline : float
        Of `time.monotonic`.
    note : callable
        Called with what each new worker says of the device's state.
    """

    def __init__(
        self, device: Sequence[str], log: Path, deadline: float, note: Callable[[dict[str, Any]], None]
    ) -> None:
        self._device, self._log, self._deadline, self._note = device, log, deadline, note
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self.units = 0

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.replace()

    def replace(self) -> None:
        """End the worker; the next unit gets a new one."""
        if self._process is not None:
            processes.stop(self._process)
        self._process, self._rest, self.units = None, b"", 0

    def run(self, unit: dict[str, Any], names: Sequence[str], limit: float) -> Iterator[dict[str, Any]]:
        """Yield an entry for each of the names; what broke, hung or ended the worker has status "failed".

        `limit` is in seconds, for each name.
        """
        left = list(names)
        while left:
            for entry in self._ask(unit | {"names": left}, left, limit):
                left = [name for name in left if name != entry["name"]]
                yield entry
        self.units += 1

    def _ask(self, unit: dict[str, Any], names: Sequence[str], limit: float) -> Iterator[dict[str, Any]]:
        worker, current = self._ready(), names[0]
        self._send(worker, unit)
        while True:
            message, why = self._answer(worker, limit)
            if message is None:
                self.replace()
                yield {"name": current, "status": "failed", "note": why, "context": "broken"}
                return
            current = message.get("begin", current)
            if "entry" in message:
                yield message["entry"]
            if "end" in message:
                if message["end"] == "broken":
                    self.replace()
                return

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        command = [sys.executable, "-m", f"{__package__}.worker", *self._device]
        self._process = processes.start(command, self._log, pipes=True)
        message, why = self._answer(self._process, _START_SECONDS)
        if message is None or "fatal" in message:
            self.replace()
            raise NoDeviceError(why if message is None else message["fatal"])
        self._note(message["ready"])
        return self._process

    def _send(self, worker: subprocess.Popen[bytes], unit: dict[str, Any]) -> None:
        assert worker.stdin is not None
        try:
            worker.stdin.write(json.dumps(unit).encode() + b"\n")
            worker.stdin.flush()
        except BrokenPipeError:  # it has ended, as the answer will tell
            pass

    def _answer(self, worker: subprocess.Popen[bytes], limit: float) -> tuple[dict[str, Any] | None, str]:
        """Return the next message, or None and what became of the worker."""
        assert worker.stdout is not None
        until = time.monotonic() + limit
        while b"\n" not in self._rest:
            now = time.monotonic()
            if now >= self._deadline:
                self.replace()
                raise TimeIsUp
            if now >= until:
                return None, f"no answer in {limit:g} s"
            if select.select([worker.stdout], [], [], min(until, self._deadline) - now)[0]:
                data = os.read(worker.stdout.fileno(), 1 << 16)
                if not data:
                    return None, f"the worker {processes.how_it_ended(worker)}"
                self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message, ""
