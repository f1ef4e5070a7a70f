"""How the time of a call grows: with batch, length and channels, and with threads."""

from __future__ import annotations

from typing import Any

import numba

from .harness import ONCE, TIMEOUT, checked_call, layer_named, threads
from .scaling import AXES, Cliff, largest_cliff, layer_at, measure_axis, steps


class Work:
    """One axis of a problem grows from 1 to 1000 times the work."""

    params = (AXES, (1, 10, 100, 1000))
    param_names = ("axis", "work")
    timeout = TIMEOUT
    repeat = (5, 60, 0.5)
    warmup_time = 0.05

    def setup(self, axis: str, work: int) -> None:
        self.run = checked_call("auto", layer_at(axis, work))

    def time_call(self, *_: Any) -> None:
        self.run()

    time_call.pretty_name = "Scaling: time by work"


class Cliffs:
    """Along each axis, how much dearer a unit of work becomes at most; 1 would be a straight line or better."""

    params = AXES
    param_names = ("axis",)
    timeout = TIMEOUT

    def setup_cache(self) -> dict[str, Cliff]:
        return {axis: largest_cliff(measure_axis(axis, steps(), 0.01 if ONCE else 1.5)) for axis in AXES}

    setup_cache.timeout = TIMEOUT

    def setup(self, cliffs: dict[str, Cliff], axis: str) -> None:
        self.cliff = cliffs[axis]

    def track_largest_cliff(self, *_: Any) -> float:
        return self.cliff.ratio

    track_largest_cliff.unit = "times"
    track_largest_cliff.pretty_name = "Scaling: largest cliff"


class Threads:
    """The same problem on some of the threads."""

    params = ((1, 2, 4, 8, 16, 32, 64), ("pix2pix_rgb", "nnunet3d_b"))
    param_names = ("threads", "layer")
    timeout = TIMEOUT
    repeat = (5, 60, 0.5)
    warmup_time = 0.05

    def setup(self, count: int, layer: str) -> None:
        if count > threads():
            raise NotImplementedError(f"{threads()} threads are in use")
        numba.set_num_threads(count)
        self.run = checked_call("auto", layer_named(layer))

    def time_call(self, *_: Any) -> None:
        self.run()

    time_call.pretty_name = "Scaling: time by threads"
