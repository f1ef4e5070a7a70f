"""Every CUDA C++ kernel compiles for every architecture, spills nothing, and has the instructions it promises."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec

import pytest
from cases import CASES, CORE, DATA_FORMATS, FLOATS, named
from cubin_checks import (
    ARCHITECTURES,
    CUPY_OPTIONS,
    SOURCE_PHASE_BYTES,
    Kernel,
    compile_kernel,
    every_tile,
    matrix,
    nvrtc,
    tile_kernel,
)
from selection import one_of

import gpu_transconv as gtc
from gpu_transconv.kernels.cupy import choose, geometry, tile_shapes
from gpu_transconv.kernels.cupy.compile import read_source
from gpu_transconv.kernels.cupy.input_grad import source_phase_bytes
from gpu_transconv.kernels.cupy.launch_plan import (
    Bytes,
    gather_launches,
    scatter_atomic_launches,
    scatter_owned_launches,
)
from gpu_transconv.kernels.cupy.owned_boxes import cut_output
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.problem.product import by_phase, stamps

_MISSING = [name for name in ("cuda.bindings", "nvidia") if find_spec(name.partition(".")[0]) is None]
# Where tests are a gate, a compiler that is missing is a failure.
requires_nvrtc = pytest.mark.skipif(
    bool(_MISSING) and not os.environ.get("CI"), reason="pip install cuda-bindings nvidia-cuda-nvrtc"
)
LARGE_HALF = tile_kernel("gather_tile", tile_shapes.Tile(tile_shapes.MMA_SHAPES[0], "float16", "PIXELS_16"))
LARGE_TF32 = tile_kernel("gather_tile", tile_shapes.Tile(tile_shapes.MMA_SHAPES[0], "float32", "PLANES"))
LARGE_SIMT = tile_kernel("gather_tile", tile_shapes.Tile(tile_shapes.SIMT_SHAPES[4][0], "float32", "PLANES_16"))
ATOMIC = tile_kernel("scatter_atomic", tile_shapes.Tile(tile_shapes.SIMT_SHAPES[4][1], "float32", "PIXELS"))
OWNED = tile_kernel("scatter_owned", tile_shapes.Tile(tile_shapes.SIMT_SHAPES[4][1], "float32", "PLANES"))
DIRECT = Kernel("gather_direct.cuh", "gtc::gather_direct<float,4,4,int>")


@requires_nvrtc
@pytest.mark.parametrize(
    ("architecture", "kernel"),
    one_of(3, [pytest.param(a, kernel, id=f"{a}-{kernel.id}") for a in ARCHITECTURES for kernel in matrix(a)]),
)
def test_compiles_without_spills(architecture, kernel):
    compiled = compile_kernel(kernel, architecture)
    needs = compiled.resources
    assert compiled.cubin[:4] == b"\x7fELF"
    assert needs.registers
    assert needs.spilled == 0
    assert needs.occupancy(kernel, architecture) > 0


def ptx(kernel, architecture):
    return compile_kernel(kernel, architecture).ptx


#: Kernel, architecture, instructions that it has, and those that it must not have.
PROMISES = {
    "half": (LARGE_HALF, "sm_80", ["mma.sync.aligned.m16n8k16", "ldmatrix", "cp.async.cg"], ["atom.", "red."]),
    "tf32": (LARGE_TF32, "sm_80", ["mma.sync.aligned.m16n8k8", ".tf32", "cp.async.ca"], ["atom.", "red."]),
    "simt": (LARGE_SIMT, "sm_86", ["ld.shared.v4.f32", "cp.async.cg", "fma.rn.ftz.f32"], ["atom.", "red.", "mma."]),
    "before-async-copies": (LARGE_SIMT, "sm_75", ["ld.global.v4", "st.shared.v4"], ["cp.async", "mma."]),
    "vector-reduction": (ATOMIC, "sm_90", ["red.global.add.v4.f32", "atom.*add.f32|red.*add.f32"], []),
    "scalar-reduction": (ATOMIC, "sm_80", ["atom.*add.f32|red.*add.f32"], [".v4.f32 ["]),
    "owned": (OWNED, "sm_90", ["cp.async"], ["atom.", "red."]),
    "direct": (DIRECT, "sm_90", ["fma.rn.ftz.f32"], ["atom.", "red.", "mma."]),
}


@requires_nvrtc
@pytest.mark.parametrize("promise", PROMISES)
def test_instructions(promise):
    kernel, architecture, present, absent = PROMISES[promise]
    text = ptx(kernel, architecture)
    words = [line.strip() for line in text.splitlines()]
    for pattern in present:
        expression = "|".join(re.escape(p).replace(r"\*", ".*") for p in pattern.split("|"))
        assert re.search(expression, text), f"no {pattern}"
    for prefix in absent:
        found = [line for line in words if re.match(rf"(@%p\d+ )?{re.escape(prefix)}", line)]
        assert not found, found[:3]


def plan_of(case, data_format="channels_first", dtype="float32", precision="highest"):
    defaults = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    keywords = {**defaults, "output_size": None, "activation": None, **case.keywords}
    params = make_params(case.ndim, **keywords, data_format=data_format)
    last = data_format == "channels_last"
    x = (*case.x[: -1 - case.ndim], *case.x[-case.ndim :], case.x[-1 - case.ndim]) if last else case.x
    return make_plan(params, x, case.weight, dtype, case.bias, precision)


@requires_nvrtc
def test_sizes_agree_with_the_sources():
    """What Python says about structs and shared memory is what the compiler says."""
    plan = plan_of(named("2d-plain"))
    size = len(geometry.geometry_bytes(geometry.pack_product(by_phase(plan))))
    boxes = scatter_owned_launches(plan, DeviceProperties()).launch[0].arguments[1]
    assert isinstance(boxes, Bytes)
    lines = [
        f"static_assert(sizeof(gtc::Geometry<int>) == {size}, __FILE__);",
        f"static_assert(sizeof(gtc::OwnedBoxes<int>) == {len(boxes.value)}, __FILE__);",
    ]
    assert source_phase_bytes(geometry.pack_product(by_phase(plan))) == SOURCE_PHASE_BYTES
    lines.append(f"static_assert((sizeof(gtc::SourcePhase<int>) + 15) / 16 * 16 == {SOURCE_PHASE_BYTES}, __FILE__);")
    for tile in every_tile():
        for index, item in (("int", 4), ("long long", 8)):
            call = f"gtc::shared_bytes<{tile.name},{index}>()"
            lines.append(f"static_assert({call} == {tile.shared(item)}, __FILE__);")
            call = f"gtc::panel_bytes<{tile.name},{index}>()"
            lines.append(f"static_assert({call} == {tile.panel_shared(item)}, __FILE__);")
    panels = [line for line in lines if "panel_bytes" in line]
    for name, about in (("input_grad_scatter.cuh", [x for x in lines if x not in panels]), ("weight_grad.cuh", panels)):
        nvrtc(read_source(name) + "\n".join(about), ("-std=c++17", *CUPY_OPTIONS), "sm_90")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (9, 0)])
@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("dtype", [*FLOATS, "tf32", "complex64", "complex128"])
def test_launches_fit_the_device(capability, data_format, dtype):
    """Shared memory, grids and scratch memory of every case are within what a device has."""
    shared = {(7, 5): 64, (8, 0): 163, (8, 6): 99, (9, 0): 227}[capability] << 10
    device = DeviceProperties(capability, 40, shared)
    for case in CASES if dtype == "float32" else CORE:
        if not case.takes(dtype.replace("tf32", "float32")):
            continue
        precision = "tf32" if dtype == "tf32" else "highest"
        plan = plan_of(case, data_format, dtype.replace("tf32", "float32"), precision)
        for make in (gather_launches, scatter_atomic_launches, scatter_owned_launches):
            planned = make(plan, device)
            for launch in planned.pack + planned.launch:
                assert launch.shared <= shared, (case.name, launch)
                assert 0 < launch.grid[0] < 2**31, (case.name, launch)
                assert max(launch.grid[1:]) < 2**16, (case.name, launch)
                assert launch.block[0] % 32 == 0, (case.name, launch)
                assert launch.block[0] <= 1024, (case.name, launch)
                if capability < (8, 0):
                    assert "Mma" not in launch.kernel
            assert bool(planned.launch) == bool(plan.batch)


def test_weights_are_shared_between_inputs_of_all_sizes():
    """What packs weights depends on the input only through the layout's name."""
    device = DeviceProperties()
    by_layout = {}
    for batch in (1, 4, 64):
        for size in (2, 7, 40, 200):
            params = make_params(
                2, stride=2, padding=1, output_padding=0, output_size=None, groups=1, dilation=1,
                activation=None, data_format="channels_first",
            )  # fmt: skip
            plan = make_plan(params, (batch, 512, size, size), (512, 256, 4, 4), "float32", False)
            for make in (gather_launches, scatter_atomic_launches, scatter_owned_launches):
                planned = make(plan, device)
                packed = [buffer for buffer in planned.buffers if buffer.name == "packed"]
                assert by_layout.setdefault(planned.layout, packed) == packed
    assert len(by_layout) > 2


