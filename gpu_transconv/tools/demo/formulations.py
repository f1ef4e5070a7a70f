"""Gather and scatter side by side: as pictures, and as the rows and the columns of one matrix."""

from __future__ import annotations

import numpy as np

from ...operators import conv_matrix
from .canvas import INK, Canvas, Panel, Point
from .detect import DIAGONAL, Picture, paint

FEATURES = np.array([[2, 1, 0], [1, 3, 0], [0, 0, 1]], np.float32)
#: Stride of the detector, and rows and columns of the picture that its transpose paints.
STRIDE, SHAPE = 2, (5, 5)
#: The pixel that is followed in the gather half, and the feature that is followed in the scatter half.
PIXEL, FEATURE = (1, 1), (1, 1)
GATHER, SCATTER = "#8250df", "#1a7f37"
LIMIT = 4.0
#: Side of one entry of a matrix, in pixels.
CELL = 18


def two_ways() -> Canvas:
    """Draw how each formulation arrives at the same picture."""
    weight = DIAGONAL[None, None]
    matrix = conv_matrix(weight, (1, *SHAPE), stride=STRIDE, padding=1).toarray()  # shape (9, 25)
    canvas = Canvas(1200, 980)
    product = (matrix.T @ FEATURES.ravel()).reshape(SHAPE)
    _gather(canvas, 20)
    _scatter(canvas, 640)
    canvas.line((600, 20), (600, 370), "#d0d7de", 1)
    by_rows = _product(canvas, (20, 465), matrix, product, "row by row", GATHER)
    by_columns = _product(canvas, (921, 465), matrix, product, "column by column", SCATTER)
    _follow_row(*by_rows)
    _follow_column(*by_columns, matrix)
    _same(canvas, matrix, product)
    return canvas


def _grids(canvas: Canvas, x: float, formulation: str) -> tuple[Panel, Panel]:
    painted = paint(FEATURES, DIAGONAL, SHAPE, STRIDE, formulation=formulation)
    given = canvas.panel((x, 134), (144, 144), FEATURES, LIMIT).grid(size=12)
    result = canvas.panel((x + 290, 86), (240, 240), painted, LIMIT).grid(size=12)
    given.title("features")
    result.title("picture, stride 2, padding 1")
    return given, result


def _gather(canvas: Canvas, x: float) -> None:
    canvas.text((x, 34), "Gather", 15, ha="left", weight="bold", color=GATHER)
    canvas.text((x + 94, 34), "each pixel collects from the features that reach it", 12, ha="left", color=GATHER)
    given, result = _grids(canvas, x, "gather")
    end = result.centre(*PIXEL)
    terms = []
    # The feature before the pixel reaches it with the last tap, the feature after it with the first.
    for row, column in np.ndindex(2, 2):
        given.box(row, column, 1, 1, GATHER)
        bend = f"arc3,rad={(0.2, 0.1)[column] * (1 if row else -1)}"
        canvas.arrow(given.centre(row, column), end, GATHER, 1.8, shrinkA=13, shrinkB=15, connectionstyle=bend)
        tap = "1" if DIAGONAL[2 - 2 * row, 2 - 2 * column] > 0 else "(-1)"
        terms.append(f"{FEATURES[row, column]:.0f}·{tap}")
    result.box(*PIXEL, 1, 1, GATHER, 3.5)
    words = f"{' + '.join(terms)} = {result.values[PIXEL]:.0f}".replace("-", "\N{MINUS SIGN}")
    canvas.text((x + 290, 356), words, 12, color=GATHER)


def _scatter(canvas: Canvas, x: float) -> None:
    canvas.text((x, 34), "Scatter", 15, ha="left", weight="bold", color=SCATTER)
    canvas.text((x + 94, 34), "each feature adds its stamp to the pixels it reaches", 12, ha="left", color=SCATTER)
    given, result = _grids(canvas, x, "scatter")
    row, column = FEATURE
    given.box(row, column, 1, 1, SCATTER, 3.5)
    top, left = (index * STRIDE - 1 for index in FEATURE)
    result.box(top, left, 3, 3, SCATTER, 3.5)
    for end in np.ndindex(3, 3):
        pixel = result.centre(top + end[0], left + end[1])
        bend = f"arc3,rad={(end[0] - 1) * (0.04 + 0.08 * end[1])}"
        canvas.arrow(given.centre(row, column), pixel, SCATTER, 1.0, shrinkA=14, shrinkB=13, connectionstyle=bend)
    canvas.text((x + 290, 356), f"{FEATURES[FEATURE]:.0f} times the filter, into nine pixels", 12, color=SCATTER)


def _product(
    canvas: Canvas, at: Point, matrix: Picture, product: Picture, words: str, color: str
) -> tuple[Panel, Panel, Panel]:
    cell, (x, y) = CELL, at
    transposed = canvas.panel((x, y), (9 * cell, 25 * cell), matrix.T, 1.6).grid(10, signs=True)
    features = canvas.panel((x + 188, y + 8 * cell), (cell, 9 * cell), FEATURES.reshape(9, 1), LIMIT).grid(10)
    result = canvas.panel((x + 239, y), (cell, 25 * cell), product.reshape(25, 1), LIMIT).grid(10)
    transposed.title("$M^T$")
    features.title("$f$")
    result.title("$y$")
    canvas.text((x + 222, y + 12.5 * cell), "=", 14, va="center")
    canvas.text((x + 175, y + 12.5 * cell), "·", 18, va="center")
    canvas.text((x + 129, y + 25 * cell + 28), words, 12, color=color)
    return transposed, features, result


def _follow_row(transposed: Panel, features: Panel, result: Panel) -> None:
    pixel = int(np.ravel_multi_index(PIXEL, SHAPE))
    transposed.box(pixel, 0, 1, 9, GATHER, 2.5)
    features.box(0, 0, 9, 1, GATHER, 2.5)
    result.box(pixel, 0, 1, 1, GATHER, 2.5)


def _follow_column(transposed: Panel, features: Panel, result: Panel, matrix: Picture) -> None:
    feature = int(np.ravel_multi_index(FEATURE, FEATURES.shape))
    transposed.box(0, feature, 25, 1, SCATTER, 2.5)
    features.box(feature, 0, 1, 1, SCATTER, 2.5)
    for pixel in map(int, np.flatnonzero(matrix[feature])):
        result.box(pixel, 0, 1, 1, SCATTER, 2)


def _same(canvas: Canvas, matrix: Picture, product: Picture) -> None:
    detector = canvas.panel((375, 465), (25 * CELL, 9 * CELL), matrix, 1.6).grid(10, signs=True)
    detector.title(
        "the detector's matrix $M$: + is 1, \N{MINUS SIGN} is \N{MINUS SIGN}1",
        "one row per feature: the filter, laid over the picture",
    )
    pictures = {
        "gather": paint(FEATURES, DIAGONAL, SHAPE, STRIDE, formulation="gather"),
        "scatter": paint(FEATURES, DIAGONAL, SHAPE, STRIDE, formulation="scatter"),
        "$M^T f$": product,
    }
    for index, (name, values) in enumerate(pictures.items()):
        x = 365 + 165 * index
        canvas.panel((x, 725), (140, 140), values, LIMIT).grid(11).title(name)
        if index:
            canvas.text((x - 12, 795), "=", 16, va="center", color=INK)
    worst = max(float(np.abs(values - product).max()) for values in pictures.values())
    canvas.text((600, 905), f"the same picture: largest difference {worst:.3g}", 12)
