"""One transposed convolution at stride 2, in three ways: as stamps, as a convolution of a stuffed input, by phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...operators import as_convolution
from ...problem.axis import Axis
from .canvas import DETECT, GENERATE, Canvas, Panel
from .detect import Picture, paint
from .film import Film
from .formulations import FEATURES, SHAPE, STRIDE
from .turned import HOOK, PHASES, half_turn, taps_of_phases

#: Side of one value, in pixels, and the value at the end of the colours: none of the pictures has a larger one.
CELL, LIMIT = 38, 4.0
#: Seconds per frame: a pixel is read and compared with its neighbours in less.
SECONDS = 0.7
#: Along each axis, features, filter, stride, padding and picture are those of the pictures of gather and scatter.
AXIS = Axis(size=3, kernel=3, stride=STRIDE, dilation=1, pad_low=1, output_size=SHAPE[0])


def picture_of(kernel: Picture = HOOK) -> Picture:
    """Paint what all films end with."""
    return paint(FEATURES, kernel, SHAPE, STRIDE)


def stuffing() -> Film:
    """Film the turned filter as it slides over the input with zeros between its elements."""
    convolution = as_convolution(HOOK[None, None], stride=STRIDE, padding=1)
    stuffed, result = convolution.stuff(FEATURES[None])[0], picture_of()
    pages = []
    for done, (row, column) in enumerate(np.ndindex(*SHAPE), 1):
        page = _page("Zeros between the features, then an ordinary convolution")
        found = _is_feature(stuffed.shape)
        shown = _panel(page, (40, 96), stuffed, "the features, stuffed and padded", zeros=found)
        _panel(page, (380, 172), half_turn(HOOK), "the filter, turned by half", zeros=np.ones_like(HOOK))
        made = _panel(page, (620, 134), _first(result, done), "the picture")
        shown.box(row, column, 3, 3, GENERATE, 3)
        made.box(row, column, 1, 1, GENERATE, 3)
        used = int(found[row : row + 3, column : column + 3].sum())
        page.text((40, 400), f"in the frame: {used} of 9 products have a feature, {9 - used} a stuffed or padded zero",
                  12, ha="left")  # fmt: skip
        pages.append(page)
    return Film(pages, SECONDS, "A frame of 3 x 3 slides over the stuffed features and fills the picture")


def phases() -> Film:
    """Film the four small convolutions, one per phase, each with its own taps of the filter."""
    result, pages = picture_of(), []
    made = np.zeros_like(result)
    for number, pixel, taps in steps():
        row, column = pixel
        made[pixel] = result[pixel]
        page = _page("No zeros: one small convolution for each phase of the picture")
        given = _panel(page, (40, 172), FEATURES, "the features", zeros=np.ones_like(FEATURES))
        kernel = _panel(
            page, (330, 172), HOOK, f"{_count(taps)} of the filter, phase {number + 1}", zeros=np.ones_like(HOOK)
        )
        shown = _panel(page, (620, 134), made, "the picture, phase by phase")
        color = PHASES[number]
        for i, j in taps:
            kernel.box(i, j, 1, 1, color, 3, inset=2)
        for i, j in taps:
            given.box((row + 1 - i) // STRIDE, (column + 1 - j) // STRIDE, 1, 1, color, 3, inset=2)
        shown.box(row, column, 1, 1, color, 3)
        pages.append(page)
    return Film(pages, SECONDS, "Phase by phase, each pixel collects one, two or four products, and none with a zero")


def steps() -> Iterator[tuple[int, tuple[int, int], list[tuple[int, int]]]]:
    """Every pixel, phase after phase: number of the phase, place, and the taps whose feature is inside.

    Examples
    --------
    >>> sum(len(taps) for _, _, taps in steps()), len(list(steps()))
    (49, 25)
    """
    axis_taps = taps_of_phases(3, STRIDE, 1)
    for number, (down, across) in enumerate(np.ndindex(STRIDE, STRIDE)):
        for row in range(down, SHAPE[0], STRIDE):
            for column in range(across, SHAPE[1], STRIDE):
                taps = [(i, j) for i in axis_taps[down] for j in axis_taps[across]
                        if _inside(row, i) and _inside(column, j)]  # fmt: skip
                yield number, (row, column), taps


def scatter() -> Film:
    """Film the features as they add their stamps, one after the other."""
    pages = []
    for done, (row, column) in enumerate(np.ndindex(*FEATURES.shape), 1):
        page = _page("Each feature adds its stamp; what falls outside of the picture is cut off")
        given = _panel(page, (40, 172), FEATURES, "the features", zeros=np.ones_like(FEATURES))
        _panel(page, (330, 172), HOOK, "the filter, as it is", zeros=np.ones_like(HOOK))
        so_far = _first(FEATURES, done)
        shown = _panel(page, (620, 134), paint(so_far, HOOK, SHAPE, STRIDE), "the picture so far")
        given.box(row, column, 1, 1, DETECT, 3)
        top, left = row * STRIDE - 1, column * STRIDE - 1
        rows, columns = (slice(max(at, 0), min(at + 3, 5)) for at in (top, left))
        shown.box(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start, DETECT, 3)
        page.text((620, 366), f"{FEATURES[row, column]:g} times the filter", 12, ha="left", color=DETECT)
        pages.append(page)
    return Film(pages, SECONDS, "Nine features stamp the filter into the picture, one after the other")


FILMS: dict[str, Callable[[], Film]] = {"scatter": scatter, "stuffing": stuffing, "phases": phases}


def products() -> tuple[int, int]:
    """How many products the stuffed convolution makes, and how many of them have a feature in them.

    Examples
    --------
    >>> products()
    (225, 49)
    """
    found = _is_feature((SHAPE[0] + 2, SHAPE[1] + 2))
    used = sum(int(found[i : i + 3, j : j + 3].sum()) for i, j in np.ndindex(*SHAPE))
    return 9 * SHAPE[0] * SHAPE[1], used


def _is_feature(shape: tuple[int, ...]) -> Picture:
    """1 where the stuffed input has a feature, 0 where it has a zero of the stuffing or the padding."""
    found = np.zeros(shape, np.float32)
    found[1:-1:STRIDE, 1:-1:STRIDE] = 1
    return found


def _inside(pixel: int, tap: int) -> bool:
    """Whether the feature that reaches a pixel through a tap is one."""
    feature, rest = divmod(pixel + AXIS.pad_low - tap, STRIDE)
    return rest == 0 and 0 <= feature < AXIS.size


def _count(taps: list[tuple[int, int]]) -> str:
    return f"{len(taps)} tap{'s' * (len(taps) != 1)}"


def _first(values: Picture, count: int) -> Picture:
    """Only the first `count` values, row after row; the others 0."""
    kept = np.zeros_like(values)
    kept.ravel()[:count] = values.ravel()[:count]
    return kept


def _page(words: str) -> Canvas:
    canvas = Canvas(850, 420)
    canvas.text((40, 36), words, 13, ha="left", weight="bold")
    canvas.text((40, 58), "stride 2, padding 1", 11, ha="left")
    return canvas


def _panel(canvas: Canvas, at: tuple[float, float], values: Picture, words: str, zeros: Picture | None = None) -> Panel:
    rows, columns = values.shape
    panel = canvas.panel(at, (CELL * columns, CELL * rows), values, LIMIT).grid(12, zeros=zeros)
    panel.title(words)
    return panel
