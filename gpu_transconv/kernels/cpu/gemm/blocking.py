"""What all ways of cutting a matrix product have in common: bytes, tasks, the depth of a panel."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ....problem.axis import Axis
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..arguments import Table
from ..emit.numbers import COUPLED
from ..emit.registers import has_masks
from ..geometry import Geometry
from ..partition import even
from .layout import Layout, facts_of

#: Bytes of a panel of input, which stays in the second-level cache next to sums and weights: half of Zen 4's 1 MiB,
#: which `fitted` makes fit a smaller one.
PANEL_BYTES = 512 * 1024
#: Tasks per thread up to which their number should be a multiple of the threads. Chosen, not measured.
TASKS = 6
#: Bytes of the scratch memory of one thread, at most. Chosen, not measured.
WORK_BYTES = 4 * 1024 * 1024
#: Products added before a partial sum is put down where every sum has one order (`Plan.fixed_order`): so many that a
#: sum over 1024 channels and two taps is put down once. With 1024 products, a layer of an audio decoder (1024 to 512
#: channels, kernel 16, stride 8) took 1.16 times as long on a few inputs, and no less on many (Zen 4).
_FIXED_PRODUCTS = 2048


def can_move(geometry: Geometry, axes: tuple[Axis, Axis, Axis]) -> bool:
    """Whether tiles can bring in what comes next, in vectors as they lie in memory."""
    masked = not geometry.half or has_masks(2)
    return masked and not geometry.last and not geometry.alone and all(axis.step == 1 for axis in axes)


def tile_half(geometry: Geometry, panels: int) -> int:
    """Kind of the input of the tiles of `box_tile`, which only matters for what they multiply or move."""
    return geometry.half if panels > 1 or geometry.half == COUPLED else 0


def fixed_depth(plan: Plan) -> int:
    """Input channels of a panel that do not depend on the sizes of the plan, nor on whole strides that are cut off."""
    taps = math.prod(axis.most_taps for axis in by_phase(plan).axes)
    return even(plan.in_channels // plan.groups, max(1, _FIXED_PRODUCTS // taps))


def rows_of_sums(layout: Layout, all_at_once: bool) -> int:
    """Rows whose sums are kept at a time: of all chunks, where a sum needs several panels, or else of the largest."""
    return layout.row_channels.size if all_at_once else facts_of(layout).most_rows


def iota_of(layout: Layout) -> Table:
    """The table 0, 1, 2, ... for everything that a tile finds at even distances: its rows, and the taps of a set."""
    return _count_to(max(facts_of(layout).most_taps, 64))


@lru_cache(maxsize=16)
def _count_to(end: int) -> Table:
    return np.arange(end, dtype=np.int64)
