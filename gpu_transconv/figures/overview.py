"""The figures that show a picture: the way there and back at stride 1, and at stride 2."""

from __future__ import annotations

import numpy as np

from ..demo import DIAGONAL, Picture, Result, detect, paint
from .canvas import DETECT, GENERATE, Canvas, Panel, Point, fit

ZOOM = "#d29922"
CROP = 20
SQUARE = (220.0, 220.0)
LIMIT = 2.0


def overview(grey: Picture, seen: Picture, result: Result, threshold: float) -> Canvas:
    """Draw the detector on top, from left to right, and below it the generator, from right to left."""
    canvas = Canvas(1200, 850)
    crop = busiest(result.kept, CROP)
    _headline(canvas, 34, DETECT, "Detector", "slide the filter over the picture:  $f = M\\,x$")
    words = "its transpose: every kept feature stamps the filter:  $y = M^T f$"
    _headline(canvas, 454, GENERATE, "Generator", words)
    whole = _column(canvas, (20, 82), (276, 320), grey, None)
    zoomed = _column(canvas, (340, 82), SQUARE, seen[crop], 1)
    response = _column(canvas, (648, 82), SQUARE, result.features[crop], LIMIT)
    kept = _column(canvas, (956, 82), SQUARE, result.kept[crop], LIMIT)
    whole.title("the picture")
    zoomed.title("bright strokes $x$", f"{zoomed.values.shape[1]} x {zoomed.values.shape[0]} pixels of it")
    response.title("feature map $f$", "red: the filter fits")
    kept.title(f"only what exceeds {threshold:g}", "north-west diagonals remain")
    _magnify(whole, zoomed, crop)
    _through_filter(canvas, (566, 192), (642, 192), DETECT)
    canvas.arrow((874, 192), (950, 192), DETECT, 2.5)
    _generate(canvas, result, crop)
    canvas.legend((1075, 20))
    return canvas


def _generate(canvas: Canvas, result: Result, crop: tuple[slice, slice]) -> None:
    kept = result.kept[crop]
    one = np.zeros_like(kept)
    inside = slice(1, -1) if min(one.shape) > 2 else slice(None)  # off the border, where a stamp is whole
    best = tuple(np.argwhere(kept == kept[inside, inside].max())[0])
    one[best] = kept[best]
    stamp = paint(one, DIAGONAL, one.shape)
    single = _column(canvas, (956, 502), SQUARE, one, LIMIT)
    stamped = _column(canvas, (648, 502), SQUARE, stamp, LIMIT)
    painted = _column(canvas, (340, 502), SQUARE, result.gather[crop], LIMIT)
    whole = _column(canvas, (20, 502), (276, 320), result.gather, LIMIT)
    single.title("one kept feature")
    stamped.title("paints one stamp")
    painted.title("all stamps, overlaps add", "north-west diagonals again")
    whole.title("the picture painted back $y$")
    _magnify(whole, painted, crop)
    canvas.arrow((1066, 330), (1066, 478), GENERATE, 2.5)
    _through_filter(canvas, (950, 612), (874, 612), GENERATE)
    canvas.arrow((642, 612), (566, 612), GENERATE, 2.5)
    canvas.text((604, 600), "and all\nthe others", 10, color=GENERATE)


def _column(canvas: Canvas, at: Point, box: Point, values: Picture, limit: float | None) -> Panel:
    """Panel as large as the box allows, in the middle of its width."""
    width, height = fit(values.shape, *box)
    return canvas.panel((at[0] + (box[0] - width) / 2, at[1]), (width, height), values, limit)


def _headline(canvas: Canvas, y: float, color: str, name: str, words: str) -> None:
    canvas.text((20, y), name, 15, color=color, ha="left", weight="bold")
    canvas.text((150, y), words, 13, color=color, ha="left")


