"""What a kernel should take, from counts and the device's limits, without running it.

Operations over the peak, or bytes over the bandwidth, whichever is longer, and the launches. Operations count as
often as the kernel does them (`Kernel.work_ratio`, padding and tile ends included); on a GPU a launch with few
tiles leaves multiprocessors idle, and atomics write the sums of every stamp to memory.
"""

from __future__ import annotations

import math

from ..kernels.kernel import Kernel
from ..problem.dtypes import DTYPES
from ..problem.plan import Plan
from .limits import DeviceLimits

#: Outputs of one tile of a GPU kernel.
_TILE = 128 * 64


def predict(kernel: Kernel, plan: Plan, limits: DeviceLimits, work_ratio: float) -> float:
    """Seconds that `kernel` should take on prepared weights; `work_ratio` is what it says for the plan."""
    compute = plan.flops * work_ratio / limits.peak(plan)
    traffic, launches = plan.bytes, 1
    if limits.device == "cuda":
        compute /= _occupancy(plan, limits)
    if not kernel.deterministic:
        traffic, launches = traffic + _stamp_bytes(plan), 3  # zeros, stamps, bias and activation
    return max(compute, traffic / (limits.copy_gb_per_s * 1e9)) + launches * limits.launch_seconds


def _occupancy(plan: Plan, limits: DeviceLimits) -> float:
    """Share of the multiprocessors' time that has work, all tiles being equal."""
    tiles = math.ceil(math.prod(plan.result_shape) / _TILE)
    return tiles / (math.ceil(tiles / limits.units) * limits.units) if tiles else 1.0


def _stamp_bytes(plan: Plan) -> int:
    """Traffic of adding every stamp's sums over the input channels into memory: a read and a write each."""
    sums = plan.batch * plan.out_channels * math.prod(plan.in_spatial) * math.prod(plan.kernel)
    return 2 * sums * DTYPES[plan.accumulate].size
