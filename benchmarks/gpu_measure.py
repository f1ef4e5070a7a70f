"""Check and time the contenders of one layer on a device, within a time budget. Knows no GPU library.

A contender is a function that computes the layer once, on the next of several input buffers, and returns its result.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from gpu_transconv.problem.plan import Plan
from gpu_transconv.tools.bench.layers import Layer

#: Precision -> (dtype of the arrays, whether products of float32 may be rounded to TF32).
PRECISIONS = {
    "float32": ("float32", False),
    "tf32": ("float32", True),
    "float16": ("float16", False),
    "bfloat16": ("bfloat16", False),
}
DATA_FORMATS = ("channels_first", "channels_last")
OURS = ("gather", "scatter", "auto")
PEERS = ("cudnn_heuristic", "cudnn_search")

#: Of what a measurement may take of the time that is left, were all the remaining ones to take as much.
_SHARE = 0.6
_LEAST_SECONDS, _MOST_SECONDS = 0.004, 0.05
_LEAST_CALLS, _MOST_CALLS = 3, 100
_WARM_CALLS = 2
#: How much longer than the host needs for its calls the device is kept busy.
_AHEAD = 1.5
#: Spacing at 1 of what the products' operands, or the result, are rounded to.
_SPACING = {"float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class Device(Protocol):
    """What measuring needs of a device; benchmarks.gpu_device has the real one."""

    def clock_calls(self, call: Callable[[], Any], count: int, ahead: float = 0.0) -> Times:
        """Time `count` calls by the device's own events, and wait for the last.

        The device is kept busy for `ahead` seconds first, so that calls queue up and it never waits for the host.
        """

    def error(self, result: Any, expected: Any) -> float:
        """Largest difference over the largest expected value; infinite for another shape, another dtype, or NaN."""

    def contenders(self, task: Task) -> Contenders:
        """Everything that computes the layer of `task`."""


class Times(NamedTuple):
    """Milliseconds of each call on the device, and seconds that the host took for all of them."""

    device_ms: list[float]
    host_seconds: float


class Contenders(NamedTuple):
    """What runs one layer: the result to compare with, and a way to build each contender (which may raise)."""

    expected: Any
    builds: Mapping[str, Callable[[], Callable[[], Any]]]


class Task(NamedTuple):
    """One line of the result: a layer in one precision and one data format."""

    layer: Layer
    precision: str
    data_format: str

    @property
    def plan(self) -> Plan:
        """The package's plan."""
        return self.layer.plan(PRECISIONS[self.precision][0], self.data_format)

    @property
    def tolerance(self) -> float:
        """Allowed error over the largest expected value, which is itself a float32 result with the same errors."""
        taps = math.prod(max((len(phase.taps) for phase in axis.phases), default=0) for axis in self.plan.axes)
        products = max(1, taps * self.layer.cin // self.layer.groups)
        return max(_SPACING["float32"] * 8 * math.sqrt(products), 4 * _SPACING[self.precision])


@dataclass
class Budget:
    """Time that is left, and how much of it the next measurement may take."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.clock()

    @property
    def left(self) -> float:
        """Seconds left; not above zero when time is up."""
        return self.seconds - (self.clock() - self._start)

    def share(self, remaining: int) -> float:
        """Seconds for one of `remaining` measurements."""
        return min(_MOST_SECONDS, max(_LEAST_SECONDS, _SHARE * self.left / max(1, remaining)))


def measure(device: Device, tasks: Sequence[Task], budget: Budget, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one row per task, in order; those that time does not reach have no contenders.

    A row has per contender a ``status``: ``"ok"`` with ``ms`` (the median of calls that queued up), ``alone_ms`` (of
    calls for which the device may have waited), ``first_ms`` (of the call that compiles, or searches), ``calls``
    and ``error``; ``"wrong"`` with the error, not timed; ``"failed"`` with a ``note``.
    """
    for index, task in enumerate(tasks):
        row = {
            "layer": task.layer.name,
            "precision": task.precision,
            "data_format": task.data_format,
            "flops": task.plan.flops,
            "bytes": task.plan.bytes,
            "contenders": {},
        }
        if budget.left > 0:
            remaining = (len(tasks) - index) * len(names)
            try:
                found = device.contenders(task)
            except Exception as error:  # no memory, or no peer for this layer: the next one may do
                row["note"] = first_line(error)
            else:
                row["contenders"] = _measure_all(device, task, found, budget, remaining, names)
        yield row


def _measure_all(
    device: Device, task: Task, found: Contenders, budget: Budget, remaining: int, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    rows = {}
    for turn, name in enumerate(name for name in names if name in found.builds):
        if budget.left <= 0:
            break
        try:
            rows[name] = _measure_one(
                device, found.builds[name], found.expected, task.tolerance, budget.share(remaining - turn)
            )
        except Exception as error:
            rows[name] = {"status": "failed", "note": first_line(error)}
    return rows


def _measure_one(
    device: Device, build: Callable[[], Callable[[], Any]], expected: Any, tolerance: float, seconds: float
) -> dict[str, Any]:
    call = build()
    results: list[Any] = []

    def keep() -> Any:
        results.append(call())
        return results[-1]

    first = device.clock_calls(keep, 1).device_ms[0]
    error = device.error(results.pop(), expected)
    if not error <= tolerance:
        return {"status": "wrong", "error": error if math.isfinite(error) else None, "note": f"allowed {tolerance:.2g}"}
    warm = device.clock_calls(call, _WARM_CALLS)
    count = max(_LEAST_CALLS, min(_MOST_CALLS, int(seconds * 1e3 / max(*warm.device_ms, 1e-4))))
    alone = device.clock_calls(call, _LEAST_CALLS)
    queued = device.clock_calls(call, count, ahead=_AHEAD * count * alone.host_seconds / _LEAST_CALLS)
    return {
        "status": "ok",
        "ms": statistics.median(queued.device_ms),
        "alone_ms": statistics.median(alone.device_ms),
        "first_ms": first,
        "calls": count,
        "error": error,
    }


def first_line(error: Exception) -> str:
    """Kind and first line of an error, not too long."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
