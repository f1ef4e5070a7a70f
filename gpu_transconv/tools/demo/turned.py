"""Which convolution the transpose is: the filter turned by half, and at a larger stride several small ones."""

from __future__ import annotations

import numpy as np

from ...operators import as_convolution, conv_matrix
from ...problem.axis import Axis
from .canvas import DETECT, GENERATE, Canvas
from .detect import DIAGONAL, Picture
from .rows import SIDE, square_matrix

#: A filter that is not its own half-turn: its bend is at the upper left.
HOOK = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]], np.float32)
#: One colour per phase of a stride of two.
PHASES = ("#8250df", "#1a7f37", "#9a4d00", "#bf3989")
#: A third of the side of a filter, in pixels.
CELL = 26


def half_turn(kernel: Picture) -> Picture:
    """Turn a filter by 180 degrees.

    Examples
    --------
    >>> bool((half_turn(DIAGONAL) == DIAGONAL).all()), bool((half_turn(HOOK) == HOOK).all())
    (True, False)
    """
    return kernel[::-1, ::-1]


def as_one_convolution(kernel: Picture, shape: tuple[int, int], stride: int, padding: int) -> tuple[Picture, Picture]:
    """M.T, and the product of a plain convolution's matrix with the stuffing: two matrices that are to be equal.

    Parameters
    ----------
    kernel : ndarray, shape (rows, columns)
        The filter.
    shape : (int, int)
        Rows and columns of the picture.
    stride, padding : int
        Of the detector.

    Returns
    -------
    transposed, composed : ndarray, shape (pixels, features)
        The transpose of the detector's matrix, and a convolution of stride 1 after stuffing.

    Examples
    --------
    >>> transposed, composed = as_one_convolution(HOOK, (5, 6), 2, 1)
    >>> transposed.shape, bool((transposed == composed).all())
    ((30, 9), True)
    """
    weight = kernel[None, None]
    matrix = conv_matrix(weight, (1, *shape), stride=stride, padding=padding).toarray()
    found = [(size + 2 * padding - side) // stride + 1 for size, side in zip(shape, kernel.shape, strict=True)]
    smallest = [(n - 1) * stride - 2 * padding + side for n, side in zip(found, kernel.shape, strict=True)]
    more = [size - least for size, least in zip(shape, smallest, strict=True)]
    convolution = as_convolution(weight, stride=stride, padding=padding, output_padding=more)
    units = np.eye(matrix.shape[0], dtype=kernel.dtype).reshape(-1, 1, *found)
    stuffed = convolution.stuff(units)
    plain = conv_matrix(convolution.weight, (1, *stuffed.shape[-2:]))
    return matrix.T, plain @ stuffed.reshape(len(units), -1).T


def taps_of_phases(kernel: int, stride: int, padding: int) -> list[list[int]]:
    """Which taps of an axis reach the outputs of each phase.

    Examples
    --------
    >>> taps_of_phases(3, 2, 1)
    [[1], [0, 2]]
    """
    axis = Axis(size=4, kernel=kernel, stride=stride, dilation=1, pad_low=padding, output_size=3 * stride + 1)
    return [sorted(tap for tap, _ in phase.taps) for phase in axis.phases]


def turned() -> Canvas:
    """Draw a row and a column of the matrix of two filters: where a filter is its own half-turn, they are the same."""
    canvas = Canvas(
        900,
        560,
        "For the diagonal filter, row 24 of M and of its transpose show the same picture; for the hook, the "
        "transpose's row shows the hook turned by half",
    )
    for top, kernel, words in ((60, DIAGONAL, "the diagonal filter: its own half-turn"), (330, HOOK, "a hook: not")):
        matrix = square_matrix(kernel)
        canvas.text((40, top - 30), words, 13, ha="left", weight="bold")
        filters = ((40, kernel, "the filter", DETECT), (175, half_turn(kernel), "turned by half", GENERATE))
        for left, values, name, color in filters:
            panel = canvas.panel((left, top + 50), (4 * CELL - 4, 4 * CELL - 4), values, 3).grid()
            panel.title(name)
            panel.box(0, 0, 3, 3, color)
        rows = ((310, matrix[24], "row 24 of $M$: a detector", DETECT),
                (510, matrix.T[24], "row 24 of $M^T$: gather", GENERATE),
                (710, matrix.T[:, 24], "column 24 of $M^T$: stamp", DETECT))  # fmt: skip
        for left, row, name, color in rows:
            side = 22 * SIDE
            panel = canvas.panel((left, top + 10), (side, side), row.reshape(SIDE, SIDE), 3).grid(9)
            panel.box(2, 2, 3, 3, color)
            panel.title(name)
        different = int((matrix != matrix.T).sum())
        note = "$M^T = M$, entry for entry" if not different else f"$M^T$ differs from $M$ in {different} entries"
        canvas.text((310, top + 22 * SIDE + 38), note, 12, ha="left")
    return canvas
