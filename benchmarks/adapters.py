"""Measure two adapters: a decoder in OpenVINO, with its layers replaced and without, and what Dask's chunks cost.

::

    python -m benchmarks.adapters openvino --threads 1 2     # milliseconds of the whole model, medians, in turns
    python -m benchmarks.adapters dask                       # CPU time of all threads: chunks by Dask, and by a loop

The decoder is EnCodec's with 512 channels, dynamic in length, with and without its residual branches, which are
OpenVINO's work in both. OpenVINO keeps to its number of threads only where the process does: with one thread, start it
by ``taskset -c 0``. The loop cuts the same chunks out of the same array, computes each with `ConvTranspose`, and writes
it into the same result; "whole" is one call on the whole array.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

import gpu_transconv as gtc

FRAMES = (1, 8, 33, 75, 150)
#: Shapes of x and weight, stride, padding, and chunks.
VOLUMES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int, tuple[int, ...]]] = {
    "3-D 32 to 16, kernel 4, stride 2": ((1, 32, 64, 64, 64), (32, 16, 4, 4, 4), 2, 1, (1, 32, 32, 32, 64)),
    "3-D 128 to 64, kernel 2, stride 2": ((1, 128, 32, 64, 64), (128, 64, 2, 2, 2), 2, 0, (1, 128, 16, 32, 32)),
    "3-D 32 to 16, kernel 2, stride 2": ((1, 32, 64, 96, 96), (32, 16, 2, 2, 2), 2, 0, (1, 32, 32, 48, 48)),
    "2-D 128 to 64, kernel 4, stride 2": ((1, 128, 512, 512), (128, 64, 4, 4), 2, 1, (1, 128, 256, 128)),
    "1-D 64 to 32, kernel 16, stride 8": ((1, 64, 200_000), (64, 32, 16), 8, 0, (1, 64, 25_000)),
}


def decoder(residual: bool) -> Any:
    """Upsampling by 8, 5, 4 and 2, each with a bias, and a residual branch where it is asked for."""
    import openvino
    from openvino import opset13 as ops

    rng, channels = np.random.default_rng(0), 512

    def weight(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))

    x = y = ops.parameter([1, channels, -1], np.float32)
    for ratio in (8, 5, 4, 2):
        filters = weight(channels, channels // 2, 2 * ratio) * np.float32(ratio**0.5)
        crop = [(ratio + 1) // 2], [ratio // 2]
        y = ops.convolution_backprop_data(ops.elu(y, 1.0), filters, [ratio], None, *crop)
        channels //= 2
        y = ops.add(y, weight(1, channels, 1))
        if residual:
            narrow = ops.convolution(ops.elu(y, 1.0), weight(channels // 2, channels, 3), [1], [1], [1], [1])
            wide = ops.convolution(ops.elu(narrow, 1.0), weight(channels, channels // 2, 1), [1], [0], [0], [1])
            y = ops.add(y, wide)
    return openvino.Model([y], [x])


def measure_openvino(threads: int, seconds: float) -> None:
    """Print a row for each length of the input."""
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    for residual in (False, True):
        with gtc.use(threads=threads):
            models = decoder(residual), gtc.openvino.accelerate(decoder(residual))
        requests = [openvino.compile_model(model, "CPU", exact).create_infer_request() for model in models]
        for frames in FRAMES:
            x = np.random.default_rng(1).standard_normal((1, 512, frames), np.float32)
            own, ours = (request.infer([x])[0].copy() for request in requests)
            assert np.abs(own - ours).max() <= 1e-5 * np.abs(own).max()
            times = in_turns([lambda request=request, x=x: request.infer([x]) for request in requests], seconds)
            own, ours = (1e3 * median(spent) for spent in times)
            name = f"{threads} thread{'s' * (threads > 1)}, {'with' if residual else 'without'} branches"
            print(f"{name}, {frames:3} frames: OpenVINO {own:6.2f} ms, accelerated {ours:6.2f} ms, {ours / own:.2f}")


def measure_dask(threads: int, seconds: float) -> None:
    """Print a row for each array."""
    import dask
    import dask.array as da

    for name, (shape, filters, stride, padding, chunks) in VOLUMES.items():
        rng = np.random.default_rng(0)
        x, weight = rng.standard_normal(shape, np.float32), rng.standard_normal(filters, np.float32)
        layer = gtc.ConvTranspose(weight, stride=stride, padding=padding)
        want = layer(x)
        out = np.zeros_like(want)
        y = gtc.dask.conv_transpose(da.from_array(x, chunks=chunks), weight, stride=stride, padding=padding)

        def by_loop(x: Any = x, out: Any = out, layer: Any = layer, chunks: Any = chunks, stride: int = stride) -> None:
            for place in itertools.product(*map(range, [0] * x.ndim, x.shape, chunks)):
                made = layer(x[tuple(slice(i, i + n) for i, n in zip(place, chunks, strict=True))])
                starts = [0, 0, *(stride * i for i in place[2:])]
                target = out[tuple(slice(i, i + n) for i, n in zip(starts, made.shape, strict=True))]
                target[...] = made[tuple(slice(n) for n in target.shape)]

        def by_dask(y: Any = y, out: Any = out) -> None:
            with dask.config.set(scheduler="threads", num_workers=threads):
                da.store(y, out, lock=False)

        by_dask()
        np.testing.assert_allclose(out, want, atol=2e-5 * float(np.abs(want).max()))
        runs = [lambda layer=layer, x=x: layer(x), by_loop, by_dask]
        with gtc.use(threads=1):
            whole, loop, chunked = (1e3 * min(spent) for spent in in_turns(runs, seconds, time.process_time))
        print(f"{name}: whole {whole:.0f} ms, loop {loop:.0f} ms, Dask {chunked:.0f} ms,", end=" ")
        print(f"Dask / loop {chunked / loop:.2f}, Dask / whole {chunked / whole:.2f}")


def in_turns(
    runs: Sequence[Callable[[], Any]], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of each run, by a clock, one after the other until the time is over, after each has run once."""
    for run in runs:
        run()
    found: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not found[-1]:
        for run, spent in zip(runs, found, strict=True):
            start = clock()
            run()
            spent.append(clock() - start)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", choices=("openvino", "dask"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of OpenVINO, or workers of Dask (1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row (1)")
    options = parser.parse_args(arguments)
    for threads in options.threads:
        (measure_openvino if options.adapter == "openvino" else measure_dask)(threads, options.seconds)


if __name__ == "__main__":
    main()
