"""The figures of ``gpu-transconv demo``; needs matplotlib and Pillow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..demo import Picture, Result
from .canvas import Canvas, plain_style
from .formulations import two_ways
from .overview import half_resolution, overview
from .stamps import stamps


def draw(
    folder: Path, grey: Picture, seen: Picture, results: tuple[Result, Result], threshold: float
) -> Iterator[Path]:
    """Write the figures one by one; yield the path of each.

    Parameters
    ----------
    folder : Path
        Where the PNG files go; it exists.
    grey : ndarray, shape (rows, columns)
        The picture, in [0, 1].
    seen : ndarray, shape (rows, columns)
        What the detector saw, in [0, 1].
    results : tuple of Result
        The demonstration at stride 1 and at stride 2.
    threshold : float
        What the kept features exceed.

    Yields
    ------
    Path
        The file that was just written.
    """
    figures: dict[str, Callable[[], Canvas]] = {
        "overview.png": partial(overview, grey, seen, results[0], threshold),
        "stamps.png": stamps,
        "gather_scatter.png": two_ways,
        "stride2.png": partial(half_resolution, seen, results[1], threshold),
    }
    for name, figure in figures.items():
        with plain_style():
            figure().save(folder / name)
        yield folder / name
