"""Run the tests for a device in several processes; one that crashes, hangs or breaks the context costs one test."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import processes, records, suite
from .plugin import BROKEN
from .stages import DONE, UNFINISHED, WRONG, Stage, count_words, say

#: Tests of one process, after which the next takes over: what leaks, and a start of some seconds, stay small.
_TESTS_PER_PROCESS = 60
#: A test may compile several kernels.
_TEST_SECONDS = 150.0
_POLL_SECONDS = 0.2


class Run(NamedTuple):
    """A stage, the checkout whose tests it runs, and the device's class, which says whether a context is broken."""

    stage: Stage
    root: Path
    device: str

    def start(
        self, tests: Path, log: Path, wrapper: Sequence[str] = (), **given: str | Path
    ) -> subprocess.Popen[bytes]:
        """Start pytest on the tests that a file lists."""
        files = dict.fromkeys(test.partition("::")[0] for test in tests.read_text(encoding="utf-8").splitlines())
        environment = suite.environment(tests=tests, device=self.device, **given)
        return processes.start([*wrapper, *suite.pytest_command(*files)], log, environment, folder=self.root)


class _Process:
    """One run of pytest over some tests."""

    def __init__(self, run: Run, label: str, tests: Sequence[str]) -> None:
        stage, self.label, self.tests = run.stage, label, tests
        self._list = stage.folder / f"tests.{label}.txt"
        self._list.write_text("\n".join(tests), encoding="utf-8")
        self.run = run.start(self._list, stage.log, records=stage.path, process=label)

    def silent_for(self) -> float:
        """Seconds since it began its last test: the plugin touches the list then."""
        return time.time() - self._list.stat().st_mtime

    def end(self) -> None:
        """Stop it, if it runs."""
        processes.stop(self.run)
        self._list.unlink(missing_ok=True)


def run_tests(run: Run, chosen: Sequence[str], count: int) -> int:
    """Run what has no outcome yet in `count` processes."""
    stage = run.stage
    finished = finished_tests(stage)
    left = deque(test for test in chosen if test not in finished)
    stage.append({"about": "chosen", "tests": list(chosen)})
    say(f"{len(left)} of {len(chosen)} tests to run, in {count} processes")
    label, running = _first_label(stage), list[_Process]()
    size = max(1, min(_TESTS_PER_PROCESS, -(-len(left) // count)))
    try:
        while left or running:
            if stage.left <= 0:
                say(f"time is up: {len({*chosen} - finished_tests(stage))} tests are left for the next call")
                return UNFINISHED
            while left and len(running) < count:
                tests = [left.popleft() for _ in range(min(size, len(left)))]
                running.append(_Process(run, str(label), tests))
                label += 1
            time.sleep(_POLL_SECONDS)
            for process in _ended(running):
                running.remove(process)
                left.extend(_account(stage, process))
    finally:
        for process in running:
            process.end()
    statuses = [record["status"] for record in latest(records.read(stage.path)).values()]
    say(f"tests: {count_words(statuses)}")
    return DONE if {*statuses} <= {"passed", "skipped"} else WRONG


def latest(found: Sequence[records.Record]) -> dict[str, records.Record]:
    """Each test's last outcome."""
    return {record["test"]: record for record in found if "test" in record and record["status"] != "started"}


def finished_tests(stage: Stage) -> set[str]:
    """Tests that need not be run again."""
    found = latest(records.read(stage.path))
    return {test for test, r in found.items() if not stage.again or r["status"] in ("passed", "skipped")}


def _first_label(stage: Stage) -> int:
    return 1 + max((int(r["process"]) for r in records.read(stage.path) if "process" in r), default=0)


def _ended(running: Sequence[_Process]) -> list[_Process]:
    """Those that have ended, and those whose test hangs, which are ended."""
    found = []
    for process in running:
        if process.run.poll() is None and process.silent_for() > _TEST_SECONDS:
            processes.stop(process.run)
        if process.run.poll() is not None:
            found.append(process)
    return found


def _account(stage: Stage, process: _Process) -> list[str]:
    """Write down the test that ended a process, if one did; what is left of its tests."""
    process.end()
    mine = [r for r in records.read(stage.path) if r.get("process") == process.label]
    over = {record["test"] for record in mine if record["status"] != "started"}
    begun = [record["test"] for record in mine if record["status"] == "started" and record["test"] not in over]
    left = [test for test in process.tests if test not in over]
    how = processes.how_it_ended(process.run)
    if begun:
        note = f"its process {how}"
        stage.append({"test": begun[-1], "status": "crashed", "note": note, "process": process.label})
        say(f"{begun[-1]}: {note}")
        return [test for test in left if test != begun[-1]]
    if left and process.run.returncode != BROKEN and not over:  # it cannot even start
        for test in left:
            note = f"pytest {how} before the first test, see {stage.log.name}"
            stage.append({"test": test, "status": "failed", "note": note, "process": process.label})
        return []
    return left
