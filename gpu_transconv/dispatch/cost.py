"""What a kernel should take, from counts and the device's limits, without running it.

Operations over the peak, or bytes over the bandwidth, whichever is longer, and the launches. What the operations take
beside the peak each kernel says itself (`Kernel.work_ratio`); atomics write the sums of every stamp to memory.
"""

from __future__ import annotations

import math

from ..kernels.kernel import Kernel
from ..problem.dtypes import DTYPES
from ..problem.plan import Plan
from .limits import DeviceLimits


def predict(kernel: Kernel, plan: Plan, limits: DeviceLimits, work_ratio: float) -> float:
    """Seconds that `kernel` should take on prepared weights; `work_ratio` is what it says for the plan."""
    compute = plan.flops * work_ratio / limits.peak(plan)
    traffic, launches = plan.bytes, 1
    if not kernel.deterministic:
        traffic, launches = traffic + _stamp_bytes(plan), 3  # zeros, stamps, bias and activation
    return max(compute, traffic / (limits.copy_gb_per_s * 1e9)) + launches * limits.launch_seconds


def _stamp_bytes(plan: Plan) -> int:
    """Traffic of adding every stamp's sums over the input channels into memory: a read and a write each."""
    sums = plan.batch * plan.out_channels * math.prod(plan.in_spatial) * math.prod(plan.kernel)
    return 2 * sums * DTYPES[plan.accumulate].size
