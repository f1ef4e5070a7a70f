"""The trained generators, from their kept weights alone: what they make, and one digit taken apart into stamps."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import gpu_transconv as gtc
from gpu_transconv.tools.demo.canvas import GREY, INK, Canvas

RESULTS = Path(__file__).with_name("results")
Pictures = NDArray[np.float32]
#: Stride and padding of each layer of the upscaling generator.
GEOMETRY = ((1, 0), (2, 1), (1, 1))
#: How many of a layer's inputs are kept; the last is more than any layer has.
KEPT = (0, 1, 4, 16, 64, 10_000)


class Report(NamedTuple):
    """Measures of a generator, as they were written after training."""

    distance: float
    classes: int
    shares: NDArray[np.float64]
    copies: float


@cache
def results(name: str) -> dict[str, Any]:
    """Everything that is kept of one generator."""
    with np.load(RESULTS / f"{name}.npz") as found:
        return dict(found)


def report(name: str) -> Report:
    """Measures of a generator by name: upscaling, constant_size, linear, real."""
    found = results(name)
    return Report(float(found["distance"]), int(found["classes"]), found["shares"], float(found["copies"]))


def moments(name: str) -> list[int]:
    """Steps of which pictures are kept."""
    return sorted(int(key.removeprefix("step_")) for key in results(name) if key.startswith("step_"))


def layers() -> list[gtc.ConvTranspose]:
    """Prepare the upscaling generator's layers, with the activations that follow them."""
    found, made = results("upscaling"), []
    for index, (stride, padding) in enumerate(GEOMETRY):
        weight, bias = (found[f"{kind}_{index}"].astype(np.float32) for kind in ("weight", "bias"))
        activation = "relu" if index < len(GEOMETRY) - 1 else "sigmoid"
        made.append(gtc.ConvTranspose(weight, bias, stride=stride, padding=padding, activation=activation))
    return made


def noise(count: int, seed: int = 4) -> Pictures:
    """Draw noise for the upscaling generator."""
    length = results("upscaling")["weight_0"].shape[0]
    return np.random.default_rng(seed).standard_normal((count, length, 1, 1)).astype(np.float32)


def inputs(z: Pictures) -> list[Pictures]:
    """What every layer is given, and what the last one makes."""
    found = [z]
    for layer in layers():
        found.append(layer(found[-1]))
    return found


def strongest(values: Pictures, weight: NDArray[Any], count: int) -> Pictures:
    """Keep the activations whose stamps, times them, are largest; the others become 0."""
    stamps = np.linalg.norm(weight.reshape(len(weight), -1).astype(float), axis=1)
    strength = np.abs(values) * stamps[:, None, None]
    order = np.argsort(-strength, axis=None)[:count]
    kept = np.zeros_like(values)
    kept.ravel()[order] = values.ravel()[order]
    return kept


def partial_pictures(z: Pictures, layer: int) -> list[Pictures]:
    """Pictures of one vector, with only some of the inputs of a layer kept; shape (8, 8) each."""
    given, made = inputs(z[None])[layer][0], []
    for count in KEPT:
        values = strongest(given, results("upscaling")[f"weight_{layer}"], count)[None]
        for rest in layers()[layer:]:
            values = rest(values)
        made.append(values[0, 0])
    return made


def over_training(name: str, across: int = 14) -> Canvas:
    """Draw pictures of the same noise at several moments of the training."""
    steps = moments(name)
    canvas = Canvas(
        900,
        40 + 62 * len(steps),
        f"Pictures that the generator makes of the same noise, after {', '.join(map(str, steps))} steps of "
        "training: from even grey to digits",
    )
    for row, step in enumerate(steps):
        top = 20 + 62 * row
        canvas.text((110, top + 32), f"{step:,} steps", 11, ha="right")
        for column, picture in enumerate(results(name)[f"step_{step}"][:across]):
            canvas.panel((125 + 55 * column, top), (52, 52), picture / 255, None)
    return canvas


def compared(across: int = 12) -> Canvas:
    """Draw pictures of the linear generator, and real digits."""
    canvas = Canvas(
        900,
        200,
        "Above digits of the linear generator, smears; below real digits",
    )
    for row, name in enumerate(("linear", "real")):
        canvas.text((110, 60 + 85 * row), name, 12, ha="right")
        for column, picture in enumerate(results(name)["step_0"][:across]):
            canvas.panel((125 + 64 * column, 25 + 85 * row), (60, 60), picture / 255, None)
    return canvas


def taken_apart(z: Pictures) -> Canvas:
    """Draw one picture as it comes about from the strongest inputs of each layer, one layer per row."""
    canvas = Canvas(
        900,
        500,
        "A digit, made with only the 0, 1, 4, 16, 64 strongest and with all inputs of each layer: a few "
        "numbers of the vector decide which digit it is, many small stamps of the last layer draw it",
    )
    sizes = [values.shape[1:] for values in inputs(z[None])]
    for row, size in enumerate(sizes[:-1]):
        top = 70 + 145 * row
        canvas.text((190, top + 45), f"into layer {row + 1}:", 12, ha="right", weight="bold")
        canvas.text((190, top + 66), f"{size[0]} maps of {size[1]} x {size[2]}", 11, ha="right")
        for column, (count, picture) in enumerate(zip(KEPT, partial_pictures(z, row), strict=True)):
            panel = canvas.panel((205 + 115 * column, top), (105, 105), picture, None)
            known = min(count, int(np.prod(size)))
            panel.title(f"all {known}" if count >= np.prod(size) else f"{known} kept" if known else "none kept")
    canvas.text((205, 30), "the same digit, from the strongest inputs of one layer alone", 12, ha="left", color=INK)
    return canvas


def strongest_stamps(z: Pictures, count: int = 7) -> Canvas:
    """Draw the strongest stamps of the last layer, one by one, and the digit."""
    given, picture = (values[0] for values in inputs(z[None])[2:])
    weight = results("upscaling")["weight_2"].astype(np.float32)
    canvas = Canvas(
        900,
        190,
        f"The {count} strongest stamps of the last layer, each 3 x 3 pixels at its place, and the digit",
    )
    seen = np.zeros_like(given)
    for index in range(count):
        one = strongest(given - seen, weight, 1)
        seen += one
        stamp = gtc.conv_transpose2d(one[None], weight, padding=1)[0, 0]
        panel = canvas.panel((20 + 108 * index, 40), (100, 100), stamp, 3.0, shades=GREY)
        panel.title(f"channel {int(np.argwhere(one)[0, 0])}", f"activation {one.max():.2g}")
    canvas.panel((20 + 108 * count + 15, 40), (100, 100), picture[0], None).title("the digit")
    return canvas
