"""Check and time the contenders of one layer on a device. Knows no GPU library.

A contender computes the layer once, on the next of several input buffers. Its first call, into memory that holds no
result, decides whether it is right; what is wrong is not timed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
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
OURS = ("gather", "scatter_atomic", "scatter_owned", "auto")
PEERS = ("cudnn_heuristic", "cudnn_search")
#: The package's contenders -> how the prepared operator is asked for them.
FORMULATIONS = {
    "gather": {"formulation": "gather"},
    "scatter_atomic": {"formulation": "scatter", "deterministic": False},
    "scatter_owned": {"formulation": "scatter", "deterministic": True},
    "auto": {"formulation": "auto"},
}
#: Seconds of timed calls of one contender.
SECONDS = 0.05

_LEAST_CALLS, _MOST_CALLS = 3, 100
_WARM_CALLS = 2
#: Calls in a row whose time on the host is taken, and how often: few enough that no queue of launches fills up.
_HOST_CALLS, _HOST_TIMES = 10, 5
#: How much longer than the host needs for its calls the device is kept busy.
_AHEAD = 1.5
#: Spacing at 1 of what the products' operands, or the result, are rounded to.
_SPACING = {"float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}

Entry = dict[str, Any]


class Device(Protocol):
    """What measuring needs of a device; benchmarks.gpu_check.device has the real one."""

    def clock_calls(self, call: Callable[[], Any], count: int, ahead: float = 0.0) -> Times:
        """Time `count` calls by the device's own events, and wait for the last.

        The device is kept busy for `ahead` seconds first, so that calls queue up and it never waits for the host.
        """

    def clock_host(self, call: Callable[[], Any], count: int) -> float:
        """Seconds that the host takes for one of `count` calls on an idle device, which it does not wait for."""

    def clock_graph(self, call: Callable[[], Any], calls: int, replays: int) -> list[float]:
        """Capture `calls` calls into a graph; milliseconds of one of them, per replay."""

    def poisoned(self, expected: Any, task: Task) -> Any:
        """Memory for a result, all NaN."""

    def poison_free_memory(self, expected: Any, task: Task) -> None:
        """Fill with NaN the memory that the next results will be made of."""

    def error(self, result: Any, expected: Any) -> float:
        """Largest difference over the largest expected value; infinite for another shape, another dtype, or NaN."""

    def contenders(self, task: Task) -> Contenders:
        """Everything that computes the layer of `task`."""

    def is_healthy(self) -> bool:
        """Whether the device still works for this process."""


class Times(NamedTuple):
    """Milliseconds of each call on the device, and seconds that the host took for all of them."""

    device_ms: list[float]
    host_seconds: float


class Contender(NamedTuple):
    """A call that makes its result, and one that writes it into given memory, where there is such a call."""

    run: Callable[[], Any]
    into: Callable[[Any], Any] | None = None


class Contenders(NamedTuple):
    """What runs one layer: the result to compare with, and a way to build each contender (which may raise)."""

    expected: Any
    builds: Mapping[str, Callable[[], Contender]]
    #: Input buffers that take turns.
    turns: int = 1


class Task(NamedTuple):
    """One line of the result: a layer in one precision and one data format."""

    layer: Layer
    precision: str
    data_format: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Names of the three."""
        return self.layer.name, self.precision, self.data_format

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

    def as_dict(self) -> dict[str, Any]:
        """What `task_from` reads."""
        return {"layer": self.layer.as_dict(), "precision": self.precision, "data_format": self.data_format}


def task_from(found: Mapping[str, Any]) -> Task:
    """Make a task of what `Task.as_dict` wrote, also after it has been JSON."""
    known = {field.name for field in fields(Layer)}
    sizes = {name: tuple(v) if isinstance(v, list) else v for name, v in found["layer"].items() if name in known}
    return Task(Layer(**sizes), found["precision"], found["data_format"])