def _through_filter(canvas: Canvas, start: Point, end: Point, color: str) -> None:
    """Arrow with the filter above it."""
    middle = (start[0] + end[0]) / 2
    glyph = canvas.panel((middle - 36, start[1] - 88), (72, 72), DIAGONAL, 1.6, edge=color)
    glyph.grid(size=10)
    canvas.arrow(start, end, color, 2.5)


def _magnify(whole: Panel, zoomed: Panel, crop: tuple[slice, slice]) -> None:
    rows, columns = crop
    height, width = zoomed.values.shape
    whole.box(rows.start, columns.start, height, width, ZOOM, 2)
    zoomed.box(0, 0, height, width, ZOOM, 2)
    corner_x = whole.x + (columns.start + width) * whole.step[0]
    for row, y in ((rows.start, zoomed.y), (rows.start + height, zoomed.y + zoomed.h)):
        whole.canvas.line((corner_x, whole.y + row * whole.step[1]), (zoomed.x, y), ZOOM)


def busiest(kept: Picture, side: int) -> tuple[slice, slice]:
    """Find the square, at most as large as the picture, with the strongest features around its middle."""
    height, width = (min(side, size) for size in kept.shape)
    inner = np.ones([(size + 1) // 2 for size in (height, width)])
    energy = detect(kept.astype(float) ** 2, inner)  # zeros beyond the border; the middle of each window
    row, column = (int(i) for i in np.unravel_index(np.argmax(energy), energy.shape))
    top = min(max(row - height // 2, 0), kept.shape[0] - height)
    left = min(max(column - width // 2, 0), kept.shape[1] - width)
    return slice(top, top + height), slice(left, left + width)


def half_resolution(seen: Picture, result: Result, threshold: float) -> Canvas:
    """Draw the way down to half the resolution and up again: whole above, zoomed in below."""
    canvas = Canvas(1200, 750)
    small = busiest(result.kept, CROP // 2)
    large = (slice(2 * small[0].start, 2 * small[0].stop), slice(2 * small[1].start, 2 * small[1].stop))
    scale, cell = fit(seen.shape, 280, 320)[1] / seen.shape[0], 240 / max(seen[large].shape)
    stages = (
        (190, seen, 1.0, large, "bright strokes $x$", "pixels"),
        (600, result.kept, LIMIT, small, f"features above {threshold:g}", "features"),
        (1010, result.gather, LIMIT, large, "painted back $y = M^T f$", "pixels"),
    )
    for middle, values, limit, crop, name, unit in stages:
        size = (values.shape[1] * scale, values.shape[0] * scale)
        whole = canvas.panel((middle - size[0] / 2, 210 - size[1] / 2), size, values, limit)
        part = values[crop]
        square = (part.shape[1] * cell, part.shape[0] * cell)
        zoomed = canvas.panel((middle - square[0] / 2, 570 - square[1] / 2), square, part, limit)
        whole.title(name)
        zoomed.title("", f"of {values.shape[1]} x {values.shape[0]} {unit}")
        _magnify_down(whole, zoomed, crop)
    for left, words, color in (
        (340, "detect at every\nsecond pixel", DETECT),
        (747, "stamp at every\nsecond pixel", GENERATE),
    ):
        canvas.text((left + 56, 260), words, 11, color=color, va="top")
        _through_filter(canvas, (left, 240), (left + 112, 240), color)
    canvas.legend((555, 705))
    return canvas


def _magnify_down(whole: Panel, zoomed: Panel, crop: tuple[slice, slice]) -> None:
    rows, columns = crop
    height, width = zoomed.values.shape
    whole.box(rows.start, columns.start, height, width, ZOOM, 2)
    zoomed.box(0, 0, height, width, ZOOM, 2)
    bottom = whole.y + (rows.start + height) * whole.step[1]
    for column, x in ((columns.start, zoomed.x), (columns.start + width, zoomed.x + zoomed.w)):
        whole.canvas.line((whole.x + column * whole.step[0], bottom), (x, zoomed.y), ZOOM)
