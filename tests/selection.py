"""Which of the collected tests run here, in which order, and the one line that says what was left out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from gpu_transconv.kernels.registry import backends

GPU_BACKENDS = ("cupy", "numba-cuda")
#: How many tests `leave_out_missing_devices` left out, by backend.
LEFT_OUT = pytest.StashKey["Counter[str]"]()

#: Tests marked ``quick``: what most faults of a change break first, without the slow proofs; with compiled kernels they
#: take a minute in one process.
QUICK = re.compile(
    r"tests/(?:\w+/)*(?:test_(arguments|axis|plan|reference|select|settings|api_errors|layouts|kernels|prepared|pairs"
    r"|channels_last|random_geometries|numba_cuda)\.py::(?!test_in_the_simulator|test_gpu_tests)"
    r"|test_host_kernels\.py::test_(definition|split_reduction)\b.*-float(16|32))"
)


#: For tests that take most of a minute each: everywhere else, shorter ones of the same things run.
in_full = pytest.mark.skipif(
    not os.environ.get("GPU_TRANSCONV_TEST_ALL"), reason="takes most of a minute: GPU_TRANSCONV_TEST_ALL=1 runs it"
)


def one_of(number: int, items: Iterable[Any]) -> list[Any]:
    """Every so-many-th of the problems of a long table; all of them where GPU_TRANSCONV_TEST_ALL is set."""
    return list(items)[:: 1 if os.environ.get("GPU_TRANSCONV_TEST_ALL") else number]


def wants_devices(config: pytest.Config) -> bool:
    """Whether the tests of devices were asked for, by ``-m gpu`` or a longer expression that has it."""
    return re.search(r"(?<!not )\bgpu\b", config.getoption("-m")) is not None


def required_backends() -> list[str]:
    """Backends whose absence is a failure."""
    return os.environ.get("GPU_TRANSCONV_TEST_BACKENDS", "cpu,reference").split(",")


def leave_out_missing_devices(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked ``gpu(backend, ...)`` of which no backend can run here, unless they were asked for."""
    missing = {name for name in GPU_BACKENDS if not backends()[name]} - {*required_backends()}
    count: Counter[str] = Counter()
    kept, left_out = [], []
    for item in items:
        needed = [mark.args or GPU_BACKENDS for mark in item.iter_markers("gpu")]  # of each mark, any one does
        lacking = [names for names in needed if missing.issuperset(names)]
        (left_out if lacking else kept).append(item)
        count.update(" or ".join(names) for names in lacking[:1])
    config.stash[LEFT_OUT] = count
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def line_of_left_out(count: Counter[str]) -> str:
    """Say how many tests were left out, and why."""
    reasons = {name: str(backends()[name].reason).split(" (")[0].split(";")[0] for name in GPU_BACKENDS}
    parts = [
        f"{number:,} of {names} ({', '.join(reasons[name] for name in names.split(' or '))})"
        for names, number in sorted(count.items())
    ]
    return f"not run, for want of a device: {'; '.join(parts)}; -m gpu runs them"


def deal(items: Iterable[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order tests for `workers` processes of pytest-xdist, each of which starts on a piece of the list.

    Those marked ``long`` go to the heads of the pieces in turns, so that none is left for the end, when the other
    processes have nothing more to do.
    """
    items = list(items)
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        size = (len(items) - len(ordered)) // (workers - worker)  # as WorkStealingScheduling cuts its list
        head = long[worker::workers]
        room = max(0, size - len(head))
        ordered += [*head, *rest[:room]]
        rest = rest[room:]
    return ordered + rest