def measure_task(
    device: Device,
    task: Task,
    names: Sequence[str],
    seconds: float = SECONDS,
    begin: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[str, Entry]]:
    """Yield each contender's name and entry, after `begin` was called with the name.

    An entry's ``status`` is ``"ok"`` with ``ms`` (the median of calls that queued up), ``alone_ms`` (of calls for which
    the device may have waited), ``graph_ms`` (of replays), ``host_us`` (of one call, on the host), ``first_ms`` (of the
    call that compiles, or searches), ``calls`` and ``error``; ``"wrong"`` with the error, not timed; ``"failed"`` with
    a ``note``; ``"absent"`` where there is no such contender for this layer.
    """
    begin(names[0])
    try:
        found = device.contenders(task)
    except Exception as error:  # no memory for it: another layer may do
        yield from ((name, {"status": "failed", "note": first_line(error)}) for name in names)
        return
    for name in names:
        if name not in found.builds:
            yield name, {"status": "absent"}
            continue
        begin(name)
        try:
            yield name, _measure_one(device, found, name, task, seconds)
        except Exception as error:
            yield name, {"status": "failed", "note": first_line(error)}


def _measure_one(device: Device, found: Contenders, name: str, task: Task, seconds: float) -> Entry:
    contender = found.builds[name]()
    first, wrong = _check_first_calls(device, contender, found.expected, task)
    if wrong is not None:
        return wrong
    call = contender.run
    warm = device.clock_calls(call, _WARM_CALLS)
    count = max(_LEAST_CALLS, min(_MOST_CALLS, int(seconds * 1e3 / max(*warm.device_ms, 1e-4))))
    alone = device.clock_calls(call, _LEAST_CALLS)
    queued = device.clock_calls(call, count, ahead=_AHEAD * count * alone.host_seconds / _LEAST_CALLS)
    host = min(device.clock_host(call, _HOST_CALLS) for _ in range(_HOST_TIMES))
    error = device.error(call(), found.expected)
    if not error <= task.tolerance:
        return _wrong(error, task, f"after {count} calls")
    entry = {
        "status": "ok",
        "ms": statistics.median(queued.device_ms),
        "alone_ms": statistics.median(alone.device_ms),
        "host_us": host * 1e6,
        "first_ms": first,
        "calls": count,
        "error": error,
    }
    return entry | _replay(device, call, found.turns, count)


def _check_first_calls(device: Device, contender: Contender, expected: Any, task: Task) -> tuple[float, Entry | None]:
    """Milliseconds of the first call, and an entry if it or the first that makes its own result is wrong."""
    calls, first = [contender.run], 0.0
    if contender.into is not None:
        into, out = contender.into, device.poisoned(expected, task)
        calls.insert(0, lambda: into(out))
    for turn, call in enumerate(calls):
        device.poison_free_memory(expected, task)
        results: list[Any] = []
        ms = device.clock_calls(lambda call=call, results=results: results.append(call()), 1).device_ms[0]  # type: ignore[misc]
        first = ms if turn == 0 else first
        error = device.error(results.pop(), expected)
        if not error <= task.tolerance:
            return first, _wrong(error, task, "at the first call" if turn == 0 else "where it makes its own result")
    return first, None


def _wrong(error: float, task: Task, when: str) -> Entry:
    shown = error if math.isfinite(error) else None
    return {"status": "wrong", "error": shown, "note": f"allowed {task.tolerance:.2g}, {when}"}


def _replay(device: Device, call: Callable[[], Any], turns: int, count: int) -> Entry:
    """Replays of a graph with one call per input buffer; what refuses to be captured says so."""
    try:
        return {"graph_ms": statistics.median(device.clock_graph(call, turns, max(_LEAST_CALLS, count // turns)))}
    except Exception as error:
        return {"graph_note": first_line(error)} | ({} if device.is_healthy() else {"context": "broken"})


def first_line(error: Exception) -> str:
    """Kind and first line of an error, not too long."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
