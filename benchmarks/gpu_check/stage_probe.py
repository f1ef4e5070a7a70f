"""The first stage: what the machine is, whether each part works at all, and its peaks."""

from __future__ import annotations

from collections.abc import Sequence

from .stages import DONE, UNFINISHED, WRONG, Stage, count_words, say
from .supervise import Supervisor, TimeIsUp
from .worker import find_device

#: Seconds of one step; the first call of a kernel compiles it.
_STEP_SECONDS = 40.0


def probe(stage: Stage, device: Sequence[str]) -> int:
    """Do every step that has no record yet."""
    finished = stage.finished(lambda record: record["step"])
    names = [name for name in find_device(device[0]).step_names() if name not in finished]
    found: list[str] = []
    try:
        with Supervisor(device, stage.log, stage.deadline, lambda _: None) as supervisor:
            for entry in supervisor.run({"kind": "probe"}, names, _STEP_SECONDS):
                name = entry.pop("name")
                stage.append({"step": name, **entry})
                found.append(entry["status"])
                say(f"{name}: {', '.join(f'{key} {value}' for key, value in entry.items())}"[:160])
    except TimeIsUp:
        say(f"time is up: {len(names) - len(found)} steps are left for the next call")
        return UNFINISHED
    say(f"probe: {count_words(found)}")
    return WRONG if any(status != "ok" for status in found) else DONE
