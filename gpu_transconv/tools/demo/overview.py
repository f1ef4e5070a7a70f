"""The figure that shows what the detector finds and what its transpose paints: a drawing, then a photograph."""

from __future__ import annotations

import numpy as np

from .canvas import DETECT, GENERATE, GREY, Canvas, Panel, Point, fit
from .detect import BANK, DIAGONAL, THRESHOLD, Picture, Result, detail, detect, drawing, paint, rectify

#: Left edges of the four drawings in the first row, and the side of each, in pixels.
LEFTS = (20.0, 330.0, 640.0, 950.0)
SIDE = 230.0
#: Left edges of the four photographs in the second row, and their width and height, in pixels.
PHOTO_LEFTS, PHOTO = (8.0, 311.0, 614.0, 917.0), (275.0, 320.0)


def overview(grey: Picture, result: Result) -> Canvas:
    """Draw four pictures in each of two rows: seen, detected, kept, painted back."""
    canvas = Canvas(1200, 840)
    _drawing(canvas, 80)
    canvas.line((20, 364), (1180, 364), "#d0d7de", 1)
    _photograph(canvas, 444, grey, result)
    return canvas


def _headline(canvas: Canvas, y: float, name: str, words: str) -> None:
    canvas.text((20, y), name, 15, ha="left", weight="bold")
    canvas.text((1180, y), words, 12, ha="right")


def _drawing(canvas: Canvas, top: float) -> None:
    seen = drawing()
    features = detect(seen, DIAGONAL)
    kept = rectify(features)
    painted = paint(kept, DIAGONAL, seen.shape)
    _headline(canvas, 32, "One filter", "black: below 0     grey: 0     white: above 0")
    panels = [
        _panel(canvas, left, top, (SIDE, SIDE), values, float(np.abs(values).max()))
        for left, values in zip(LEFTS, (seen, features, kept, painted), strict=True)
    ]
    panels[0].title("a drawing $x$", "strokes in four directions")
    panels[1].title("the detector:  $f = M\\,x$", "white: the filter fits")
    panels[2].title(f"kept:  $k$ = ReLU($f$ \N{MINUS SIGN} {THRESHOLD:g})", "one stroke is found")
    panels[3].title("its transpose:  $y = M^T k$", "that stroke is painted back")
    _arrow(canvas, panels[0], panels[1], DETECT)
    _glyph(canvas, panels[0], panels[1], DETECT)
    _arrow(canvas, panels[1], panels[2], DETECT)
    _arrow(canvas, panels[2], panels[3], GENERATE)
    _glyph(canvas, panels[2], panels[3], GENERATE)


def _photograph(canvas: Canvas, top: float, grey: Picture, result: Result) -> None:
    _headline(canvas, top - 48, "Four filters", "each of mean zero: an even surface gives 0, whatever its brightness")
    share = np.count_nonzero(result.kept) / result.kept.size
    columns = (
        ("a picture $x$", f"{grey.shape[1]} x {grey.shape[0]} pixels, padding 1, stride 1"),
        ("the feature maps $f = M\\,x$", f"the strongest {share:.0%} of all responses"),
        ("painted back:  $y = M^T f$", f"correlation with the detail: {result.likeness:.2f}"),
        ("to compare: the picture's detail", "each pixel less the mean of 3 x 3"),
    )
    pictures: tuple[tuple[Picture, float | None], ...] = (
        (grey, None),
        (np.ones_like(grey), None),
        _scaled(result.gather),
        _scaled(detail(result.picture)),
    )
    panels = [
        _panel(canvas, left, top, PHOTO, values, limit)
        for left, (values, limit) in zip(PHOTO_LEFTS, pictures, strict=True)
    ]
    for panel, words in zip(panels, columns, strict=True):
        panel.title(*words)
    _maps(canvas, panels[1], result.kept)
    middle = top + panels[0].h / 2
    for start, end, color in ((panels[0], panels[1], DETECT), (panels[1], panels[2], GENERATE)):
        canvas.arrow((start.x + start.w + 2, middle), (end.x - 2, middle), color, 2.5)


def _scaled(values: Picture) -> tuple[Picture, float]:
    """Values and the limit of their shades: what all but the strongest hundredth stay below."""
    return values, float(np.quantile(np.abs(values), 0.99)) or float(np.abs(values).max()) or 1.0


def _panel(canvas: Canvas, left: float, top: float, box: Point, values: Picture, limit: float | None = None) -> Panel:
    """Panel as large as the box allows, in the middle of it."""
    width, height = fit(values.shape, *box)
    return canvas.panel((left + (box[0] - width) / 2, top), (width, height), values, limit, shades=GREY)


def _maps(canvas: Canvas, behind: Panel, kept: Picture) -> None:
    """Four feature maps in a panel, each with its filter in the corner."""
    limit = _scaled(kept[kept != 0])[1] if kept.any() else 1.0
    size = (behind.w / 2 - 1, behind.h / 2 - 1)
    for index, values in enumerate(kept):
        at = (behind.x + (index % 2) * (behind.w / 2 + 1), behind.y + (index // 2) * (behind.h / 2 + 1))
        canvas.panel(at, size, values, limit, shades=GREY)
        side = min(33.0, *size)
        canvas.panel(at, (side, side), BANK[index], 1.5, shades=GREY, edge=GENERATE)


def _arrow(canvas: Canvas, start: Panel, end: Panel, color: str) -> None:
    y = start.y + SIDE / 2
    canvas.arrow((start.x + start.w + 8, y), (end.x - 8, y), color, 2.5)


def _glyph(canvas: Canvas, start: Panel, end: Panel, color: str) -> None:
    """Print the filter above the arrow between two panels."""
    middle: Point = ((start.x + start.w + end.x) / 2, start.y + SIDE / 2)
    canvas.panel((middle[0] - 34, middle[1] - 88), (68, 68), DIAGONAL, 1.6, edge=color).grid(size=10)
