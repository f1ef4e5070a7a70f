"""``python -m benchmarks.cliffs``: where one more element makes a layer much slower.

Every size of many layers grows by one at a time: maps, channels, kernel, stride, batch. A step is the time after it
over the time before, less what the work grew by. Times are the least of several calls of the prepared operator, in
processor time of one thread, so that other programs disturb little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import gpu_transconv as gtc

#: What is called a cliff, and times below which it is none, in seconds: there the fixed cost of a call counts.
CLIFF, SHORT = 1.5, 100e-6
DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64", "int32")


class Shape(NamedTuple):
    """Sizes of a layer; all axes are alike."""

    ndim: int
    batch: int
    cin: int
    cout: int  # per group
    size: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1
    depthwise: bool = False

    @property
    def work(self) -> float:
        """Multiplications and elements moved, so that a step can be held against what it adds."""
        taps, inputs, outputs = (n**self.ndim for n in (self.kernel, self.size, max(1, self.output)))
        groups = self.cin if self.depthwise else 1
        products = self.batch * self.cin * self.cout * taps * inputs
        return products / 8 + self.batch * (self.cin * inputs + self.cout * groups * outputs)

    @property
    def output(self) -> int:
        """Output elements along an axis."""
        return (self.size - 1) * self.stride - 2 * self.padding + self.dilation * (self.kernel - 1) + 1


#: Layers of every kind, and the sizes that grow in each.
BASES = {
    "1-D, twice the stride": (
        Shape(1, 1, 32, 16, 120, 8, 4, 2),
        {"size": (1, 140), "cin": (1, 70), "cout": (1, 40), "kernel": (1, 40)},
    ),
    "1-D, one channel, long kernel": (
        Shape(1, 1, 1, 1, 400, 64, 16),
        {"size": (380, 420), "kernel": (1, 140), "stride": (1, 70)},
    ),
    "2-D, twice the stride": (
        Shape(2, 1, 32, 16, 16, 4, 2, 1),
        {"size": (1, 70), "cin": (1, 70), "cout": (1, 70), "kernel": (2, 18), "batch": (1, 12)},
    ),
    "2-D, kernel is stride": (Shape(2, 1, 64, 32, 16, 2, 2), {"size": (1, 40), "cin": (1, 70), "cout": (1, 70)}),
    "2-D, stride 1": (
        Shape(2, 1, 16, 16, 24, 3, 1, 1),
        {"size": (1, 70), "cin": (1, 40), "cout": (1, 40), "kernel": (2, 12)},
    ),
    "2-D, dilated": (Shape(2, 1, 16, 16, 16, 3, 2, 0, 2), {"size": (1, 40), "dilation": (1, 20)}),
    "2-D, RGB": (Shape(2, 1, 32, 3, 24, 4, 2, 1), {"size": (1, 70), "cin": (1, 70), "cout": (1, 16)}),
    "2-D, depthwise": (
        Shape(2, 1, 16, 1, 32, 4, 2, 1, 1, True),
        {"size": (1, 80), "cin": (1, 40), "kernel": (2, 20), "stride": (1, 12)},
    ),
    "2-D, from one pixel": (Shape(2, 8, 64, 32, 1, 4, 1), {"kernel": (1, 70), "batch": (1, 40), "padding": (0, 1)}),
    "2-D, from one pixel, cut": (Shape(2, 4, 16, 8, 1, 66, 1, 1), {"kernel": (58, 72)}),
    "2-D, from one pixel, strided": (Shape(2, 4, 16, 8, 1, 64, 3, 1, 2), {"kernel": (28, 40)}),
    "2-D, long strides": (Shape(2, 1, 16, 4, 2, 64, 64), {"stride": (60, 68), "kernel": (60, 68)}),
    "3-D, kernel is stride": (Shape(3, 1, 16, 8, 8, 2, 2), {"size": (1, 20), "cin": (1, 40), "cout": (1, 40)}),
    "3-D, kernel 3": (Shape(3, 1, 8, 8, 8, 3, 2, 1), {"size": (1, 20), "cin": (1, 40), "kernel": (2, 7)}),
    "3-D, from one pixel": (Shape(3, 2, 16, 4, 1, 16, 1), {"kernel": (12, 20), "padding": (0, 2)}),
    "3-D, from one pixel, cut": (Shape(3, 2, 16, 4, 1, 18, 1, 1), {"kernel": (14, 22)}),
    "3-D, long strides": (Shape(3, 1, 8, 2, 2, 16, 16), {"stride": (14, 19), "kernel": (14, 19)}),
    "3-D, depthwise": (Shape(3, 1, 8, 1, 10, 3, 2, 1, 1, True), {"size": (1, 24), "kernel": (2, 7)}),
}


def milliseconds(shape: Shape, dtype: str, data_format: str, formulation: str) -> float:
    """The least processor time of a call."""
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    spatial = (shape.size,) * shape.ndim
    groups = shape.cin if shape.depthwise else 1
    sizes = (shape.batch, *spatial, shape.cin) if data_format == "channels_last" else (shape.batch, shape.cin, *spatial)
    x, weight = np.ones(sizes, kind), np.ones((shape.cin, shape.cout, *(shape.kernel,) * shape.ndim), kind)
    layer = gtc.ConvTranspose(
        weight, stride=shape.stride, padding=shape.padding, dilation=shape.dilation, groups=groups,
        data_format=data_format, formulation=formulation,
    )  # fmt: skip
    layer(x)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 2e-3 and len(times) < 40):
        begun = time.process_time()
        layer(x)
        times.append(time.process_time() - begun)
    return min(times) * 1e3


def steps(base: Shape, sweeps: dict[str, tuple[int, int]], *how: str) -> Iterator[tuple[float, str]]:
    """Steps of the time beyond those of the work, and what they are."""
    for name, (first, last) in sweeps.items():
        before: tuple[Shape, float] | None = None
        for value in range(first, last + 1):
            shape = base._replace(**{name: value})
            if shape.output < 1 or (name == "stride" and shape.kernel < shape.stride):
                shape = shape._replace(kernel=max(shape.kernel, value)) if name == "stride" else shape
            if shape.output < 1:
                continue
            now = milliseconds(shape, *how)
            if before is not None and max(now, before[1]) > SHORT * 1e3:
                ratio = now / before[1] / (shape.work / before[0].work)
                grown = f"{before[1]:.3g} to {now:.3g} ms, work {shape.work / before[0].work:.2f}"
                yield max(ratio, 1 / ratio), f"{name} {value - 1} to {value}: {grown}"
            before = shape, now


def main(arguments: list[str] | None = None) -> int:
    """Sweep; the exit status is 1 where there is a cliff."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="layers whose name has this word")
    parser.add_argument("--dtype", nargs="+", default=list(DTYPES), choices=DTYPES, help="dtypes (all)")
    parser.add_argument("--data-format", nargs="+", default=["channels_first", "channels_last"])
    parser.add_argument("--formulation", nargs="+", default=["auto"], help="auto, gather, scatter (auto)")
    options = parser.parse_args(arguments)
    import numba

    numba.set_num_threads(1)
    found: list[tuple[float, str]] = []
    for name, (base, sweeps) in BASES.items():
        if options.only not in name:
            continue
        for dtype in options.dtype:
            for data_format in options.data_format:
                for formulation in options.formulation:
                    for ratio, step in steps(base, sweeps, dtype, data_format, formulation):
                        if ratio > CLIFF:
                            found.append((ratio, f"{name}, {dtype}, {data_format}, {formulation}: {step}"))
                            print(f"{ratio:.2f}  {found[-1][1]}", flush=True)
    print(f"{len(found)} steps above {CLIFF}" + (f", the largest {max(found)[0]:.2f}" if found else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
