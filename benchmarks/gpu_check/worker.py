"""A process that has the device: it reads units of work from its standard input, and answers line by line.

``{"begin": name}`` and then ``{"entry": {...}}`` per part of a unit, and ``{"end": ...}`` after the last: ``"done"``,
or ``"broken"``, after which this process is of no more use.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from .measure import first_line, measure_task, task_from

Entry = dict[str, Any]


def find_device(name: str) -> Any:
    """Return the class that is named ``module:Class``; importing it needs no GPU library."""
    module, _, found = name.partition(":")
    return getattr(import_module(module), found)


def run_unit(device: Any, unit: dict[str, Any], say: Callable[..., None]) -> None:
    """Do one unit: its parts by name, each entry as soon as there is one."""
    if unit["kind"] == "measure":
        entries = measure_task(device, task_from(unit), unit["names"], unit["seconds"], lambda name: say(begin=name))
    elif unit["kind"] == "compile":
        say(begin="compile")
        found = device.compile_ahead([task_from(task) for task in unit["tasks"]], unit["seconds"])
        entries = iter([("compile", found)])
    else:
        entries = _steps(device, unit["names"], say)
    for name, entry in entries:
        fine = entry.get("status", "ok") in ("ok", "absent") and "context" not in entry
        usable = fine or ("context" not in entry and device.is_healthy())
        say(entry=entry | {"name": name} | ({} if usable else {"context": "broken"}))
        if not usable:
            say(end="broken")
            sys.exit(1)
    say(end="done")


def _steps(device: Any, names: list[str], say: Callable[..., None]) -> Iterator[tuple[str, Entry]]:
    """Do steps of the first stage; what raises has failed."""
    for name in names:
        say(begin=name)
        try:
            entry = {"status": "ok", **device.step(name)}
        except Exception as error:
            entry = {"status": "failed", "note": first_line(error)}
        yield name, entry


def main() -> None:
    """Serve until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log

    def say(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        device = find_device(sys.argv[1])(*sys.argv[2:])
    except Exception as error:  # no driver, no library: nothing will work
        say(fatal=first_line(error))
        return
    say(ready=device.conditions())
    for line in sys.stdin:
        run_unit(device, json.loads(line), say)


if __name__ == "__main__":
    main()
