"""A picture as a vector, a detector as a row of a matrix, and the row as what the transpose paints."""

from __future__ import annotations

import numpy as np

from ...operators import conv_matrix
from .canvas import DETECT, GENERATE, GREY, Canvas, Panel
from .detect import DIAGONAL, Picture, paint

#: Side of the picture on which the matrix is looked at: large enough for a filter in its middle, and small to print.
SIDE = 7
#: A picture of 4 x 4, on which a filter of 3 x 3 fits in 2 x 2 places: a short north-west stroke.
SMALL = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
#: Number of the place that is followed: the last of the four.
PLACE = 3
#: Side of one value, in pixels.
CELL = 34


def square_matrix(kernel: Picture = DIAGONAL, side: int = SIDE) -> Picture:
    """Matrix M of the detector with stride 1 and padding 1 on a picture of `side` x `side` pixels.

    Examples
    --------
    >>> M = square_matrix()
    >>> M.shape, int((M != M.T).sum())
    ((49, 49), 0)
    """
    matrix: Picture = conv_matrix(kernel[None, None], (1, side, side), padding=1).toarray()
    return matrix


def painted_stamp(feature: int, kernel: Picture = DIAGONAL, side: int = SIDE) -> Picture:
    """Paint one active feature with the operator itself: stride 1, padding 1.

    Examples
    --------
    >>> bool((painted_stamp(24).ravel() == square_matrix()[24]).all())
    True
    """
    features = np.zeros(side * side, kernel.dtype)
    features[feature] = 1
    return paint(features.reshape(side, side), kernel, (side, side))


def flattening() -> Canvas:
    """Draw how a picture becomes a vector, and a filter at one place a row of a matrix."""
    canvas = Canvas(
        900,
        500,
        "A picture of 4 x 4 pixels, written as one line of 16 numbers; below it the matrix of the detector, "
        "one row of 16 numbers for each of the four places; their products are the features",
    )
    matrix = conv_matrix(DIAGONAL[None, None], (1, 4, 4)).toarray()
    picture = canvas.panel((60, 70), (4 * CELL, 4 * CELL), SMALL, 3).grid()
    picture.title("a picture of 4 x 4", "the filter at its last place")
    row, column = divmod(PLACE, 2)
    picture.box(row, column, 3, 3, DETECT, 3)
    kernel = canvas.panel((300, 87), (3 * CELL, 3 * CELL), DIAGONAL, 3).grid()
    kernel.title("the filter")
    features = canvas.panel((640, 104), (2 * CELL, 2 * CELL), (matrix @ SMALL.ravel()).reshape(2, 2), 3).grid()
    features.title("the feature map, 2 x 2", "one number for each place")
    canvas.arrow((210, 138), (288, 138), DETECT)
    canvas.arrow((416, 138), (624, 138), DETECT)
    canvas.text((520, 128), "multiply, add up", 11)
    features.box(row, column, 1, 1, DETECT, 3)
    _as_vectors(canvas, matrix)
    return canvas


def _as_vectors(canvas: Canvas, matrix: Picture) -> None:
    side, left = 36, 60
    vector = canvas.panel((left, 280), (16 * side, side), SMALL.reshape(1, 16), 3).grid()
    canvas.text((left, 268), "the same picture, row after row, as a vector $x$", 11, ha="left")
    rows = canvas.panel((left, 340), (16 * side, 4 * CELL), matrix, 3).grid()
    canvas.text((left, 340 + 4 * CELL + 19), "the matrix $M$: each row is the filter at one place", 11, ha="left")
    rows.box(PLACE, 0, 1, 16, DETECT, 3)
    for row, column in np.ndindex(3, 3):
        vector.box(0, 4 * (row + 1) + column + 1, 1, 1, DETECT, 2)
    result = canvas.panel((left + 16 * side + 90, 340), (side, 4 * CELL), (matrix @ SMALL.ravel())[:, None], 3).grid()
    canvas.text((left + 16 * side + 45, 340 + 2 * CELL), "$M\\,x\\;=$", 14, va="center")
    result.box(PLACE, 0, 1, 1, DETECT, 3)
    canvas.text((left + 16 * side + 108, 340 + 4 * CELL + 19), "features", 11)


def row_and_column(feature: int = 24) -> Canvas:
    """Draw that a row of M, the same column of M.T, and what the operator paints for one feature are one picture."""
    matrix = square_matrix()
    canvas = Canvas(
        900,
        640,
        f"The matrix of 49 x 49 entries with row {feature} marked; the row, the column of the transpose and "
        "the painted stamp, each as a picture of 7 x 7, are the same",
    )
    shown = canvas.panel((60, 60), (294, 294), matrix, 1.6, shades=GREY)
    shown.title("$M$, 49 x 49: black \N{MINUS SIGN}1, grey 0, white 1")
    shown.box(feature, 0, 1, 49, DETECT, 2)
    canvas.text((40, shown.centre(feature, 0)[1] + 4), f"{feature}", 11, color=DETECT)
    other = canvas.panel((546, 60), (294, 294), matrix.T, 1.6, shades=GREY)
    other.title("$M^T$")
    other.box(0, feature, 49, 1, GENERATE, 2)
    canvas.text((other.centre(0, feature)[0], 372), f"{feature}", 11, color=GENERATE)
    _as_pictures(canvas, matrix, feature)
    return canvas


def _as_pictures(canvas: Canvas, matrix: Picture, feature: int) -> None:
    row = matrix[feature].reshape(SIDE, SIDE)
    column = matrix.T[:, feature].reshape(SIDE, SIDE)
    side = 28 * SIDE
    found: list[Panel] = []
    for left, values, words in (
        (60, row, f"row {feature} of $M$, as a picture"),
        (352, column, f"column {feature} of $M^T$"),
        (644, painted_stamp(feature), "one active feature, painted"),
    ):
        found.append(canvas.panel((left, 420), (side, side), values, 3).grid(10))
        found[-1].title(words)
    for left in (304, 596):
        canvas.text((left, 420 + side / 2), "=", 20, va="center")
