"""The drawings of ``gpu-transconv demo``; needs matplotlib and Pillow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .canvas import Canvas, plain_style
from .detect import Picture, Result
from .formulations import two_ways
from .overview import overview
from .stamps import stamps


def draw(folder: Path, grey: Picture, result: Result) -> Iterator[Path]:
    """Write the drawings one by one; yield the path of each.

    Parameters
    ----------
    folder : Path
        Where the PNG files go; it exists.
    grey : ndarray, shape (rows, columns)
        The picture, in [0, 1].
    result : Result
        The demonstration on it.

    Yields
    ------
    Path
        The file that was just written.
    """
    drawings: dict[str, Callable[[], Canvas]] = {
        "overview.png": partial(overview, grey, result),
        "stamps.png": stamps,
        "gather_scatter.png": two_ways,
    }
    for name, make in drawings.items():
        with plain_style():
            make().save(folder / name)
        yield folder / name
