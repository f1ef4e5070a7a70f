"""A plugin of pytest: run the tests of a list, write what became of each at once, and end where the context is broken.

``GPU_CHECK_LIST`` names a file to which the collected tests are written; nothing is run. ``GPU_CHECK_TESTS`` names
a file with the tests to run, ``GPU_CHECK_RECORDS`` the file of records, ``GPU_CHECK_PROCESS`` what this process is
called there, ``GPU_CHECK_DEVICE`` the device's class, and ``GPU_CHECK_POOLS=off`` takes CuPy's pool away, so that a
sanitizer sees every allocation.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from . import processes, records
from .worker import find_device

#: Status of a process that ended itself because its context was broken.
BROKEN = 70
_LONGEST_TEXT = 3000

_given = {key[10:].lower(): value for key, value in os.environ.items() if key.startswith("GPU_CHECK_")}
_outcome: dict[str, str] = {}
_errors: dict[str, str] = {}


def pytest_configure(config: Any) -> None:  # noqa: ARG001
    """Without a pool every array is an allocation of its own; and no test goes on without its stage."""
    processes.end_with_parent()
    if _given.get("pools") == "off":
        os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"  # read when PyTorch first allocates
        try:
            import cupy
        except ImportError:
            return

        cupy.cuda.set_allocator(None)
        cupy.cuda.set_pinned_memory_allocator(None)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Keep the tests of the list, in its order."""
    if "tests" in _given:
        order = {name: i for i, name in enumerate(Path(_given["tests"]).read_text(encoding="utf-8").splitlines())}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])


def pytest_collection_finish(session: Any) -> None:
    """Write the list."""
    if "list" in _given:
        found = [{"test": item.nodeid, "backend": _backend(item)} for item in session.items]
        listed = {"tests": found, "errors": _errors}
        Path(_given["list"]).write_text(json.dumps(listed), encoding="utf-8")


def pytest_collectreport(report: Any) -> None:
    """A file that cannot be imported costs its own tests only."""
    if report.failed:
        _errors[report.nodeid] = str(report.longrepr)[-_LONGEST_TEXT:]


def _backend(item: Any) -> str:
    """The GPU backend that a test is of; cupy where it names none, or both."""
    named = [name for mark in item.iter_markers("gpu") for name in mark.args]
    given = getattr(getattr(item, "callspec", None), "params", {}).get("backend")
    return given if isinstance(given, str) else (named[0] if len(named) == 1 else "cupy")


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test that has begun and has no outcome ended its process, or hung."""
    if "records" in _given:
        _write(nodeid, "started", "")


def pytest_runtest_logreport(report: Any) -> None:
    """Write the outcome when all three phases of a test are over, a failure's text before."""
    if "records" not in _given:
        return
    if report.failed:
        _outcome.setdefault(report.nodeid, str(report.longrepr)[-_LONGEST_TEXT:])
    elif report.skipped and report.nodeid not in _outcome:
        _write(report.nodeid, "skipped", str(report.longrepr)[-_LONGEST_TEXT:])
        _outcome[report.nodeid] = ""
    if report.when == "teardown":
        _finish(report.nodeid)


def _finish(nodeid: str) -> None:
    text = _outcome.pop(nodeid, None)
    if text is None:
        _write(nodeid, "passed", "")
    elif text:
        healthy = _is_healthy()
        _write(nodeid, "failed", text, **({} if healthy else {"context": "broken"}))
        if not healthy:
            sys.stdout.flush()
            os._exit(BROKEN)


def _is_healthy() -> bool:
    """Whether the next test can work; only where this process has the libraries that would know."""
    try:
        return "device" not in _given or bool(find_device(_given["device"]).is_healthy())
    except ImportError:  # tests of another library; where it is broken the next one fails too
        return True


def _write(nodeid: str, status: str, note: str, **more: str) -> None:
    os.utime(_given["tests"])  # a sign of life
    record = {"test": nodeid, "status": status, "process": _given.get("process", ""), **more}
    records.append(Path(_given["records"]), record | ({"note": note} if note else {}))
