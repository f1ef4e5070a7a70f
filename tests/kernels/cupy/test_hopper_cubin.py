"""The machine code of the kernel for Hopper: its instructions, its registers, and its tensor maps."""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cases import CASES, DATA_FORMATS, named
from cubin_checks import Kernel, compile_kernel, nvrtc
from selection import one_of
from support.kept import installed, kept
from test_cubin import plan_of, requires_nvrtc

from gpu_transconv.kernels.cupy.compile import ARCHITECTURES, read_source
from gpu_transconv.kernels.cupy.hopper import best_gather_launches, choose_hopper, geometry_bytes, hopper_launches
from gpu_transconv.kernels.cupy.hopper_driver import encode
from gpu_transconv.kernels.cupy.hopper_product import HopperProduct, cut_product
from gpu_transconv.kernels.cupy.launch_plan import HEADER, gather_launches
from gpu_transconv.kernels.cupy.tensor_map import TensorMap
from gpu_transconv.kernels.cupy.tile_shapes import DeviceProperties
from gpu_transconv.problem.gradients import as_operation
from gpu_transconv.tools.bench.layers import REAL_LAYERS, load_layers

HOPPER = DeviceProperties(has_warpgroups=True)
SOURCES = ("COPY_LAST", "COPY_FIRST", "LOAD_LAST", "LOAD_FIRST")
#: Results that one store of a layer with k = s = 2 has, and its instruction: of half types, and of float.
STORED = {"FIRST": (4, "STG.E.64", "STG.E.128"), "LAST": (2, "STG.E", "STG.E.64")}
KERNELS = [
    Kernel("hopper_gather.cuh", f"gtc::hopper_gather<{dtype},gtc::{source},{blocks}>", 384)
    for blocks in (4, 2)
    for dtype in ("gtc::half", "gtc::bfloat16", "float")
    for source in SOURCES
    if dtype != "float" or source.startswith("LOAD")
]
KERNELS += [
    Kernel("hopper_gather.cuh", f"gtc::hopper_gather<float,gtc::{source},2,2>", 384)
    for source in SOURCES
    if source.startswith("LOAD")
]
#: Those that are always looked at.
FIRST = [KERNELS[0], KERNELS[1], KERNELS[9], KERNELS[-1]]


def sass(kernel):
    """Instructions of a kernel, in their order, and what the compiler says."""
    compiled = compile_kernel(kernel, "sm_90a")

    def disassembled():
        import nvidia

        (program,) = (path for root in nvidia.__path__ for path in Path(root).glob("*/bin/nvdisasm*"))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.cubin"
            file.write_bytes(compiled.cubin)
            return subprocess.run([str(program), "-c", str(file)], capture_output=True, text=True, check=True).stdout

    text = kept(disassembled, "nvdisasm", installed("nvidia-cuda-nvdisasm"), compiled.cubin.hex())
    found = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", text)
    return found, compiled


@requires_nvrtc
@pytest.mark.parametrize("kernel", dict.fromkeys((*FIRST, *one_of(9, KERNELS))), ids=lambda kernel: kernel.id)
def test_machine_code(kernel):
    instructions, compiled = sass(kernel)
    names = {name.partition(".")[0] for name in instructions}
    assert {"HGMMA", "USETMAXREG", "UBLKCP"} <= names
    assert ("UTMALDG" in names) == ("COPY" in kernel.name)
    assert not names & {"HMMA", "LDL", "STL"}
    assert compiled.resources.registers <= 168
    assert compiled.resources.spilled == compiled.resources.stack == 0
    assert "C7508" not in compiled.log, "setmaxnreg is ignored"
    assert "C7510" not in compiled.log, "products are serialised"


@requires_nvrtc
@pytest.mark.parametrize("kernel", FIRST, ids=lambda kernel: kernel.id)
def test_instructions_of_a_stored_result(kernel):
    """Between the first and the last store of a layer with k = s = 2."""
    each, *names = STORED["LAST" if "LAST" in kernel.name else "FIRST"]
    name = names["<float" in kernel.name]
    instructions, _ = sass(kernel)
    stores = [i for i, instruction in enumerate(instructions) if instruction == name]
    assert len(stores) * each == (64 if ",2,2>" in kernel.name else 128), "the results of a thread"
    assert (stores[-1] - stores[0]) / (len(stores) - 1) / each <= 6


@requires_nvrtc
def test_sizes_agree_with_the_sources():
    cut = cut_product(plan_of(named("2d-plain"), dtype="float16"), HOPPER)
    lines = [
        f"static_assert(sizeof(gtc::HopperGeometry) == {len(geometry_bytes(cut))}, __FILE__);",
        f"static_assert(sizeof(gtc::PackedHeader) == {HEADER} && sizeof(gtc::Step) == 32, __FILE__);",
    ]
    for blocks in (4, 2):
        shared = replace(cut, tile_blocks=blocks).shared - 1024
        pipeline = f"gtc::HopperPipeline<gtc::half,gtc::COPY_LAST,{blocks}>"
        lines.append(f"static_assert(sizeof({pipeline}::Shared) == {shared}, __FILE__);")
    both = cut_product(plan_of(named("2d-plain"), dtype="float32"), HOPPER).shared - 1024
    pipeline = "gtc::HopperPipeline<float,gtc::LOAD_FIRST,2,2>"
    lines.append(f"static_assert(sizeof({pipeline}::Shared) == {both}, __FILE__);")
    nvrtc(read_source("hopper_gather.cuh") + "\n".join(lines), ("-std=c++17",), ARCHITECTURES["hopper_gather.cuh"])