def test_choice_of_kernels():
    """The kernel that each kind of layer is meant for."""
    device = DeviceProperties()

    def kernel(x, weight, **keywords):
        given = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1} | keywords
        params = make_params(len(x) - 2, **given, output_size=None, activation=None, data_format="channels_first")
        plan = make_plan(params, x, weight, "float32", True)
        return choose.choose_gather(plan, device)

    unet = kernel((1, 1024, 32, 32), (1024, 512, 2, 2), stride=2)
    assert unet.packed.product.frame is not None
    assert unet.tile.input == "PLANES_16"
    assert kernel((32, 256, 32, 24), (256, 256, 4, 4), stride=2, padding=1).tile.shape.rows == 128
    assert isinstance(kernel((1, 64, 64, 64), (64, 1, 4, 4), stride=2, padding=1, groups=64), choose.DirectGather)
    spectrum = kernel((1, 2050, 400), (2050, 1, 4096), stride=1024)
    assert spectrum.packed.product.rows == 1024  # all phases of the one channel are rows of one product
    assert kernel((16, 512, 4, 4), (512, 256, 4, 4), stride=2, padding=1).parts > 1


def test_few_tiles_leave_a_large_device_idle():
    assert [choose.busy(tiles, 8) for tiles in (0, 2, 8, 12)] == [1, 2 / 8, 1, 12 / 16]
    packed = geometry.pack_product(by_phase(plan_of(named("2d-many-channels"))))
    one, many = (choose.fit_tiles(packed, tile_shapes.PIECE, DeviceProperties((7, 5), count)) for count in (1, 1000))
    assert many.cost > 10 * one.cost


