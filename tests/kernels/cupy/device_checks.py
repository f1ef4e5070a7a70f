"""Launches of the CUDA C++ kernels on a device, as the launcher would give them to CuPy, but with forced tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from checks import Arrays, poisoned

from gpu_transconv.kernels.cupy import launch, memory
from gpu_transconv.kernels.cupy.bound_launch import bind_launch
from gpu_transconv.kernels.cupy.bound_launch import run_launches as run_bound
from gpu_transconv.kernels.cupy.choose import fit_direct
from gpu_transconv.kernels.cupy.input_grad import input_atomic_launches, input_owned_launches
from gpu_transconv.kernels.cupy.launch_plan import (
    LaunchPlan,
    direct_launches,
    gather_launches,
    scatter_atomic_launches,
    scatter_owned_launches,
)
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.kernels.cupy.weight_grad import (
    weight_atomic_launches,
    weight_gather_launches,
    weight_parts_launches,
)
from gpu_transconv.problem.plan import Plan

#: Formulation and variant -> what works out its launches.
VARIANTS = {
    "gather": gather_launches,
    "scatter_atomic": scatter_atomic_launches,
    "scatter_owned": scatter_owned_launches,
}


def _pixels(plan: Plan, device: DeviceProperties) -> LaunchPlan:
    return direct_launches(plan, fit_direct(plan, device)[0])


def _rows(plan: Plan, device: DeviceProperties) -> LaunchPlan:
    (chosen,) = (direct for direct in fit_direct(plan, device) if direct.row_stride)
    return direct_launches(plan, chosen)


#: Gather without tiles, whatever a device would choose.
FORCED = {"gather_direct": _pixels, "gather_rows": _rows}
#: Operation, formulation and variant of a gradient -> what works out its launches.
GRADIENTS = {
    "input_grad/gather": gather_launches,
    "input_grad/scatter_atomic": input_atomic_launches,
    "input_grad/scatter_owned": input_owned_launches,
    "weight_grad/gather": weight_gather_launches,
    "weight_grad/scatter_atomic": weight_atomic_launches,
    "weight_grad/scatter_tiles": weight_parts_launches,
}


def run_launches(plan: Plan, planned: LaunchPlan, arrays: Arrays) -> np.ndarray:
    """Pack and launch; the output holds no result before."""
    found: dict[str, Any] = dict(zip(("x", "weight", "bias"), arrays, strict=True))
    found["out"] = poisoned(plan.result_shape, plan.dtype)
    found = {name: None if array is None else memory.as_device(array) for name, array in found.items()}
    for buffer in planned.buffers:
        made = memory.empty((buffer.size,), "uint8")
        made.data.memset_async(0 if buffer.zeroed else 0xFF, buffer.size)
        found[buffer.name] = made
    every = (*planned.pack, *planned.launch)
    run_bound([bind_launch(one, launch.current_device()) for one in every], found)
    out = poisoned(plan.result_shape, plan.dtype)
    memory.copy_to(found["out"], out)
    return out
