"""Signals that come whole or in chunks: `upfirdn` beside SciPy's, and what a stream adds to a call; one thread.

Run by asv, or as ``python -m benchmarks.bench_signal``, which prints both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

import gpu_transconv as gtc

from .harness import ONCE, TIMEOUT


class Signal(NamedTuple):
    """Shape of the signals, taps of the filter, and rates; along `axis`."""

    shape: tuple[int, ...]
    taps: int
    up: int
    down: int = 1
    axis: int = -1


SIGNALS = {
    "64 channels, 12 taps, up 2": Signal((64, 48_000), 12, 2),
    "stereo, 64 taps, up 3": Signal((2, 480_000), 64, 3),
    "64 channels side by side, 12 taps, up 2": Signal((48_000, 64), 12, 2, 1, 0),
    "64 channels, 24 taps, down 2": Signal((64, 48_000), 24, 1, 2),
    "64 channels, 60 taps, 3 for 2": Signal((64, 48_000), 60, 3, 2),
    "44.1 to 48 kHz, 3201 taps": Signal((1, 441_000), 3201, 160, 147),
    "44.1 to 48 kHz, 320 taps": Signal((1, 441_000), 320, 160, 147),
}


class Stream(NamedTuple):
    """Channels in and out, kernel, stride, and inputs of a chunk."""

    cin: int
    cout: int
    kernel: int
    stride: int
    chunk: int


STREAMS = {
    "one channel, one input": Stream(1, 1, 4, 2, 1),
    "64 to 32 channels, 4 inputs": Stream(64, 32, 16, 8, 4),
    "256 to 128 channels, one input": Stream(256, 128, 8, 8, 1),
    "32 to 1 channels, 320 inputs": Stream(32, 1, 7, 1, 320),
}


def fastest(runs: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Least seconds of each, in turns."""
    best = [float("inf")] * len(runs)
    end = time.perf_counter() + seconds
    while True:
        for i, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[i] = min(best[i], time.perf_counter() - start)
        if time.perf_counter() > end:
            return best


@cache
def signal_calls(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Our call and SciPy's, after comparing their results."""
    try:
        from scipy.signal import upfirdn as theirs
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    shape, taps, *rest = SIGNALS[name]
    rng = np.random.default_rng(0)
    x, h = rng.standard_normal(shape, np.float32), rng.standard_normal(taps, np.float32)
    ours = gtc.signal.upfirdn
    want = theirs(h, x, *rest)
    np.testing.assert_allclose(ours(h, x, *rest), want, atol=2e-6 * np.abs(want).max())
    return lambda: ours(h, x, *rest), lambda: theirs(h, x, *rest)


@cache
def stream_calls(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A chunk of a stream, and the prepared operator on as many inputs as that chunk needs, already put together."""
    cin, cout, kernel, stride, chunk = STREAMS[name]
    rng = np.random.default_rng(0)
    weight, x = (rng.standard_normal(s, np.float32) for s in ((cin, cout, kernel), (1, cin, chunk)))
    halo = (kernel - 1) // stride
    stream = gtc.StreamingConvTranspose(weight, stride=stride, formulation="gather")
    layer = gtc.ConvTranspose(weight, stride=stride, padding=[(halo * stride, kernel - stride)], formulation="gather")
    whole = np.concatenate([x] * (2 + halo), 2)[:, :, -chunk - halo :]
    for _ in range(1 + halo):
        stream(x)
    np.testing.assert_allclose(stream(x), layer(whole), rtol=1e-4, atol=1e-3)
    return lambda: stream(x), lambda: layer(whole)


class Upfirdn:
    """How many times as fast as SciPy's it is."""

    params = tuple(SIGNALS)
    param_names = ("signal",)
    timeout = TIMEOUT
    unit = "times"

    def track_speed_over_scipy(self, name: str) -> float:
        """SciPy's time over ours."""
        ours, theirs = on_one_thread(signal_calls, name)
        return theirs / ours

    track_speed_over_scipy.unit = "times"


class Chunk:
    """What a stream adds to the prepared operator, per chunk."""

    params = tuple(STREAMS)
    param_names = ("stream",)
    timeout = TIMEOUT
    unit = "us"

    def track_overhead(self, name: str) -> float:
        """Microseconds of a chunk, less those of the prepared call."""
        ours, bare = on_one_thread(stream_calls, name)
        return (ours - bare) * 1e6

    track_overhead.unit = "us"


def on_one_thread(make: Callable[[str], Sequence[Callable[[], Any]]], name: str) -> list[float]:
    """Least seconds of the calls that `make` gives."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        return fastest(make(name), 0.02 if ONCE else 0.7)
    finally:
        numba.set_num_threads(before)


def main() -> None:
    """Print both tables."""
    for name in SIGNALS:
        ours, theirs = on_one_thread(signal_calls, name)
        print(f"{name:42} SciPy {theirs * 1e3:7.2f} ms, ours {ours * 1e3:7.2f} ms, {theirs / ours:5.1f} times")
    for name in STREAMS:
        ours, bare = on_one_thread(stream_calls, name)
        print(
            f"{name:42} chunk {ours * 1e6:7.1f} us, prepared {bare * 1e6:7.1f} us, {(ours - bare) * 1e6:5.1f} us more"
        )


if __name__ == "__main__":
    main()
