"""Problems that reach every edge of every tile of the CUDA C++ kernels, whatever a device would choose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import Case
from checks import Arrays

from gpu_transconv.kernels.cupy.geometry import PackedProduct, pack_product
from gpu_transconv.kernels.cupy.tile_shapes import MMA_SHAPES, SIMT_SHAPES, DeviceProperties
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import Plan, make_plan
from gpu_transconv.problem.product import by_phase, merged

#: More rows and pixels than the largest tile has, none of them a multiple of it: every edge of every tile.
EDGES = {
    "phases": Case("phases", (1, 19, 150), (19, 140, 3), bias=True, keywords={"stride": 2, "padding": 1}),
    "merged": Case("merged", (1, 19, 9, 17), (19, 35, 2, 2), bias=True, keywords={"stride": 2}),
    "merged by 16 bytes": Case("merged by 16 bytes", (1, 24, 9, 16), (24, 36, 2, 2), keywords={"stride": 2}),
}
#: No matrix instructions; so few multiprocessors that no reduction is split.
OLD = DeviceProperties(capability=(7, 5), multiprocessors=1)
EDGE_TABLE = [
    pytest.param(shape, dtype, precision, device, id=f"{shape.rows}x{shape.pixels}-{device.capability[0]}-{label}")
    for shapes, device, kinds in (
        (MMA_SHAPES, DeviceProperties(), (("float16", "highest"), ("float32", "tf32"))),
        (MMA_SHAPES[:1], DeviceProperties(), (("bfloat16", "highest"),)),
        (SIMT_SHAPES[4], DeviceProperties(), (("float32", "highest"),)),
        (SIMT_SHAPES[4][:1], OLD, (("float16", "highest"), ("bfloat16", "highest"))),
        (SIMT_SHAPES[8], DeviceProperties(), (("float64", "highest"),)),
        (SIMT_SHAPES[8][:1], DeviceProperties(), (("complex64", "highest"),)),
        (SIMT_SHAPES[16], DeviceProperties(), (("complex128", "highest"),)),
    )
    for shape in shapes
    for dtype, precision in kinds
    for label in [dtype if precision == "highest" else precision]
]


def plan_of(case: Case, arrays: Arrays, data_format: str, precision: str = "highest") -> Plan:
    """Make the plan of a case, as the public functions do."""
    params = make_params(case.ndim, **case.keywords, data_format=data_format)
    x, weight, bias = arrays
    return make_plan(params, x.shape, weight.shape, x.dtype.name, bias is not None, precision)


def product_of(edge: str, plan: Plan) -> PackedProduct:
    """The product that an edge is about."""
    product = by_phase(plan) if edge == "phases" else merged(plan)
    assert product is not None
    return pack_product(product)


def aligned(case: Case, data_format: str) -> Case:
    """The case with channels, or rows, that tensor copies can read."""
    at, groups = -1 - case.ndim, case.keywords.get("groups", 1)
    if data_format == "channels_last":
        channels = -(-case.x[at] // groups // 8) * 8 * groups
        return replace(case, x=(*case.x[:at], channels, *case.x[at + 1 :]), weight=(channels, *case.weight[1:]))
    width = max((64, 32, 16)[len(case.name) % 3], -(-case.x[-1] // 8) * 8)
    keywords = {name: value for name, value in case.keywords.items() if name != "output_size"}
    return replace(case, x=(*case.x[:-1], width), keywords=keywords)