def layers():
    return load_layers(REAL_LAYERS)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_maps_and_launches_are_what_a_driver_takes(data_format):
    """Of all real layers, of every case, and of their gradients."""
    plans = [layer.plan("float16") for layer in layers()] if data_format == "channels_first" else []
    plans += [plan_of(case, data_format, "float16") for case in CASES if case.takes("float16")]
    reads = set()
    plans += [as_operation(replace(plan, has_bias=False, activation=None), "input_grad") for plan in plans]
    for plan in plans:
        cut = cut_product(plan, HOPPER)
        if cut is None or not plan.batch:
            continue
        planned = hopper_launches(plan, HOPPER)
        for launch in (*planned.pack, *planned.launch):
            assert launch.shared <= HOPPER.shared_per_block
            assert 0 < launch.grid[0] < 2**31
            assert 0 < launch.grid[1] < 2**16
            for tensor in launch.arguments:
                if isinstance(tensor, TensorMap):
                    reads.add(cut.source)
                    assert tensor.fault is None
                    assert tensor.bytes * (128 >> cut.line if cut.source == "COPY_FIRST" else 1) == 128 * 128
    assert reads == {"COPY_FIRST" if data_format == "channels_first" else "COPY_LAST"}


def test_what_the_driver_would_refuse():
    good = TensorMap("x", 2, (64, 8, 8, 8, 1), (128, 1024, 8192, 65536), (64, 8, 8, 1, 1))
    assert good.fault is None
    for change in (
        {"sizes": (64, 8, 0, 8, 1)},
        {"strides": (120, 1024, 8192, 65536)},
        {"box": (64, 512, 1, 1, 1)},
        {"box": (128, 1, 1, 1, 1)},
        {"steps": (1, 9, 1, 1, 1)},
    ):
        assert replace(good, **change).fault


@pytest.mark.parametrize(("line", "item"), [(32, 2), (64, 2), (128, 2), (128, 4)])
def test_what_the_driver_is_asked_for(monkeypatch, line, item):
    driver = pytest.importorskip("cuda.bindings.driver")
    content, asked = ctypes.create_string_buffer(bytes(range(128)), 128), []

    def encoded(*arguments):
        asked.append(arguments)
        return driver.CUresult.CUDA_SUCCESS, SimpleNamespace(getPtr=lambda: ctypes.addressof(content))

    monkeypatch.setattr(driver, "cuTensorMapEncodeTiled", encoded)
    sizes, strides = (128 // item, 8, 8, 8, 1), (128, 1024, 8192, 65536)
    tensor = TensorMap("x", item, sizes, strides, (line // item, 8, 8, 1, 1))
    encode.cache_clear()
    assert encode(tensor, 4096).tobytes() == content.raw
    assert encode(tensor, 4096) is encode(tensor, 4096)
    ((dtype, rank, address, sizes, strides, box, steps, _, swizzle, *_),) = asked
    assert dtype.name == f"CU_TENSOR_MAP_DATA_TYPE_UINT{8 * item}"
    assert (rank, address) == (5, 4096)
    assert [list(map(int, numbers)) for numbers in (sizes, strides, box, steps)] == [
        list(numbers) for numbers in (tensor.sizes, tensor.strides, tensor.box, tensor.steps)
    ]
    assert swizzle.name == f"CU_TENSOR_MAP_SWIZZLE_{line}B"

    monkeypatch.setattr(driver, "cuTensorMapEncodeTiled", lambda *_: (driver.CUresult.CUDA_ERROR_INVALID_VALUE, None))
    with pytest.raises(RuntimeError, match=r"the driver refuses TensorMap.*0x2000: CUDA_ERROR_INVALID_VALUE"):
        encode(tensor, 8192)


def test_choice():
    """On capability 9.0 with what it needs, for layers of many channels; few, other dtypes and devices go elsewhere."""
    by_name = {layer.name: layer for layer in layers()}
    large = by_name["miopen3952"].plan("float16")
    cut = choose_hopper(large, HOPPER)
    assert isinstance(cut, HopperProduct)
    assert cut.tile_blocks == 4
    assert best_gather_launches(large, HOPPER).launch[0].kernel.startswith("gtc::hopper_gather<")
    assert best_gather_launches(large, DeviceProperties()) == gather_launches(large, DeviceProperties())
    single = by_name["miopen3952"].plan("float32")
    assert choose_hopper(single, HOPPER).images == 2
    assert choose_hopper(single, DeviceProperties()) is None
    assert choose_hopper(replace(single, precision="tf32"), HOPPER)
    assert choose_hopper(replace(single, precision="tf32"), DeviceProperties()) is None
    assert choose_hopper(by_name["istft_4096"].plan("float16"), HOPPER) is None, "one channel, a block of rows a phase"
