"""Prepared operators called with sizes in random order: every call against the definition.

What an operator keeps between calls (packed weights, plans, jobs, workspaces) must be keyed by all that it depends on.
``python tests/test_random_layers.py 30000 --seed 7`` makes at least so many calls and names those that are wrong.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import Case
from checks import Arrays, as_format, assert_close, expected, make_arrays, poisoned
from test_random_geometries import is_small, make_problem

import gpu_transconv as gtc

#: Calls of one operator; the first sizes come again at the end.
CALLS = 8
_FORMULATIONS = ("gather", "scatter", "auto")
_PRECISIONS = ("highest", "fast")


class Layer(NamedTuple):
    """An operator as random as its geometry, and the inputs' shapes (channels first) in the order of the calls."""

    case: Case
    dtype: str
    data_format: str
    keywords: dict[str, Any]
    shapes: list[tuple[int, ...]]

    def __str__(self) -> str:
        return f"{self.dtype} weight {self.case.weight}, {self.keywords}, x {self.shapes}"


def make_layer(seed: int, number: int) -> Layer:
    """Operator `number` of `seed`, the same on every machine."""
    case, dtype, data_format = make_problem(seed, number)
    draw = random.Random(f"layer/{seed}/{number}")
    keywords = {
        **case.keywords,
        "formulation": draw.choice(_FORMULATIONS),
        "precision": draw.choice(_PRECISIONS),
        "data_format": data_format,
    }
    shapes = [case.x]
    for _ in range(200):
        if len(shapes) == CALLS - 2:
            break
        shape = _other_shape(draw, case)
        resized = replace(case, x=shape)
        if shape not in shapes and _is_possible(resized) and is_small(resized):
            shapes.append(shape)
    draw.shuffle(shapes)
    return Layer(case, dtype, data_format, keywords, shapes + shapes[:2])


def _other_shape(draw: random.Random, case: Case) -> tuple[int, ...]:
    """The input's shape with other sizes and another batch, of one element as often as not."""

    def resized(size: int) -> int:
        return draw.choice((1, 2, 3, size, size + 1, 2 * size, draw.randint(1, 3 * size)))

    sizes = tuple(map(resized, case.x[-case.ndim :]))
    batch = () if draw.random() < 0.15 else (draw.choice((1, 1, 2, 3, 5, 0 if draw.random() < 0.1 else 1)),)
    return (*batch, case.weight[0], *sizes)


def _is_possible(case: Case) -> bool:
    """Whether every output size, which may be fixed by the operator, is in reach."""
    g = case.geometry
    axes = zip(case.x[-case.ndim :], g["stride"], g["dilation"], case.weight[2:], g["padding"], strict=True)
    least = [(i - 1) * s + d * (k - 1) + 1 - sum(pair) for i, s, d, k, pair in axes]
    if case.keywords.get("padding") == "same":
        return True
    room = [max(s, d) for s, d in zip(g["stride"], g["dilation"], strict=True)]
    return all(
        low + extra >= 1 and 0 <= extra < most
        for low, extra, most in zip(least, g["output_padding"], room, strict=True)
    )


def wrong_calls(layer: Layer) -> Iterator[str]:
    """Call the operator with all its inputs; what is wrong with each call that is."""
    case, dtype = layer.case, layer.dtype
    _, weight, bias = make_arrays(case, dtype)
    operator = gtc.ConvTranspose(weight, bias, **layer.keywords)
    for shape in layer.shapes:
        resized = replace(case, x=shape)
        x = as_format(make_arrays(resized, dtype).x, resized, layer.data_format)
        want = expected(resized, Arrays(x, weight, bias), layer.data_format)
        out = poisoned(want.shape, dtype)
        try:
            with np.errstate(all="ignore"):
                assert operator(x, out=out) is out
            assert_close(out, want, dtype, resized.reduction)
        except Exception as error:  # name the call and go on
            yield f"{shape}: {type(error).__name__} {str(error).strip()}"


@pytest.mark.parametrize("first", range(0, 375, 25))
def test_every_call_is_right(first):
    layers = [make_layer(0, number) for number in range(first, first + 25)]
    assert [f"{layer}: {wrong}" for layer in layers for wrong in wrong_calls(layer)] == []
    assert sum(len(layer.shapes) for layer in layers) >= 25 * 5


def main(arguments: list[str] | None = None) -> int:
    """Make many calls; the exit status is 1 if any is wrong."""
    from rich.console import Console
    from rich.progress import Progress

    parser = argparse.ArgumentParser(description="Random prepared operators, many sizes each, against the definition.")
    parser.add_argument("calls", type=int, nargs="?", default=30000, help="how many calls at least (30000)")
    parser.add_argument("--seed", type=int, default=1, help="which sequence of operators (1)")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    started, number, calls, wrong = time.perf_counter(), 0, 0, 0
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("calls", total=options.calls)
        while calls < options.calls:
            layer = make_layer(options.seed, number)
            for message in wrong_calls(layer):
                wrong += 1
                console.print(f"operator {number}: {layer}: {message}", markup=False, soft_wrap=True)
            number, calls = number + 1, calls + len(layer.shapes)
            progress.update(task, completed=calls)
    seconds = time.perf_counter() - started
    print(f"{calls:,} calls of {number:,} operators of seed {options.seed} in {seconds:.0f} s: {wrong:,} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
