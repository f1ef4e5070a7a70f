"""Run some of the tests under each tool of NVIDIA's compute-sanitizer, with the pools of memory off."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from . import processes, suite
from .stage_tests import Run
from .stages import DONE, UNFINISHED, WRONG, count_words, say

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
#: Tests under one tool, and in one process: a kernel takes ten to a hundred times as long.
TESTS, _TESTS_PER_PROCESS = 48, 8
_PROCESS_SECONDS = 150.0
_POLL_SECONDS = 0.1
_ERRORS = re.compile(r"(?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)")
_LONGEST_TEXT = 4000


def choose_few(chosen: Sequence[str], most: int = TESTS) -> list[str]:
    """Take turns between the functions and kernels of the chosen tests."""
    groups: dict[str, list[str]] = {}
    for test in chosen:
        groups.setdefault(re.sub(r"(?:-|\[)(?:channels_\w+|phases|merged.*?)(?=-|\]).*", "", test), []).append(test)
    return suite.in_turns(list(groups.values()))[:most]


def sanitize(run: Run, command: Sequence[str], tests: Sequence[str]) -> int:
    """Run what has no record yet, tool by tool."""
    stage = run.stage
    finished = stage.finished(lambda record: (record["tool"], *record["tests"]))
    pieces = [tests[i : i + _TESTS_PER_PROCESS] for i in range(0, len(tests), _TESTS_PER_PROCESS)]
    todo = [(tool, piece) for piece in pieces for tool in TOOLS if (tool, *piece) not in finished]
    found: list[str] = []
    for tool, piece in todo:
        record = _run_piece(run, [*command, "--tool", tool], piece)
        if record is None:
            say(f"time is up: {len(todo) - len(found)} of {len(todo)} runs are left for the next call")
            return UNFINISHED
        stage.append({"tool": tool, "tests": piece, **record})
        found.append(record["status"])
        say(f"{tool}, {len(piece)} tests: {record['status']} {record['note']}")
    say(f"sanitize: {count_words(found)}")
    return DONE if {*found} <= {"clean"} else WRONG


def _run_piece(run: Run, command: list[str], tests: Sequence[str]) -> dict[str, object] | None:
    """Run one process under a tool; None where the stage's time is up."""
    stage = run.stage
    listed, log = stage.folder / "sanitize.tests.txt", stage.folder / "sanitize.run.log"
    listed.write_text("\n".join(tests), encoding="utf-8")
    log.unlink(missing_ok=True)
    wrapper = [*command, "--target-processes", "all", "--error-exitcode", "99"]
    start = time.monotonic()
    process = run.start(listed, log, wrapper, pools="off")
    try:
        while process.poll() is None and stage.left > 0 and time.monotonic() - start < _PROCESS_SECONDS:
            time.sleep(_POLL_SECONDS)
        ended = process.poll() is not None
    finally:
        processes.stop(process)
    if not ended and stage.left <= 0:
        return None
    return {**_judge(log.read_text(errors="replace"), ended, process.returncode), "seconds": time.monotonic() - start}


def _judge(text: str, ended: bool, code: int) -> dict[str, object]:
    """What a tool's output says: clean, errors, failed (of itself, or a test), or stopped."""
    counts = [int(first or second) for first, second in _ERRORS.findall(text)]
    if not ended:
        status, note = "stopped", f"not finished after {_PROCESS_SECONDS:.0f} s"
    elif any(counts):
        status, note = "errors", f"{sum(counts)} errors"
    elif code or not counts:
        status, note = "failed", f"status {code}, {'a' if counts else 'no'} summary"
    else:
        status, note = "clean", ""
    return {"status": status, "note": note, "text": "" if status == "clean" else text[-_LONGEST_TEXT:]}
