"""What is compiled ahead is what calls launch: a new shape compiles nothing."""

from __future__ import annotations

import pytest
from cases import CASES, CORE, DATA_FORMATS, FLOATS
from checks import make_arrays
from tile_cases import plan_of

from gpu_transconv.kernels.cupy.hopper import best_gather_launches
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.kernels.cupy.warm_up import gather_kernels, hopper_kernels
from gpu_transconv.tools.bench.layers import REAL_LAYERS, load_layers

#: Matrix instructions or none, many and few multiprocessors, little shared memory: their choices differ.
DEVICES = (
    DeviceProperties(has_warpgroups=True),
    DeviceProperties((7, 5), 20, 64 << 10),
    DeviceProperties((8, 6), 2, 99 << 10),
)


def launched(plan, device):
    planned = best_gather_launches(plan, device)
    return {(launch.source, launch.kernel) for launch in (*planned.pack, *planned.launch)}


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", [*FLOATS, "tf32", "complex64", "complex128"])
@pytest.mark.parametrize("device", DEVICES, ids=lambda device: "sm_{}{}".format(*device.capability))
def test_a_dozen_kernels_are_all(device, dtype, data_format):
    name, precision = ("float32", "tf32") if dtype == "tf32" else (dtype, "highest")
    if precision == "tf32" and device.capability < (8, 0):
        return  # refused
    ahead = list(gather_kernels(name, precision, data_format == "channels_last", device))
    assert len(ahead) == len(set(ahead)) <= 12
    ahead += hopper_kernels(name, precision, data_format == "channels_last", device)
    for case in CASES if dtype == "float32" else CORE:
        if case.takes(name):
            plan = plan_of(case, make_arrays(case, name, data_format), data_format, precision)
            assert launched(plan, device) <= set(ahead), case.name
    if data_format == "channels_first" and name in ("float16", "float32") and precision == "highest":
        for layer in load_layers(REAL_LAYERS):
            assert launched(layer.plan(name), device) <= set(ahead), layer.name
