"""How the tiled kernels cut a problem: from the plan, the layout and the machine, with no measuring and no search."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...plan import Plan
from .layout import Layout, Table
from .microkernel import tile_function

#: A panel of input should stay in the second-level cache, next to the sums and a tile of weights.
_PANEL_BYTES = 512 * 1024
#: Products added before a partial sum is put down: bounds both the panel and the error of a long float32 sum.
_DEPTH = 2048
_LANES = 32
#: Workspace of one thread.
_WORK_BYTES = 4 * 1024 * 1024


class Blocking(NamedTuple):
    """Block counts per axis, and how many of them one run takes."""

    blocks_d: int
    blocks_h: int
    blocks_w: int
    pixels: int  # blocks of one run
    runs: int
    depth: int  # input channels of one panel
    splits: int  # parts of the chunks that run as tasks of their own
    threads: int
    panel: int  # elements
    work: int  # elements of panel and sums, per thread
    iota: Table
    tile: int  # address of the compiled tiles


def make_blocking(plan: Plan, layout: Layout, threads: int) -> Blocking:
    """Cut the problem for `threads` threads; the order of every sum does not depend on their number."""
    cin, slots = plan.in_channels // plan.groups, len(layout.slots)
    itemsize = 8 if plan.accumulate == "float64" else 4
    depth = cin if slots * cin <= _DEPTH else max(1, _DEPTH // slots)
    bases = np.append(layout.chunks[:, 6], layout.row_channels.size)
    rows = layout.row_channels.size if depth < cin else int(np.diff(bases).max())
    blocks = tuple(axis.blocks for axis in plan.axes)
    total = plan.batch * math.prod(blocks)

    pixels = min(_PANEL_BYTES // (itemsize * slots * depth), _WORK_BYTES // (itemsize * (rows + slots * depth)), 256)
    pixels = max(_LANES, pixels // _LANES * _LANES)
    while pixels > _LANES and math.ceil(total / pixels) * plan.groups < 4 * threads:
        pixels -= _LANES
    runs = math.ceil(total / pixels)
    splits = min(len(layout.chunks), math.ceil(2 * threads / (runs * plan.groups)))
    panel = slots * depth * pixels
    # A tile may read and write whole vectors past the last block.
    work = panel + rows * pixels + 256
    taps = int(layout.sets[:, 3].max())
    iota = np.arange(max(taps, 64), dtype=np.int64)
    return Blocking(*blocks, pixels, runs, depth, splits, threads, panel, work, iota, tile_function(plan.accumulate))
