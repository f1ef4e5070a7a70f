"""On which axes gather computes blocks in pairs; see `winograd`."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..emit.registers import VECTOR_BYTES
from .winograd import products_by_phase, saving, winograd_products

#: Channels in, and channels out, from which computing blocks in pairs pays.
_MANY, _SEVERAL = 48, 12
#: Products per channel up to which it does.
_PHASES = 256
#: Vector operations in which a weight arrives from the caches: 1.5 cycles, see the log in docs/speed/performance.md.
_ARRIVAL = 1.5
#: Vector operations for a vector of a panel by the number of axes in pairs, whose inputs are differences. Fitted to 12
#: layers of 48 and 64 channels, of which pairs of two axes take 0.80 to 1.37 of the time of none: the choice is within
#: 0.04 of the best.
_DIFFERENCES = 3.0, 8.0, 12.0
#: Share of the time at which pairs must stay below to be worth it.
_WORTH = 0.95


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
    if any(axis.step > 1 for axis in axes):
        return ()
    able = [i for i in (1, 2) if saving(axes[i])]
    if math.prod(axes[i].stride * (3 if i in able else 1) for i in (1, 2)) > _PHASES:
        return ()
    lane = VECTOR_BYTES // DTYPES[plan.accumulate].size

    def cost(paired: tuple[int, ...]) -> float:
        """Vector operations per pair of channels, or the time in which the weights arrive."""
        blocks = math.prod(-(-axis.blocks // (2 if i in paired else 1)) for i, axis in enumerate(axes))
        weights = math.prod(axis.kernel * (2 - 2 * saving(axis) if i in paired else 1) for i, axis in enumerate(axes))
        each = (winograd_products if i in paired else products_by_phase for i in range(3))
        inputs = math.prod(len(products(axis).inputs) for products, axis in zip(each, axes, strict=True))
        vectors, copy = math.ceil(plan.batch * blocks / lane), _DIFFERENCES[len(paired)]
        products = weights * max(_ARRIVAL, vectors) + copy * inputs * vectors / (plan.out_channels // plan.groups)
        return products * (1.0 if paired else _WORTH)

    return min(((), *combinations(able, 1), tuple(able)), key=cost)
