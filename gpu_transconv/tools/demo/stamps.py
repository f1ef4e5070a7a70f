"""One activation stamps the filter; stamps that overlap add."""

from __future__ import annotations

import numpy as np

from .canvas import GENERATE, Canvas, Point
from .detect import DIAGONAL, paint

#: Side of one value, in pixels.
CELL = 32
#: One colour per activation, the same around its cell and around its stamp.
OWNERS = ("#8250df", "#1a7f37", "#bf3989")


def stamps() -> Canvas:
    """Draw one activation above, neighbours below; stride 1 on the left, stride 2 on the right."""
    canvas = Canvas(1200, 690)
    halves = (
        (30, 1, 7, "one feature further, the stamp moves one pixel"),
        (640, 2, 4, "one feature further, the stamp moves two pixels"),
    )
    for left, stride, size, words in halves:
        canvas.text((left, 32), f"Stride {stride}, padding 1", 15, ha="left", weight="bold", color=GENERATE)
        canvas.text((left, 56), words, 12, ha="left", color=GENERATE)
        _paint(canvas, (left, 94), stride, size, [(size // 2, size // 2)])
        neighbours = [(i, i) for i in range(size // 2 - 1, size // 2 + 3 - stride)]
        _paint(canvas, (left, 394), stride, size, neighbours)
    canvas.line((600, 20), (600, 625), "#d0d7de", 1)
    canvas.legend((555, 645))
    return canvas


def _paint(canvas: Canvas, at: Point, stride: int, size: int, active: list[tuple[int, int]]) -> None:
    features = np.zeros((size, size), np.float32)
    for cell in active:
        features[cell] = 1
    painted = paint(features, DIAGONAL, (7, 7), stride)
    side, picture = size * CELL, 7 * CELL
    inset = (picture - side) / 2
    given = canvas.panel((at[0] + inset, at[1] + inset), (side, side), features, 3).grid()
    result = canvas.panel((at[0] + picture + 84, at[1]), (picture, picture), painted, 3).grid()
    for (row, column), color in zip(active, OWNERS, strict=False):
        given.box(row, column, 1, 1, color)
        result.box(row * stride - 1, column * stride - 1, 3, 3, color)
    if len(active) == 1:
        given.title("one active feature", f"{size} x {size} features")
        result.title("its stamp is the filter", "7 x 7 pixels")
    else:
        given.title("active neighbours")
        along = " ".join(f"{value:g}" for value in np.diagonal(painted) if value)
        result.title("stamps add where they overlap", f"a longer diagonal: {along}")
    y = at[1] + picture / 2
    canvas.arrow((at[0] + picture + 8, y), (at[0] + picture + 76, y), GENERATE, 2.5)
