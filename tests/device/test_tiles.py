"""Every tile of the CUDA C++ kernels on the device, TF32 included; what a layer would choose is a few of them."""

from __future__ import annotations

import pytest
from cases import DATA_FORMATS
from checks import assert_close, expected, make_arrays
from device_checks import VARIANTS, run_launches
from tile_cases import EDGE_TABLE, EDGES, plan_of, product_of

from gpu_transconv.kernels.cupy.launch import device_properties
from gpu_transconv.kernels.cupy.tile_shapes import MMA_SHAPES, SIMT_SHAPES, DeviceProperties, MmaShape, SimtShape

#: What the host's table leaves out because it differs by the element's type alone: bfloat16 on every tile, and float64
#: on shapes that float32 has.
MORE = [(shape, "bfloat16") for shape in MMA_SHAPES[1:]]
MORE += [(SimtShape(32, 64, 4, 4), "float64"), (SIMT_SHAPES[4][3], "float64")]
GATHER_TABLE = EDGE_TABLE + [
    pytest.param(shape, dtype, "highest", DeviceProperties(), id=f"{shape.rows}x{shape.pixels}-9-{dtype}")
    for shape, dtype in MORE
]


def check(case, variant, dtype, precision, data_format, device, shape, edge):
    if isinstance(shape, MmaShape) and device_properties(0).capability < (8, 0):
        pytest.skip("the device lacks the matrix instructions")
    arrays = make_arrays(case, dtype, data_format)
    plan = plan_of(case, arrays, data_format, precision)
    choice = {"packed": product_of(edge, plan)} if variant == "gather" else {}
    got = run_launches(plan, VARIANTS[variant](plan, device, shape=shape, **choice), arrays)
    assert_close(got, expected(case, arrays, data_format), dtype, case.reduction, precision)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("shape", "dtype", "precision", "device"), GATHER_TABLE)
def test_edges_of_every_tile(shape, dtype, precision, device, edge, data_format):
    check(EDGES[edge], "gather", dtype, precision, data_format, device, shape, edge)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("shape", "dtype", "precision", "device"), EDGE_TABLE)
@pytest.mark.parametrize("variant", ["scatter_atomic", "scatter_owned"])
def test_edges_of_every_tile_that_scatters(variant, shape, dtype, precision, device, data_format):
    check(EDGES["merged"], variant, dtype, precision, data_format, device, shape, "merged")