def test_indices_fit_the_packed_weights():
    """Rows are packed in multiples of eight: one output channel takes the room of eight."""
    params = make_params(
        1, stride=1, padding=0, output_padding=0, output_size=None, groups=1, dilation=1, activation=None,
        data_format="channels_first",
    )  # fmt: skip

    def plan(taps, out_channels):
        return make_plan(params, (1, 1 << 10, 2), (1 << 10, out_channels, taps), "float16", False)

    assert geometry.index_type(plan(1 << 16, 8)) == "int"
    assert geometry.index_type(plan(1 << 17, 1)) == "long long"
    for taps, channels in ((1 << 16, 1), (1 << 17, 1), (1 << 16, 9)):
        for product in (by_phase(plan(taps, channels)), stamps(plan(taps, channels))):
            elements = geometry.pack_product(product).elements
            assert elements < 2**31 or geometry.index_type(product.plan) == "long long"


def test_owned_boxes_cover_the_output():
    for case in CASES:
        plan = plan_of(case)
        owned = cut_output(plan, DeviceProperties())
        for axis, size, count in zip(plan.axes, owned.outputs, owned.boxes, strict=True):
            assert size * (count - 1) < axis.output_size <= size * count
            assert count == 1 or size % axis.stride == 0 or axis.stride > size


def test_missing_driver_is_explained():
    status = gtc.backends()["cupy"]
    assert status.available or "install" in status.reason
