"""What kernels that go by lists of what meets should cost; see `cost` for the unit."""

from __future__ import annotations

import math
from functools import lru_cache

from ....problem.plan import Plan
from ..points import point_lists, point_strips
from ..points.meetings import count_meetings
from .cost import beyond
from .cost_scatter import FAR_WEIGHT
from .sizes import sizes_of

#: A product; a vector of sums that is visited; a pair that meets; a vector of inputs that is packed; a vector of
#: results; a call.
_PRODUCT, _VISIT, _MEETING, _PACK, _RESULT, _CALL = 0.92, 0.3, 12.0, 19.0, 16.0, 3800.0
#: Operations of a lane for a weight that is turned: 0.55 cycles, by the times of 19 small maps; for an input that is
#: copied again for each strip; and for each time that a vector of sums is visited.
_TURN, _COPY, _AGAIN = 9.0, 2.0, 10.0
#: How much longer the whole takes where phases are channels, whose rows lie far apart. Fitted to splice_k10000.
_FAR_ROWS = 1.28


@lru_cache(maxsize=1024)
def cost_of_points(plan: Plan) -> float:
    """Cost of gather by lists, infinite where it does not take the plan."""
    return _cost_of_lists(plan) if point_lists.takes(plan) else math.inf


def _cost_of_lists(plan: Plan) -> float:
    sizes = sizes_of(plan)
    meetings, columns = count_meetings(plan), point_lists.columns_of(plan) / sizes.lanes
    outputs = sizes.images * math.prod(plan.out_spatial)
    cost = meetings * (columns * (_PRODUCT * sizes.cin + _VISIT * -(-sizes.cin // point_lists.DEPTH)) + _MEETING)
    cost += _PACK * sizes.in_pixels * sizes.cin / sizes.lanes + _RESULT * outputs * columns
    cost += FAR_WEIGHT * sizes.volume * sizes.cin * columns * beyond(plan.weight_bytes)
    return (cost + _CALL / sizes.groups) / sizes.vectors


@lru_cache(maxsize=1024)
def cost_of_strips(plan: Plan) -> float:
    """Cost of scatter by lists, infinite where it does not take the plan."""
    if not point_strips.takes(plan):
        return math.inf
    sizes = sizes_of(plan)
    copied = 0.0 if point_strips.is_listed(plan) else _COPY / (2 * sizes.lanes) * point_strips.share_apart(plan)
    again = _AGAIN / point_strips.depth_of(plan) + copied
    more = _TURN + again * count_meetings(plan) / sizes.volume
    return _cost_of_lists(plan) + more * sizes.useful / sizes.blocks


def cost_of_phases(plan: Plan) -> float:
    """Cost of the same with weights as they lie and phases as channels, infinite where it does not take the plan."""
    phases = point_strips.phases_as_channels(plan)
    return math.inf if phases is None else _FAR_ROWS * cost_of_strips(phases)
