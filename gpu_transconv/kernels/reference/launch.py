"""Launch the definition from a plan."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...arrays.views import Array
from ...problem.axis import Axis
from ...problem.plan import Plan
from ...reference import conv_transpose
from ..kernel import Kernel


def _launch(
    formulation: str, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, _packed: None
) -> None:
    axes = plan.axes[3 - plan.ndim :]
    cuts = [_cut(axis) for axis in axes]
    result = conv_transpose(
        x[None] if plan.unbatched else x,
        weight,
        bias,
        stride=[axis.stride for axis in axes],
        dilation=[axis.dilation for axis in axes],
        padding=[(axis.pad_low, high) for axis, (high, _) in zip(axes, cuts, strict=True)],
        output_padding=[extra for _, extra in cuts],
        groups=plan.groups,
        channels_last=plan.channels_last,
        activation=plan.activation,
        slope=plan.slope,
        formulation=formulation,
    )
    np.copyto(out, result.reshape(plan.output_shape))


def _cut(axis: Axis) -> tuple[int, int]:
    """What to cut from the high end, and what to add to it, to arrive at the planned output size."""
    surplus = axis.output_of(axis.size - 1, axis.kernel - 1) + 1 - axis.output_size
    return max(surplus, 0), max(-surplus, 0)


#: Scatter counts twice, so that who names no formulation gets gather; nothing was measured.
KERNELS = (
    Kernel("reference", "gather", partial(_launch, "gather")),
    Kernel("reference", "scatter", partial(_launch, "scatter"), work_ratio=lambda _: 2.0),
)
