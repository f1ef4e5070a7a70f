"""Which tests a device gets: at most 700 per backend, of all that are marked for one."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import processes

#: Backends, whose absence is then a failure of their tests.
BACKENDS = ("cupy", "numba-cuda")
MOST_PER_BACKEND = 700
#: What is written for a device: forced tiles, streams, graphs, lifetimes, prepared layers. All of it is run.
_ALWAYS = re.compile(r"tests/(device|arrays)/")
_FORCED = re.compile(r"test_edges_of_every_tile\[(?P<kind>[\w-]+)-(?P<edge>[\w ]+)-(?P<format>channels_\w+)\]")
_KERNEL = re.compile(r"(?:cupy|numba-cuda)/[\w/]+")
_COLLECT_SECONDS = 180.0


def pytest_command(*arguments: str) -> list[str]:
    """The command that runs tests with the plugin."""
    plugins = ("-p", f"{__package__}.plugin", "-p", "no:cacheprovider")
    fixed = ("-m", "gpu", "-q", "--no-header", "--tb=short", "--continue-on-collection-errors", *plugins)
    return [sys.executable, "-m", "pytest", *fixed, *arguments]


def environment(**given: str | Path) -> dict[str, str]:
    """Variables of a process that runs tests; see the plugin."""
    found = {f"GPU_CHECK_{name.upper()}": str(value) for name, value in given.items()}
    return found | {
        "GPU_TRANSCONV_TEST_BACKENDS": ",".join(("cpu", "reference", *BACKENDS)),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # or JAX takes three quarters of the card
    }


class Collected(NamedTuple):
    """Tests with the backend of each, and what kept files from being imported."""

    tests: list[dict[str, str]]
    errors: dict[str, str]


def collect(root: Path, log: Path) -> Collected:
    """Collect the tests of a checkout that are marked for a GPU; needs no GPU.

    Raises
    ------
    RuntimeError
        If there are none.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "tests.json"
        command = pytest_command("--collect-only", "tests")
        process = processes.start(command, log, environment(list=listed), folder=root)
        try:
            process.wait(_COLLECT_SECONDS)
        finally:
            processes.stop(process)
        found = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
    if not found.get("tests"):
        raise RuntimeError(f"no test of {root} can be collected: {processes.how_it_ended(process)}, see {log}")
    return Collected(**found)


def choose(found: Iterable[dict[str, str]], most: int = MOST_PER_BACKEND) -> list[str]:
    """Choose the tests that are run: those for a device, then in turns from every function and kernel.

    Which of a function's many cases are taken is decided by a checksum of their names, and so the same every time.
    """
    chosen: list[str] = []
    by_backend: dict[str, list[str]] = defaultdict(list)
    for test in found:
        by_backend[test["backend"]].append(test["test"])
    for names in by_backend.values():
        always = [name for name in names if _ALWAYS.match(name)]
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted({*names}.difference(always), key=lambda name: zlib.crc32(name.encode())):
            kernel = _KERNEL.search(name)
            groups[name.partition("[")[0], kernel.group() if kernel else ""].append(name)
        chosen += [*always, *in_turns(list(groups.values()))][:most]
    return chosen


def in_turns(groups: Sequence[Sequence[str]]) -> list[str]:
    """The first of each, then the second of each, and so on."""
    longest = max(map(len, groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]


def forced_tiles(chosen: Iterable[str]) -> dict[str, dict[str, int]]:
    """How many gather tile shapes are forced, by precision and by how x is read."""
    shapes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for match in filter(None, map(_FORCED.search, chosen)):
        shape, _, kind = match["kind"].partition("-")
        old, _, precision = kind.partition("-")
        label = f"{precision} without matrix instructions" if old == "7" else precision
        shapes[label, f"{match['edge']}, {match['format']}"].add(shape)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for (label, mode), which in shapes.items():
        found[label][mode] = len(which)
    return found
