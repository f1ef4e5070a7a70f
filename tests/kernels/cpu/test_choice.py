"""Which of the CPU's own kernels is taken: the one that was measured to be faster, where others are much slower."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gpu_transconv.kernels.cpu import choose
from gpu_transconv.kernels.cpu.emit.registers import VECTOR_BYTES
from gpu_transconv.problem.rewrites import simplify
from gpu_transconv.tools.bench.layers import Layer, shipped

#: Layer, whether channels are last, and its kernel; every other one took at least 1.2 times as long (Zen 4).
MEASURED = {
    ("dcgan_l4_rgb", False): "gather_boxes",
    ("fcn32s_up32", False): "gather",
    ("mednext_res_t", False): "gather",
    ("mednext_res_t", True): "gather",
    ("vnet_up32", False): "gather",
    ("vnet_up32", True): "gather",
    ("monai_unet_t", False): "gather_boxes",
    ("htdemucs_freq4", True): "gather",
    ("unet_up4", False): "gather",
    ("few-channels", True): "scatter",
}
#: 64 groups of two channels to one: with the channels last their pixels lie apart.
FEW = Layer("few-channels", 1, 128, 64, (85, 33), (2, 6), (1, 3), (0, 0), (0, 0), (1, 1), groups=64)


def auto(plan):
    return min((choose.choose_gather(plan), choose.choose_scatter(plan)), key=lambda choice: choice.work_ratio)


@pytest.mark.skipif(VECTOR_BYTES < 64, reason="measured with vectors of 64 bytes")
@pytest.mark.parametrize(("name", "last"), MEASURED, ids=lambda value: str(value))
def test_the_faster_kernel_is_taken(name, last):
    layer = FEW if name == FEW.name else shipped()[name]
    assert auto(replace(layer.plan(), channels_last=last)).kernel.name == MEASURED[name, last]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_what_is_taken_costs_least_of_what_can_be(last, dtype):
    for layer in (*shipped().values(), FEW):
        plan = simplify(replace(layer.plan(dtype), channels_last=last)).plan
        compared = [kernel for kernel in choose.GATHER if kernel.takes is choose._compares]
        costs = [kernel.cost(plan) for kernel in compared]
        assert min(costs) > 0
        if choose.choose_gather(plan).kernel in compared:
            assert choose.choose_gather(plan).kernel.cost(plan) == min(costs) < math.inf
