"""How the runs of gather, times the parts of its chunks, are shared out to threads."""

from __future__ import annotations

import math

import numpy as np

from ..arguments import Table
from ..gemm.layout import FIRST_ROW, FIRST_SET, WEIGHT, Layout
from ..gemm.zones import START, Zones

_ZERO = np.zeros(1, np.int64)


def share_of_waiting(total: int, pixels: int, groups: int, threads: int) -> float:
    """Time in which threads that have whole runs wait for each other, over that of the products."""
    runs = math.ceil(total / pixels)
    each, more = divmod(runs * groups, threads)
    last = total - (runs - 1) * pixels  # blocks of the last run, which are all that a thread has more than the others
    largest = each * pixels + (last if more == groups == 1 else pixels if more else 0)
    return largest * threads / (total * groups) - 1


def shares_of(zones: Zones, pixels: int, runs: int, parts: Table, threads: int) -> Table:
    """First task of every thread, so that each has as many products; `parts` says how many a block has in each part."""
    tasks = runs * len(parts)
    if threads == 1:
        return np.array([0, tasks], np.int64)
    before = np.minimum(np.arange(runs + 1) * pixels, zones.blocks)
    if len(zones.boxes) > 2:  # blocks in zones need fewer or more of them
        starts = zones.boxes[:, START]
        products = np.concatenate([_ZERO, np.cumsum(zones.weights * (starts[1:] - starts[:-1]))])
        before = np.interp(before, starts, products)
    before = np.concatenate([_ZERO, np.outer(parts, before[1:] - before[:-1]).cumsum()])
    shares: Table = np.abs(before[:, None] - before[-1] / threads * np.arange(threads + 1)).argmin(0)
    shares[-1] = tasks  # the last ones may have no products
    return shares


def sizes_of_parts(layout: Layout, bounds: Table) -> Table:
    """Weights and rows of each part of the chunks, for an input channel."""
    if len(bounds) == 2:
        return np.array([layout.weights + layout.row_channels.size], np.int64)
    first = layout.chunks[bounds[:-1]]
    before = layout.sets[first[:, FIRST_SET], WEIGHT] + first[:, FIRST_ROW]
    sizes: Table = np.append(before[1:], layout.weights + layout.row_channels.size) - before
    return sizes


def bounds_of_parts(layout: Layout, splits: int) -> Table:
    """First chunks of parts that have about as many weights each."""
    if splits == 1:
        return np.array([0, len(layout.chunks)], np.int64)
    before = layout.sets[layout.chunks[:, FIRST_SET], WEIGHT]
    inner = [int(np.abs(before - layout.weights * split // splits).argmin()) for split in range(1, splits)]
    return np.array([0, *inner, len(layout.chunks)], np.int64)
