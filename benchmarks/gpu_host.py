"""What a call on a device array costs the host: Python alone, with a CuPy that does nothing, so without a GPU.

::

    python -m benchmarks.gpu_host

Microseconds of processor time: of a prepared call, of one into `out`, and of the function, which packs the weights.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import gpu_transconv as gtc

_CALLS, _TRIES = 1000, 7
#: Of arrays that do not overlap.
_addresses = itertools.count(1 << 30, 1 << 24)
_ATTRIBUTES = {
    "ComputeCapabilityMajor": 8, "ComputeCapabilityMinor": 0, "MultiProcessorCount": 132,
    "MaxSharedMemoryPerBlockOptin": 163 << 10, "MaxSharedMemoryPerBlock": 48 << 10,
}  # fmt: skip


class Memory:
    """A place in memory that nobody reads."""

    def __init__(self) -> None:
        self.ptr = next(_addresses)

    def memset_async(self, value: int, size: int) -> None:
        pass


class Array:
    """CuPy's ndarray, as far as a call looks at it."""

    device = SimpleNamespace(id=0)
    flags = SimpleNamespace(c_contiguous=True)

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape, self.dtype, self.data = shape, np.dtype(dtype), Memory()
        self.size = math.prod(shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __setitem__(self, place: Any, value: Any) -> None:
        pass

    def get(self) -> Any:
        return np.zeros(self.shape, self.dtype)


class Stream:
    """The default stream."""

    ptr = 0

    def synchronize(self) -> None:
        pass

    def record(self, event: Any = None) -> Any:
        return event


class Device:
    """The only device."""

    compute_capability, attributes = "80", _ATTRIBUTES

    def __init__(self, number: int = 0) -> None:
        self.id = number

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Function:
    """A kernel."""

    shared_size_bytes = max_dynamic_shared_size_bytes = 0

    def __call__(self, grid: Any, block: Any, arguments: Any, *, shared_mem: int) -> None:
        pass


def stand_in() -> Any:
    """Make the module."""
    module: Any = ModuleType("cupy")
    stream = Stream()
    module.ndarray, module.empty = Array, Array
    module.RawModule = lambda **_: SimpleNamespace(get_function=lambda _: Function())
    module.cuda = SimpleNamespace(
        Device=Device,
        Event=lambda **_: SimpleNamespace(done=True),
        Stream=SimpleNamespace(null=stream),
        get_current_stream=lambda _=-1: stream,
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0),
        nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
        compiler=SimpleNamespace(CompileException=RuntimeError),
    )
    return module


def microseconds(call: Callable[[], Any]) -> float:
    """Processor time of a call, the best of several averages."""
    best = math.inf
    for _ in range(_TRIES):
        start = time.process_time()
        for _ in range(_CALLS):
            call()
        best = min(best, time.process_time() - start)
    return best / _CALLS * 1e6


def main() -> None:
    """Print the times."""
    cupy = sys.modules["cupy"] = stand_in()
    x, weight = cupy.empty((1, 64, 32, 32), "float16"), cupy.empty((64, 32, 2, 2), "float16")
    layer = gtc.ConvTranspose(weight, stride=2, backend="cupy")
    out = layer(x)
    calls: dict[str, Callable[[], Any]] = {
        "prepared": lambda: layer(x),
        "prepared, out": lambda: layer(x, out=out),
        "function": lambda: gtc.conv_transpose2d(x, weight, stride=2, backend="cupy"),
    }
    for name, call in calls.items():
        print(f"{name:15} {microseconds(call):5.1f} us")


if __name__ == "__main__":
    main()
