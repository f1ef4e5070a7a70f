"""A device for `benchmarks.gpu_check` without a GPU: NumPy, contenders wrong on purpose, memory that is reused."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from benchmarks.gpu_check.measure import Contender, Contenders, Task, Times

#: Contenders and their milliseconds, which are not waited for.
TIMES = {"gather": 2.0, "scatter_atomic": 4.0, "scatter_owned": 5.0, "auto": 2.2, "cudnn_heuristic": 6.0,
         "cudnn_search": 3.3}  # fmt: skip
#: Steps of its probe, and what they find.
STEPS = {
    "versions": {"python": "3.12"},
    "device": {"device": "NVIDIA Made-Up 100", "capability": "9.0"},
    "copy": {"gb_per_s": 1000.0},
    **{f"product {name}": {"tflops": peak} for name, peak in
       (("float32", 1.0), ("tf32", 10.0), ("float16", 20.0), ("bfloat16", 20.0))},
    **{f"call {number}": {} for number in range(6)},
}  # fmt: skip
#: How a contender can be wrong, by the first word of the layer's name: "lazy auto" is one whose auto is lazy.
FAULTS = ("lazy", "short", "breaks", "dies", "hangs", "raises")


class FakeGpu:
    """A device whose contenders hand out the memory that was given back last, as an allocator of a GPU does."""

    #: A context belongs to its process.
    broken = False

    def __init__(self, backend: str = "cupy") -> None:  # noqa: ARG002
        if os.environ.get("FAKE_GPU") == "missing":
            raise RuntimeError("no driver")
        self._free: list[np.ndarray] = []
        self._pause = float(os.environ.get("FAKE_GPU_PAUSE", "0"))

    @staticmethod
    def step_names() -> list[str]:
        return list(STEPS)

    def step(self, name: str) -> dict[str, Any]:
        time.sleep(self._pause)
        if name == os.environ.get("FAKE_GPU_DIES_AT"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return STEPS[name]

    def conditions(self) -> dict[str, Any]:
        return {"clocks.sm": "1755 MHz"}

    @classmethod
    def is_healthy(cls) -> bool:
        return not cls.broken

    def compile_ahead(self, tasks: list[Task], seconds: float) -> dict[str, Any]:  # noqa: ARG002
        return {"kernels": len(tasks), "compiled": len(tasks), "failed": {}, "seconds": 0.0}

    def profile(self, call: Any) -> None:
        call()

    def _alive(self) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def clock_calls(self, call: Any, count: int, ahead: float = 0.0) -> Times:  # noqa: ARG002
        for _ in range(count):
            call()
        self._alive()
        return Times([self._ms] * count, 1e-5 * count)

    def clock_host(self, call: Any, count: int) -> float:
        for _ in range(count):
            call()
        return 2e-5

    def clock_graph(self, call: Any, calls: int, replays: int) -> list[float]:
        for _ in range(calls):
            call()
        return [self._ms * 0.9] * replays

    def poisoned(self, expected: np.ndarray, task: Task) -> np.ndarray:  # noqa: ARG002
        return np.full_like(expected, np.nan)

    def poison_free_memory(self, expected: np.ndarray, task: Task) -> None:
        self._free.append(self.poisoned(expected, task))

    def error(self, result: np.ndarray, expected: np.ndarray) -> float:
        self._alive()
        self._free.append(result.copy())  # the caller drops it: the next result is made of this memory
        return float(np.abs(result - expected).max())

    def contenders(self, task: Task) -> Contenders:
        self._alive()
        expected = np.arange(12.0).reshape(3, 4) / 12
        fault, _, guilty = task.layer.name.partition(" ")
        peers_too = task.layer.ndim > 1 or task.data_format == "channels_first"

        def build(name: str) -> Contender:
            time.sleep(self._pause)
            self._ms = TIMES[name]
            return self._contender(expected, fault if name == guilty else "")

        names = [name for name in TIMES if peers_too or not name.startswith("cudnn")]
        return Contenders(expected, {name: lambda name=name: build(name) for name in names}, 2)

    def _contender(self, expected: np.ndarray, fault: str) -> Contender:
        def into(out: np.ndarray) -> np.ndarray:
            self._alive()
            if fault == "raises":
                raise ValueError("no such kernel\nand more")
            if fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hangs":
                time.sleep(1000)
            if fault == "breaks":
                type(self).broken = True
            columns = {"lazy": 0, "short": -1}.get(fault, expected.shape[1])
            out[:, :columns] = expected[:, :columns]
            return out

        def run() -> np.ndarray:
            return into(self._free.pop() if self._free else np.zeros_like(expected))

        return Contender(run, into)
