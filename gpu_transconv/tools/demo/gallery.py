"""Every figure of the pages that explain the operator, by name: what ``gpu-transconv demo --all`` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from . import adjoint, checkerboards, films, formulations, layout_pages, overview, rows, stamps, turned
from .canvas import Canvas, plain_style
from .detect import Picture, Result
from .film import Film

Figure = Canvas | Film


def figures(grey: Picture, result: Result) -> dict[str, Callable[[], Figure]]:
    """Name every figure, in the order of the pages; `grey` is in [0, 1], `result` the demonstration on it."""
    return {
        "1_flattening": rows.flattening,
        "1_row_and_column": rows.row_and_column,
        "1_stamps": stamps.stamps,
        "1_overview": partial(overview.overview, grey, result),
        "2_for_or_against": adjoint.for_or_against,
        "2_other_painters": partial(adjoint.other_painters, result),
        "2_whole_maps": partial(adjoint.whole_maps, result.picture[::2, ::2]),
        "3_turned": turned.turned,
        **{f"3_{name}": film for name, film in films.FILMS.items()},
        "3_gather_scatter": formulations.two_ways,
        "4_samples_and_means": layout_pages.samples_and_means,
        "4_correlations": layout_pages.correlations,
        "4_one_layer": layout_pages.one_layer,
        "5_counts": checkerboards.counts,
        "5_compounding": checkerboards.compounding,
        "5_cures": checkerboards.cures,
    }


def draw_all(folder: Path, grey: Picture, result: Result) -> Iterator[Path]:
    """Write the figures one by one; yield the path of each."""
    for name, make in figures(grey, result).items():
        with plain_style():
            figure = make()
            path = folder / f"{name}{figure.suffix}"
            figure.save(path)
        yield path
