"""Launch the definition from a plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ... import reference
from ...arrays.views import Array
from ...problem.axis import Axis
from ...problem.plan import Operation, Plan
from ..kernel import Kernel


def _forward(
    formulation: str, plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, _packed: None
) -> None:
    axes = plan.axes[3 - plan.ndim :]
    cuts = [_cut(axis) for axis in axes]
    result = reference.conv_transpose(
        _batched(plan, x),
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
    np.copyto(out, result.reshape(plan.result_shape))


def _input_grad(
    formulation: str, plan: Plan, grad_output: Array, weight: Array, _bias: None, out: Array, _packed: None
) -> None:
    sizes = [axis.size for axis in plan.axes[3 - plan.ndim :]]
    result = reference.input_grad(
        _batched(plan, grad_output), weight, input_size=sizes, formulation=formulation, **_geometry(plan)
    )
    np.copyto(out, result.reshape(plan.result_shape))


def _weight_grad(
    formulation: str, plan: Plan, x: Array, grad_output: Array, _bias: None, out: Array, _packed: None
) -> None:
    kernel = plan.kernel[3 - plan.ndim :]
    arrays = _batched(plan, x), _batched(plan, grad_output)
    np.copyto(out, reference.weight_grad(*arrays, kernel_size=kernel, formulation=formulation, **_geometry(plan)))


def _batched(plan: Plan, array: Array) -> Array:
    return array[None] if plan.unbatched else array


def _geometry(plan: Plan) -> dict[str, Any]:
    axes = plan.axes[3 - plan.ndim :]
    return {
        "stride": [axis.stride for axis in axes],
        "padding_low": [axis.pad_low for axis in axes],
        "dilation": [axis.dilation for axis in axes],
        "groups": plan.groups,
        "channels_last": plan.channels_last,
    }


def _cut(axis: Axis) -> tuple[int, int]:
    """What to cut from the high end, and what to add to it, to arrive at the planned output size."""
    surplus = axis.output_of(axis.size - 1, axis.kernel - 1) + 1 - axis.output_size
    return max(surplus, 0), max(-surplus, 0)


def _kernels(operation: Operation, launch: Callable[..., None]) -> tuple[Kernel, Kernel]:
    gather, scatter = (partial(launch, formulation) for formulation in ("gather", "scatter"))
    return (
        Kernel("reference", "gather", gather, operation=operation),
        # Counts twice, so that who names no formulation gets gather; nothing was measured.
        Kernel("reference", "scatter", scatter, operation=operation, work_ratio=lambda _: 2.0),
    )


KERNELS = (
    *_kernels("forward", _forward),
    *_kernels("input_grad", _input_grad),
    *_kernels("weight_grad", _weight_grad),
)
