"""Pictures of `layout`: samples, their mean and deviation, their correlations, and one layer's covariance."""

from __future__ import annotations

import numpy as np

from .canvas import GREY, INK, Canvas
from .layout import BORDER, GENERATORS, SAMPLES, SIDE, gaussian_covariance, made, statistics

COLOURS = ("#9a4d00", "#00636b", "#8250df")
MARKS = ("o", "s", "^")


def samples_and_means() -> Canvas:
    """Draw samples of each generator, and the mean and the deviation of all of them."""
    canvas = Canvas(
        900,
        600,
        "Three rows: samples of three generators, then the mean and the deviation of 4000 pictures; the mean "
        "is even for stride 1 from full-size noise, and has a pattern for the other two",
    )
    for row, generator in enumerate(GENERATORS):
        top, pictures = 60 + 185 * row, made(row)
        found = statistics(pictures)
        canvas.text((20, top - 16), generator.name, 13, ha="left", weight="bold", color=COLOURS[row])
        limit = 2.5 * float(pictures.std())
        for index in range(4):
            canvas.panel((20 + 140 * index, top), (128, 128), pictures[index] - pictures.mean(), limit, shades=GREY)
        scale, side = float(np.median(found.deviation)), SIDE - 2 * BORDER
        mean = canvas.panel((600, top), (128, 128), found.mean - found.mean.mean(), scale, shades=GREY)
        deviation = canvas.panel((750, top), (128, 128), found.deviation / (2 * scale), None)
        for panel in (mean, deviation):
            panel.box(BORDER, BORDER, side, side, COLOURS[row], 1.5)
        if not row:
            mean.title("mean image")
            deviation.title("deviation")
        canvas.text((664, top + 147), f"up to {found.largest:.1f} standard errors", 10)
    return canvas


def correlations() -> Canvas:
    """Draw how strongly two pixels are related, by their distance."""
    canvas = Canvas(
        900,
        400,
        "Largest correlation of two pixels by distance: for stride 1 it falls into the noise beyond six "
        "pixels, for the other two generators it stays high",
    )
    axes = canvas.plot((80, 40), (770, 280))
    for row, generator in enumerate(GENERATORS):
        found = statistics(made(row)).correlation
        axes.plot(range(1, len(found)), found[1:], marker=MARKS[row], color=COLOURS[row], label=generator.name)
    axes.axhline(4 / np.sqrt(SAMPLES), color=INK, linewidth=1, linestyle="--")
    axes.text(1, 4 / np.sqrt(SAMPLES) + 0.015, "what chance may give", fontsize=10, color=INK)
    axes.set(ylim=(0, 1))
    axes.set_xlabel("distance of two pixels in a row", fontsize=11)
    axes.set_ylabel("largest correlation", fontsize=11)
    axes.legend(fontsize=11, frameon=False)
    return canvas


def one_layer() -> Canvas:
    """Draw the covariance of one layer's output on noise, measured and as the matrix says."""
    measured, expected = gaussian_covariance()
    canvas = Canvas(
        900,
        390,
        "The covariance of 49 pixels that one layer paints of white noise, and the product of the transpose "
        "with the matrix: the same bands",
    )
    limit = float(np.abs(expected).max())
    canvas.panel((80, 50), (294, 294), measured, limit, shades=GREY).title(f"covariance of {SAMPLES} pictures $M^T z$")
    canvas.panel((526, 50), (294, 294), expected, limit, shades=GREY).title("$M^T M$")
    return canvas
