"""What a row of the table should take, from counts and the device's limits, without running it.

Operations over the peak, or bytes over the bandwidth, whichever is longer, and the launches. Operations count as
often as the backend's kernel does them (`efforts`, padding and tile ends included); on a GPU a launch with few
tiles leaves multiprocessors idle, and atomics write the sums of every stamp to memory.
"""

from __future__ import annotations

import math
from typing import Protocol

from .limits import DeviceLimits
from .problem.dtypes import DTYPES
from .problem.plan import Plan

#: Outputs of one tile of a GPU kernel.
_TILE = 128 * 64
#: Useful operations once over in the formulation that a backend prefers, and this in the other where it says nothing.
_OTHER = 2.0


class Row(Protocol):
    """What is read of a row."""

    @property
    def formulation(self) -> str: ...  # noqa: D102
    @property
    def variant(self) -> str: ...  # noqa: D102


def predict(row: Row, plan: Plan, limits: DeviceLimits, efforts: dict[str, float], preferred: str) -> float:
    """Seconds that `row` should take on prepared weights."""
    key = "_".join(filter(None, (row.formulation, row.variant)))
    effort = efforts.get(key, 1.0 if row.formulation == preferred else _OTHER)
    compute = plan.flops * effort / limits.peak(plan)
    traffic, launches = plan.bytes, 1
    if limits.device == "cuda":
        compute /= _occupancy(plan, limits)
    if row.variant == "atomic":
        traffic, launches = traffic + _stamp_bytes(plan), 3  # zeros, stamps, bias and activation
    return max(compute, traffic / (limits.copy_gb_per_s * 1e9)) + launches * limits.launch_seconds


def _occupancy(plan: Plan, limits: DeviceLimits) -> float:
    """Share of the multiprocessors' time that has work, all tiles being equal."""
    tiles = math.ceil(math.prod(plan.output_shape) / _TILE)
    return tiles / (math.ceil(tiles / limits.units) * limits.units) if tiles else 1.0


def _stamp_bytes(plan: Plan) -> int:
    """Traffic of adding every stamp's sums over the input channels into memory: a read and a write each."""
    sums = plan.batch * plan.out_channels * math.prod(plan.in_spatial) * math.prod(plan.kernel)
    return 2 * sums * DTYPES[plan.accumulate].size
