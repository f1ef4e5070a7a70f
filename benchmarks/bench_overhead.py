"""What a call costs beyond its sums: import, first call, new shapes, calls of next to no work.

Run by asv, or as ``python -m benchmarks.bench_overhead``, which prints what a call costs before and after its kernel.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import gpu_transconv as gtc

from .harness import ONCE, TIMEOUT

_CALLS, _TRIES = 2000, 9


def microseconds(run: Callable[[], Any]) -> float:
    """Time of a call, the best of several averages."""
    best = float("inf")
    for _ in range(_TRIES):
        start = time.perf_counter()
        for _ in range(_CALLS):
            run()
        best = min(best, time.perf_counter() - start)
    return best / _CALLS * 1e6


class Overhead:
    """Calls on one element, less the launch, and for the function also less the packing."""

    unit = "us"

    def setup(self) -> None:
        try:
            from .stages import stages_of_a_call
        except ImportError as error:  # a commit whose inside is another
            raise NotImplementedError(str(error)) from None
        self.prepared, self.function, self.pack, self.launch = stages_of_a_call()

    def track_prepared(self) -> float:
        """Prepared operator."""
        return microseconds(self.prepared) - microseconds(self.launch)

    def track_function(self) -> float:
        """Function, which packs the weights at every call."""
        return microseconds(self.function) - microseconds(self.pack) - microseconds(self.launch)

    track_prepared.unit = track_function.unit = "us"


#: Shapes of input and weight, stride and padding.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int]] = {
    "one element": ((1, 1, 1), (1, 1, 1), 1, 0),
    "8 channels of 4 x 4": ((1, 8, 4, 4), (8, 8, 4, 4), 2, 1),
}
WAYS = ("function", "prepared", "prepared, out")

_FIRST_CALL = "gtc.conv_transpose2d(np.ones((1, 8, 4, 4), np.float32), np.ones((8, 8, 4, 4), np.float32), stride=2)"
_IMPORTS = "import numpy as np, gpu_transconv as gtc"


class Import:
    """A new interpreter imports the package, or for comparison NumPy alone."""

    params = ("gpu_transconv", "numpy")
    param_names = ("module",)
    number = 1
    rounds = 1
    repeat = (3, 10, 10.0)
    timeout = TIMEOUT

    def timeraw_import(self, module: str) -> str:
        return f"import {module}"

    timeraw_import.pretty_name = "Overhead: import"


class FirstCall:
    """The first call of a new process, with its kernel on disk from an earlier one, or nowhere."""

    params = ("on disk",) if ONCE else ("on disk", "not compiled")
    param_names = ("kernel",)
    number = 1
    rounds = 1
    repeat = (1, 3, 10.0)
    timeout = TIMEOUT

    def setup(self, kernel: str) -> None:
        if kernel == "on disk":
            exec(f"{_IMPORTS}\n{_FIRST_CALL}")
        self.folder = tempfile.mkdtemp()

    def teardown(self, _: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def timeraw_first_call(self, kernel: str) -> tuple[str, str]:
        elsewhere = f"import os; os.environ['NUMBA_CACHE_DIR'] = {self.folder!r}\n"
        return _FIRST_CALL, (elsewhere if kernel == "not compiled" else "") + _IMPORTS

    timeraw_first_call.pretty_name = "Overhead: first call of a process"


@cache
def _call_of(way: str, size: str) -> Callable[[], Any]:
    """Make a call, after checking its result."""
    x_shape, weight_shape, stride, padding = SIZES[size]
    rng = np.random.default_rng(0)
    x, weight = (rng.random(shape, np.float32) for shape in (x_shape, weight_shape))
    expected = gtc.conv_transpose(x, weight, stride=stride, padding=padding, backend="reference")
    layer = gtc.ConvTranspose(weight, stride=stride, padding=padding)
    out = np.full(expected.shape, np.nan, np.float32)
    calls: dict[str, Callable[[], Any]] = {
        "function": lambda: gtc.conv_transpose(x, weight, stride=stride, padding=padding),
        "prepared": lambda: layer(x),
        "prepared, out": lambda: layer(x, out=out),
    }
    np.testing.assert_allclose(calls[way](), expected, rtol=1e-5, atol=1e-5)
    return calls[way]


class Call:
    """A call of next to no work: what the function and the prepared operator cost by themselves."""

    params = (WAYS, tuple(SIZES))
    param_names = ("way", "size")
    number = 1
    repeat = (20, 300, 1.0)
    timeout = TIMEOUT

    def setup(self, way: str, size: str) -> None:
        self.call = _call_of(way, size)

    def time_call(self, *_: str) -> None:
        self.call()

    time_call.pretty_name = "Overhead: call on a tiny problem"


_weight = np.ones((2, 2, 4), np.float32)
_lengths = itertools.count(1)


@cache
def _any_length(way: str) -> Callable[[Any], Any]:
    layer = gtc.ConvTranspose(_weight, stride=2)
    call = layer if way == "prepared" else partial(gtc.conv_transpose, weight=_weight, stride=2)
    call(np.ones((1, 2, 5000), np.float32))  # compiles
    return call


class NewShape:
    """A call on an input shape never seen before: the plan and the choice are made anew."""

    params = ("function", "prepared")
    param_names = ("way",)
    number = 1
    repeat = (20, 200, 1.0)
    timeout = TIMEOUT

    def setup(self, way: str) -> None:
        self.x = np.ones((1, 2, next(_lengths)), np.float32)
        self.call = _any_length(way)

    def time_call(self, _: str) -> None:
        self.call(self.x)

    time_call.pretty_name = "Overhead: call on a new shape"


def main() -> None:
    """Print the overheads, and what they were worked out from."""
    overhead = Overhead()
    overhead.setup()
    for name in ("prepared", "function", "pack", "launch"):
        print(f"{name:20} {microseconds(getattr(overhead, name)):6.1f} us")
    print(f"{'prepared, overhead':20} {overhead.track_prepared():6.1f} us")
    print(f"{'function, overhead':20} {overhead.track_function():6.1f} us")


if __name__ == "__main__":
    main()
