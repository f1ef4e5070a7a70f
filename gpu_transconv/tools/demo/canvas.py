"""A page measured in pixels, with the few things the drawings are made of: panels, arrows, boxes and words."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from PIL import Image

from ...arrays import HostArray

Picture: TypeAlias = HostArray
#: A colour map, or the name of one of Matplotlib's.
Shades: TypeAlias = Colormap | str
Point = tuple[float, float]

INK, PALE = "#1f2328", "#8b949e"
DETECT, GENERATE = "#9a4d00", "#00636b"
#: Dark blue below zero, white at zero, light orange above: they stay apart where a page is printed in grey.
SIGNED = LinearSegmentedColormap.from_list("signed", ["#08306b", "#2b5f9f", "#ffffff", "#fcd3a1", "#f6a54c"], N=257)
#: Black below zero, grey at zero, white above.
GREY = "gray"


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults, whatever the reader's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


class Canvas:
    """A white page of `width` x `height` pixels; all positions count from its upper left corner.

    `words` say what it shows, to who does not see it.
    """

    suffix = ".png"

    def __init__(self, width: int, height: int, words: str = "") -> None:
        self.width, self.height, self.words = width, height, words
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
        self.agg: Any = FigureCanvasAgg(self.figure)
        self.page = self.figure.add_axes((0, 0, 1, 1), zorder=5)
        self.page.set(xlim=(0, width), ylim=(height, 0))
        self.page.axis("off")

    def panel(
        self,
        at: Point,
        size: Point,
        values: Picture,
        limit: float | None = None,
        *,
        shades: Shades = SIGNED,
        edge: str = PALE,
    ) -> Panel:
        """Show `values` in a frame: in `shades` from -limit to limit, without a limit as grey from 0 to 1."""
        return Panel(self, at, size, values, limit, shades, edge)

    def text(self, at: Point, words: str, size: float = 11, **style: Any) -> None:
        """Write; by default the position is the middle of the base line."""
        self.page.text(*at, words, fontsize=size, **{"ha": "center", "color": INK, **style})

    def arrow(self, start: Point, end: Point, color: str = INK, width: float = 2, **style: Any) -> None:
        """Draw an arrow."""
        options = {"arrowstyle": "-|>", "mutation_scale": 9 + 4 * width, "shrinkA": 0, "shrinkB": 0, **style}
        arrow = FancyArrowPatch(start, end, color=color, linewidth=width, **options)
        arrow.set_path_effects([withStroke(linewidth=width + 1.5, foreground="white")])
        self.page.add_patch(arrow)

    def line(self, start: Point, end: Point, color: str, width: float = 1.2) -> None:
        """Draw a straight line."""
        self.page.plot(*zip(start, end, strict=True), color=color, linewidth=width)

    def legend(self, at: Point) -> None:
        """Draw the scale of the signed colours."""
        x, y = at
        Panel(self, (x, y), (90, 12), np.linspace(-1, 1, 91)[None], 1.0, SIGNED, PALE)
        for offset, words in ((-12, "\N{MINUS SIGN}"), (45, "0"), (102, "+")):
            down = 27 if words == "0" else 11
            self.text((x + offset, y + down), words, 10)

    def plot(self, at: Point, size: Point) -> Any:
        """Axes of Matplotlib in a box, with two spines and letters of the page's size."""
        box = (at[0] / self.width, 1 - (at[1] + size[1]) / self.height, size[0] / self.width, size[1] / self.height)
        axes = self.figure.add_axes(box)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=10, colors=INK)
        return axes

    def image(self) -> Image.Image:
        """Draw the page."""
        self.agg.draw()
        return Image.fromarray(np.asarray(self.agg.buffer_rgba())).convert("RGB")

    def save(self, path: Path) -> None:
        """Write the page as a PNG file."""
        self.image().save(path, optimize=True)

    def smallest_letters(self) -> float:
        """Height in pixels of the smallest type on the page."""
        words = [text for text in self.figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        return min((float(text.get_fontsize()) * 100 / 72 for text in words), default=float("inf"))

    def _repr_png_(self) -> bytes:
        """Show the page in a notebook."""
        written = io.BytesIO()
        self.image().save(written, "png")
        return written.getvalue()


class Panel:
    """Values on a page, and where each of them is."""

    def __init__(
        self, canvas: Canvas, at: Point, size: Point, values: Picture, limit: float | None, shades: Shades, edge: str
    ) -> None:
        self.canvas, self.values, self.limit = canvas, np.asarray(values, float), limit
        self.shades = mpl.colormaps[shades] if isinstance(shades, str) else shades
        (self.x, self.y), (self.w, self.h) = at, size
        box = (
            self.x / canvas.width,
            1 - (self.y + self.h) / canvas.height,
            self.w / canvas.width,
            self.h / canvas.height,
        )
        axes = canvas.figure.add_axes(box)
        if limit is None:
            axes.imshow(self.values, aspect="auto", cmap="gray", vmin=0, vmax=1)
        else:
            axes.imshow(self.values, aspect="auto", cmap=shades, vmin=-limit, vmax=limit)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=edge, linewidth=1)

    @property
    def step(self) -> Point:
        """Width and height of one value, in pixels."""
        return self.w / self.values.shape[1], self.h / self.values.shape[0]

    def centre(self, row: float, column: float) -> Point:
        """Middle of a value on the page."""
        return self.x + (column + 0.5) * self.step[0], self.y + (row + 0.5) * self.step[1]

    def title(self, words: str, note: str = "") -> None:
        """Write above the panel, the note below it."""
        middle = self.x + self.w / 2
        self.canvas.text((middle, self.y - 9), words)
        self.canvas.text((middle, self.y + self.h + 19), note, 10, color=INK)

    def grid(self, size: float = 11, *, signs: bool = False, zeros: Picture | None = None) -> Panel:
        """Rule lines between the values, and print those that are not 0, or their signs; and the 0 where `zeros` is."""
        rows, columns = self.values.shape
        for row in range(1, rows):
            y = self.y + row * self.step[1]
            self.canvas.line((self.x, y), (self.x + self.w, y), "#d0d7de", 0.8)
        for column in range(1, columns):
            x = self.x + column * self.step[0]
            self.canvas.line((x, self.y), (x, self.y + self.h), "#d0d7de", 0.8)
        for row, column in np.argwhere(self.values if zeros is None else (self.values != 0) | (zeros != 0)):
            value = self.values[row, column]
            shade = self.shades((value / (self.limit or 1) + 1) / 2)
            words = ("+" if value > 0 else "-") if signs else f"{value:.3g}"
            self.canvas.text(
                self.centre(row, column),
                words.replace("-", "\N{MINUS SIGN}"),
                size,
                va="center_baseline",
                color="white" if luminance(shade) < 128 else INK,
                bbox={"facecolor": shade, "edgecolor": "none", "pad": 0.5},  # arrows pass below
            )
        return self

    def box(
        self,
        row: float,
        column: float,
        rows: float,
        columns: float,
        color: str,
        width: float = 2.5,
        inset: float = 0,
    ) -> None:
        """Frame a block of values."""
        dx, dy = self.step
        corner = (self.x + column * dx + inset, self.y + row * dy + inset)
        extent = (columns * dx - 2 * inset, rows * dy - 2 * inset)
        self.canvas.page.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=color, linewidth=width, zorder=3))


def luminance(shade: tuple[float, float, float, float]) -> float:
    """Brightness of a colour on a page that is printed in grey, from 0 to 255."""
    red, green, blue = to_rgb(shade)
    return 255 * (0.299 * red + 0.587 * green + 0.114 * blue)


def fit(shape: tuple[int, ...], width: float, height: float) -> Point:
    """Size in pixels at which a picture fits a box, whole pixels per value where it can be."""
    scale = min(width / shape[1], height / shape[0])
    scale = float(int(scale)) if scale >= 1 else scale
    return max(shape[1] * scale, 4), max(shape[0] * scale, 4)
