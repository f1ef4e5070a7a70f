"""What a call costs before and after its kernel, on a problem of one element.

Run by asv, or as ``python -m benchmarks.bench_overhead``, which prints the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import gpu_transconv as gtc
from gpu_transconv.dispatch import select
from gpu_transconv.execute import prepare, read
from gpu_transconv.params import make_params
from gpu_transconv.plan import make_plan
from gpu_transconv.settings import resolve

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
        x = np.ones((1, 1, 1, 1), np.float32)
        plan = make_plan(make_params(2), x.shape, x.shape, "float32", False)
        row = select(plan, resolve()).implementation
        layer, out = gtc.ConvTranspose(x), np.empty_like(x)
        weights = prepare(row, plan, read(x, x, None))
        self.prepared = lambda: layer(x)
        self.function = lambda: gtc.conv_transpose2d(x, x)
        self.pack = lambda: row.pack(plan, x, None)
        self.launch = lambda: row.launch(plan, x, weights.weight, None, out, weights.packed)
        for run in (self.prepared, self.function, self.pack, self.launch):
            run()

    def track_prepared(self) -> float:
        """Prepared operator."""
        return microseconds(self.prepared) - microseconds(self.launch)

    def track_function(self) -> float:
        """Function, which packs the weights at every call."""
        return microseconds(self.function) - microseconds(self.pack) - microseconds(self.launch)

    track_prepared.unit = track_function.unit = "us"


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
