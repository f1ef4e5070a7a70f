"""What is chosen for a plan, and what is told of it."""

from __future__ import annotations

import math
from typing import NamedTuple

from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from .costs.cost import useful_products
from .cpu_kernel import CpuKernel
from .emit.registers import has_couples
from .gemm.winograd import saving
from .pack import pack_points, pack_rows, pack_stamps
from .weight_order import WeightOrder

#: Operations in the time that it takes to pack a weight: 0.35 ns with two threads at 226 GFLOP/s, and twice as long
#: with one, see the log in docs/speed/performance.md.
_PACKING = 80.0
#: Weights that are packed in a few microseconds, so that it makes no difference. Chosen, not measured.
_LITTLE = 1 << 13


class Choice(NamedTuple):
    """The kernel of a plan, the plan that it computes instead, and how the weights are ordered for it."""

    kernel: CpuKernel
    plan: Plan
    order: WeightOrder

    @property
    def work_ratio(self) -> float:
        """Its cost in multiples of the useful operations at their peak, which couples of channels double."""
        peak = 2.0 if self.plan.dtype == "bfloat16" and has_couples() else 1.0
        return peak * self.kernel.cost(self.plan) / useful_products(self.plan)

    @property
    def pack_ratio(self) -> float:
        """What packing costs, in multiples of the useful operations."""
        weights = math.prod(self.plan.weight_shape)
        is_packed = self.kernel.tiles is not None and self.kernel.tiles.pack in (pack_rows, pack_stamps, pack_points)
        return _PACKING * weights / self.plan.flops if is_packed and self.plan.flops and weights > _LITTLE else 0.0

    @property
    def words(self) -> str:
        """What the kernel is, on how many axes blocks are in pairs, and whether channels are in couples."""
        axes = ("", " on one axis", " on two axes")[len(self.order.paired)]
        couples = ", two input channels at a time" if self.order.coupled else ""
        return f"{self.kernel.name} ({self.kernel.words}{axes}{couples})"

    @property
    def saved(self) -> float:
        """Share of the products that it does without."""
        return 1.0 - math.prod(1 - saving(kernel_axes(self.plan)[i]) for i in self.order.paired)
