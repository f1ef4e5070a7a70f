"""What the tests of the CUDA C++ kernels share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import Arrays, poisoned
from device_checks import FORCED, GRADIENTS, VARIANTS
from host_compiler import KERNELS, missing
from host_runner import run_launches, to_device

import gpu_transconv as gtc
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.problem.plan import Plan

#: Where tests are a gate, a compiler that is missing is a failure; elsewhere the tests are skipped.
requires_compiler = pytest.mark.skipif(
    missing() is not None and not os.environ.get("CI"), reason=missing() or "kernels can be compiled"
)
#: An H100; few multiprocessors would split no reduction.
DEVICE = DeviceProperties()


def run_plan(
    plan: Plan, arrays: Arrays, variant: str, device: DeviceProperties = DEVICE, folder: Path = KERNELS, **choice: Any
) -> np.ndarray:
    """Pack and launch on the host; `choice` picks a tile or a product instead of the best."""
    planned = (VARIANTS | FORCED)[variant](plan, device, **choice)
    names = ("x", "weight", "bias")
    found = {name: None if array is None else to_device(array) for name, array in zip(names, arrays, strict=True)}
    out = to_device(poisoned(plan.output_shape, plan.dtype))
    run_launches((*planned.pack, *planned.launch), folder, found | {"out": out})
    return out


def run_gradient_plan(
    plan: Plan, arrays: Arrays, variant: str, device: DeviceProperties = DEVICE, shape: Any = None
) -> np.ndarray:
    """Pack and launch a gradient; `arrays` are x, weight and grad_output, `shape` is a tile instead of the best."""
    planned = GRADIENTS[variant](plan, device, shape)
    x, weight, grad_output = arrays
    operands = (grad_output, weight) if plan.operation == "input_grad" else (x, grad_output)
    found = {name: to_device(array) for name, array in zip(("x", "weight"), operands, strict=True)}
    out = to_device(poisoned(plan.result_shape, plan.dtype))
    run_launches((*planned.pack, *planned.launch), KERNELS, found | {"bias": None, "out": out})
    return out


def want(x: np.ndarray, weight: np.ndarray, **keywords: Any) -> np.ndarray:
    """The definition's result with stride 2."""
    return gtc.conv_transpose(x, weight, stride=2, backend="reference", **keywords)


def close(got: np.ndarray, expected: np.ndarray) -> None:
    """Tell a right result from a wrong one, nothing finer."""
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def edited(source: Path, old: str, new: str, folder: Path) -> Path:
    """Copy a source and those beside it to `folder`, with one place of its text replaced."""
    text = source.read_text()
    assert text.count(old) == 1, f"{source.name} has {text.count(old)} times: {old}"
    for path in source.parent.glob("*.cuh"):
        shutil.copy(path, folder)
    swap = "#define SWAP(a, b) do { auto swapped = a; a = b; b = swapped; } while (0)\n"
    (folder / source.name).write_text(swap + text.replace(old, new))
    return folder / source.name
