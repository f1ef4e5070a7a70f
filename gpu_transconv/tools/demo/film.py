"""Pages that follow each other, as one moving picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .canvas import Canvas


class Film:
    """Canvases of one size, each shown for `seconds`, the last one longer; then from the beginning."""

    suffix = ".gif"
    #: How many times as long the last page stays: time to look at the result.
    LAST = 4
    #: Colours of a frame: flat areas and the shades at the edges of letters; more make files larger and no better.
    COLOURS = 64

    def __init__(self, pages: Sequence[Canvas], seconds: float, words: str = "") -> None:
        self.pages, self.seconds, self.words = pages, seconds, words

    def save(self, path: Path) -> None:
        """Write an animated GIF file."""
        images = [page.image().quantize(self.COLOURS, dither=Image.Dither.NONE) for page in self.pages]
        shown = [round(1000 * self.seconds)] * (len(images) - 1) + [round(1000 * self.seconds * self.LAST)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=shown, loop=0, optimize=True)

    def smallest_letters(self) -> float:
        """Height in pixels of the smallest type on any page."""
        return min(page.smallest_letters() for page in self.pages)
