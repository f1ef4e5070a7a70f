"""Random geometries against the definition: under pytest a few, as a command as many as asked for.

``python tests/test_random_geometries.py 2000 --seed 7`` checks geometries 0 ... 1999 of seed 7 and names
those that fail.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import DATA_FORMATS, Case
from checks import DTYPES, Arrays, assert_close, combined, expected, implementations, make_arrays, run

from gpu_transconv.kernels.kernel import Kernel
from gpu_transconv.kernels.registry import backends, kernels

ACTIVATIONS = ("relu", "leaky_relu", ("leaky_relu", 0.2), "tanh", "sigmoid", "silu", "gelu")
#: Bounds of one geometry: multiplications, output elements and taps.
_MOST_PRODUCTS, _MOST_OUTPUTS, _MOST_TAPS = 2_000_000, 200_000, 500


class Problem(NamedTuple):
    """One geometry with its dtype and layout."""

    case: Case
    dtype: str
    data_format: str

    def __str__(self) -> str:
        case = self.case
        return (
            f"{case.name}: {self.dtype} {self.data_format}, x {case.x} if channels come first, "
            f"weight {case.weight}, {'' if case.bias else 'no '}bias, {dict(case.keywords)}"
        )


def make_problem(seed: int, number: int) -> Problem:
    """Geometry `number` of `seed`, the same on every machine."""
    draw = random.Random(f"{seed}/{number}")
    while True:
        case = _make_case(draw, f"random-{seed}-{number}")
        dtype = draw.choice((*DTYPES["cpu"], "float32", "float32"))
        if is_small(case) and case.takes(dtype):
            return Problem(case, dtype, draw.choice(DATA_FORMATS))


def is_small(case: Case) -> bool:
    taps, positions = math.prod(case.weight[2:]), math.prod(case.x[-case.ndim :])
    batch = 1 if case.unbatched else case.x[0]
    outputs = batch * case.out_channels * math.prod(map(sum, zip(*_full_and_extra(case), strict=True)))
    products = batch * positions * math.prod(case.weight)
    return products <= _MOST_PRODUCTS and outputs <= _MOST_OUTPUTS and taps <= _MOST_TAPS


def _full_and_extra(case: Case) -> tuple[list[int], list[int]]:
    """Output sizes before the padding is cut, and the output padding."""
    g = case.geometry
    axes = zip(case.x[-case.ndim :], g["stride"], g["dilation"], case.weight[2:], strict=True)
    return [(i - 1) * s + d * (k - 1) + 1 for i, s, d, k in axes], g["output_padding"]


def _make_case(draw: random.Random, name: str) -> Case:
    ndim = draw.choice((1, 2, 2, 3))

    def upto(most: int) -> int:
        return round(most ** draw.random())  # as often below the root of `most` as above it

    def axes(least: int, most: int) -> tuple[int, ...]:
        if draw.random() < 0.5:
            return (max(least, upto(most)),) * ndim
        return tuple(max(least, upto(most)) for _ in range(ndim))

    size, stride = axes(1, (300, 60, 16)[ndim - 1]), axes(1, (20, 8, 4)[ndim - 1])
    kernel = axes(1, (60, 16, 7)[ndim - 1])
    if draw.random() < 0.3:  # as real layers have it
        factor = draw.choice((1, 2, 2))
        kernel = tuple(factor * s for s in stride)
    dilation = axes(1, 9) if draw.random() < 0.3 else (1,) * ndim
    kind = draw.random()
    groups = 1 if kind < 0.6 else upto(12)
    cin = groups * (1 if kind > 0.85 else upto(90 // groups))
    weight = (cin, upto(4 if kind > 0.85 else 90 // groups), *kernel)
    batch = () if draw.random() < 0.15 else (0 if draw.random() < 0.02 else upto(6),)
    keywords: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    keywords |= _padding(draw, list(zip(size, stride, dilation, kernel, strict=True)))
    if draw.random() < 0.4:
        keywords["activation"] = draw.choice(ACTIVATIONS)
    for argument, values in keywords.items():
        if isinstance(values, list | tuple) and {*values} == {values[0]} and isinstance(values[0], int):
            keywords[argument] = draw.choice((values, values[0]))
    return Case(name, (*batch, cin, *size), weight, bias=draw.random() < 0.5, keywords=keywords)


def _padding(draw: random.Random, axes: list[tuple[int, int, int, int]]) -> dict[str, Any]:
    """Padding of some form that leaves an output, and what is added at the high end."""
    form = draw.choice(("none", "valid", "same", "alike", "pairs", "pairs"))
    if form == "same":
        return {"padding": "same"}
    extra = [draw.randrange(max(s, d)) if draw.random() < 0.4 else 0 for _, s, d, _ in axes]
    keywords: dict[str, Any] = {"padding": "valid"} if form == "valid" else {}
    pairs = [(0, 0)] * len(axes)
    if form in ("alike", "pairs"):
        room = [(i - 1) * s + d * (k - 1) + e for (i, s, d, k), e in zip(axes, extra, strict=True)]
        reach = [d * (k - 1) if draw.random() < 0.9 else r for (_, _, d, k), r in zip(axes, room, strict=True)]
        low = [draw.randint(0, min(r, v)) for r, v in zip(reach, room, strict=True)]
        high = [draw.randint(0, min(r, v - p)) for r, v, p in zip(reach, room, low, strict=True)]
        if form == "alike":
            low = high = [min(pair) for pair in zip(low, high, strict=True)]
        pairs = list(zip(low, high, strict=True))
        keywords["padding"] = low if form == "alike" else pairs
    if draw.random() < 0.3:
        keywords["output_size"] = [
            (i - 1) * s + d * (k - 1) + 1 - sum(pair) + e
            for (i, s, d, k), pair, e in zip(axes, pairs, extra, strict=True)
        ]
    else:
        keywords["output_padding"] = extra
    return keywords


@lru_cache(maxsize=2)
def solved(seed: int, number: int) -> tuple[Problem, Arrays, np.ndarray]:
    """A geometry, its inputs and the exact result."""
    problem = make_problem(seed, number)
    arrays = make_arrays(*problem)
    return problem, arrays, expected(problem.case, arrays, problem.data_format)


def check(row: Kernel, seed: int, number: int) -> None:
    (case, dtype, data_format), arrays, want = solved(seed, number)
    got = run(row, case, arrays, data_format, dtype, want.shape)
    assert np.isfinite(got.astype(want.dtype)).all()
    assert_close(got, want, dtype, case.reduction)


# The geometry varies slowest, so that its exact result is worked out once.
@pytest.mark.parametrize(
    ("row", "number"),
    [
        combined(row, number, name=str(number))
        for number in range(60)
        for row in implementations()
        if make_problem(0, number).dtype in DTYPES[row.values[0].backend]
    ],
)
def test_definition(row, number, launched):
    check(row, 0, number)
    assert launched == [row.name]


def test_the_geometries_are_diverse():
    problems = [make_problem(1, number) for number in range(400)]
    for values in (
        [p.dtype for p in problems],
        [p.data_format for p in problems],
        [p.case.ndim for p in problems],
        [p.case.unbatched for p in problems],
        [p.case.bias for p in problems],
        [p.case.geometry["activation"] for p in problems],
        [min(p.case.keywords["groups"], 2) for p in problems],
        [p.case.keywords.get("padding") == "same" for p in problems],
        [any(low != high for low, high in p.case.geometry["padding"]) for p in problems],
        [any(p.case.geometry["output_padding"]) for p in problems],
        ["output_size" in p.case.keywords for p in problems],
        [max(p.case.geometry["dilation"]) > 1 for p in problems],
    ):
        counts = Counter(values)
        assert len(counts) >= 2
        assert min(counts.values()) >= 10, counts


def main(arguments: list[str] | None = None) -> int:
    """Check many geometries; the exit status is 1 if any fails."""
    from rich.console import Console
    from rich.progress import track

    parser = argparse.ArgumentParser(description="Random geometries, every implementation, against the definition.")
    parser.add_argument("count", type=int, nargs="?", default=2000, help="how many geometries (2000)")
    parser.add_argument("--seed", type=int, default=1, help="which sequence of geometries (1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (0)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    rows = [row for row in kernels() if backends()[row.backend]]
    runs, wrong, started = Counter[str](), Counter[str](), time.perf_counter()
    numbers = range(options.first, options.first + options.count)
    for number in track(numbers, "geometries", console=console, disable=not console.is_terminal):
        problem = make_problem(options.seed, number)
        for row in rows:
            if problem.dtype in DTYPES[row.backend]:
                runs[row.name] += 1
                try:
                    check(row, options.seed, number)
                except Exception as error:  # name it and go on
                    wrong[row.name] += 1
                    console.print(f"{row.name}: {problem}: {str(error).strip()}", markup=False, soft_wrap=True)
    parts = ", ".join(f"{name} {count - wrong[name]:,}/{count:,}" for name, count in runs.items())
    verdict = "all right" if not wrong else f"{wrong.total():,} WRONG"
    seconds = time.perf_counter() - started
    print(f"{options.count:,} geometries of seed {options.seed} in {seconds:.0f} s: {verdict} ({parts})")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
