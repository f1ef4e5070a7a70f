"""What a kernel should cost, counted in vector operations per output block, with no measuring.

The constants were read off one machine once (see docs/performance.md); only ratios between kernels matter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, groupby

from ...problem.axis import Axis
from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from .geometry import fits_boxes
from .packing import VECTOR_BYTES
from .pairs import saving

#: A vector copied into a panel: a read, a write, and its share of the row's ends.
_COPY = 3.0
#: A vector copied from channels last to first.
_TURN = 6.0
#: Most rows that are interleaved into pixels of channels at once.
_LAST = 128
#: A vector of a tile added to sums in cache instead of being stored once.
_ADD = 5.0
#: Boxes keep less of the weights close than runs of blocks do.
_BOX = 1.1
#: A tile with fewer rows than this waits for its columns.
_ROWS = 2.0
#: Channels in and out, and products per channel, between which computing blocks in pairs pays.
_MANY, _SEVERAL, _PHASES = 48, 12, 256
#: Time in which a weight arrives from the caches, and share of the time that pairs must save, in products.
_ARRIVAL, _WORTH = 1.5, 0.95


@lru_cache(maxsize=1024)
def predict(plan: Plan) -> dict[str, float]:
    """Cost of the kernels that take `plan`: gather (in runs of blocks), direct (gather in boxes) and scatter."""
    d, h, w = kernel_axes(plan)
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    products = cin * cout * math.prod(plan.kernel)
    shifts = [len(axis.shifts()) for axis in (d, h, w)]
    rows = cout * w.stride / _runs(w)
    gather = products * _waiting(rows)
    if plan.channels_last:  # rows come in whole vectors
        lane = _lanes(plan)
        gather = products * math.ceil(rows / lane) * lane / rows
    costs = {"gather": gather + _COPY * math.prod(shifts) * cin}
    margin = math.prod(1 + min(1.0, (n - 1) / 8) for n in shifts[:2])
    widened = (w.blocks + shifts[2] - 1) / w.blocks
    if not fits_boxes((d, h, w)):
        return costs
    if not plan.channels_last:
        costs["direct"] = _BOX * widened * gather + _COPY * margin * cin
        sums = _ADD * cout * math.prod(plan.kernel) * math.ceil(cin / 64)
        costs["scatter"] = _BOX * widened * (products * _waiting(cout * w.kernel) + sums) + _COPY * margin * cin
    elif plan.groups == 1 and cout * w.stride * h.stride <= _LAST:
        costs["direct"] = _BOX * widened * products * _waiting(rows) + _TURN * margin * cin
    return costs


def is_direct(plan: Plan) -> bool:
    """Whether gather runs in boxes."""
    costs = predict(plan)
    return costs.get("direct", math.inf) < costs["gather"]


@lru_cache(maxsize=512)
def paired_axes(plan: Plan) -> tuple[int, ...]:
    """Axes on which gather computes blocks in pairs, which only `precision` "fast" allows."""
    if (
        plan.precision != "fast"
        or plan.channels_last
        or plan.in_channels // plan.groups < _MANY
        or plan.out_channels // plan.groups < _SEVERAL
    ):
        return ()
    axes = kernel_axes(plan)
    able = [i for i in (1, 2) if saving(axes[i])]
    if math.prod(axes[i].stride * (3 if i in able else 1) for i in (1, 2)) > _PHASES:
        return ()
    lane = _lanes(plan)

    def cost(paired: tuple[int, ...]) -> float:
        """Vector operations per pair of channels, or the time in which the weights arrive."""
        blocks = math.prod(-(-axis.blocks // (2 if i in paired else 1)) for i, axis in enumerate(axes))
        weights = math.prod(axis.kernel * (2 - 2 * saving(axis) if i in paired else 1) for i, axis in enumerate(axes))
        return weights * max(_ARRIVAL, math.ceil(plan.batch * blocks / lane)) * (1.0 if paired else _WORTH)

    return min(((), *combinations(able, 1), tuple(able)), key=cost)


def _lanes(plan: Plan) -> int:
    return VECTOR_BYTES // (8 if plan.accumulate == "float64" else 4)


def _waiting(rows: float) -> float:
    return max(rows, _ROWS) / rows


def _runs(axis: Axis) -> int:
    """Number of runs of neighbouring phases that read the input at the same shifts."""
    shifts = ([shift for _, shift in taps] for taps in axis.taps_by_phase())
    return sum(1 for _ in groupby(shifts))
