"""Steps of the CUDA C++ kernels on a device, as the launcher would give them to CuPy, but with forced tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from checks import Arrays, poisoned

from gpu_transconv.kernels.cupy import launch, memory
from gpu_transconv.kernels.cupy.steps import (
    Buffer,
    Steps,
    steps_gather,
    steps_scatter_atomic,
    steps_scatter_tiles,
)
from gpu_transconv.problem.plan import Plan

STEPS = {"gather": steps_gather, "scatter_atomic": steps_scatter_atomic, "scatter_tiles": steps_scatter_tiles}


def run_steps(plan: Plan, steps: Steps, arrays: Arrays) -> np.ndarray:
    """Pack and launch; the output holds no result before."""
    found: dict[str, Any] = dict(zip(("x", "weight", "bias"), arrays, strict=True))
    found["out"] = poisoned(plan.output_shape, plan.dtype)
    found = {name: None if array is None else memory.as_device(array) for name, array in found.items()}
    every = (*steps.pack, *steps.launch)
    for buffer in {a for step in every for a in step.arguments if isinstance(a, Buffer) and a.size}:
        made = memory.empty((buffer.size,), "uint8")
        made.data.memset_async(0 if buffer.zeroed else 0xFF, buffer.size)
        found[buffer.name] = made
    launch._run([launch._call(step, launch._current_device()) for step in every], found)
    out = poisoned(plan.output_shape, plan.dtype)
    memory.copy_to(found["out"], out)
    return out
