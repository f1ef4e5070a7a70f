"""How many instructions of sm_90 a product and an output cost: nothing else is known of the kernels' speed here."""

from __future__ import annotations

import os
from collections import Counter
from importlib.util import find_spec

import pytest
from cubin_checks import Kernel, tile_kernel

from gpu_transconv.kernels.cupy.tile_shapes import MMA_SHAPES, Tile

_MISSING = find_spec("nvidia") is None
pytestmark = pytest.mark.skipif(
    _MISSING and not os.environ.get("CI"), reason="pip install cuda-bindings nvidia-cuda-nvrtc nvidia-cuda-nvdisasm"
)
if not _MISSING:
    from sass import disassemble, name_of

LARGE, TALL = MMA_SHAPES[:2]
#: Tiles of matrix instructions, and the most instructions of the loop with 32 of them.
LOOPS = {
    "half-planes": (Tile(LARGE, "float16", "PLANES"), 330),
    "half-planes-16": (Tile(LARGE, "float16", "PLANES_16"), 230),
    "half-pixels-16": (Tile(LARGE, "float16", "PIXELS_16"), 250),
    "bfloat16-planes": (Tile(LARGE, "bfloat16", "PLANES"), 330),
}


def counted(loop, prefix):
    return sum(number for name, number in loop.items() if name.startswith(prefix))


def code_of(tile):
    return disassemble(tile_kernel("gather_tile", tile), "sm_90")


@pytest.mark.parametrize("which", LOOPS)
def test_products(which):
    tile, most = LOOPS[which]
    (loop,) = (loop for loop in code_of(tile).loops() if counted(loop, "HMMA"))
    assert counted(loop, "HMMA") == 32
    assert loop.total() <= most


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", MMA_SHAPES, ids=str)
def test_channels_first_stores(shape, dtype):
    """Runs of units and pixels, by all three ways in which four results can be one: of one, two and four units."""
    code = code_of(Tile(shape, dtype, "PLANES"))
    assert not any(name_of(text) in ("LDL", "STL") for text in code.instructions)
    loops = [loop for loop in code.loops() if loop["STG.E.64"] == 1 and not loop["LDS.128"] > 1]
    assert len(loops) >= 3
    for loop in loops:
        assert loop.total() <= 12 * 4
        assert counted(loop, "LDS") <= 2 * 4
    single, by_place = sorted((loop for loop in code.loops() if loop["STG.E.U16"] == 4), key=Counter.total)
    assert single.total() <= 12 * 4  # where some are cut off too
    assert counted(single, "LDS") <= 2 * 4 + 2
    assert by_place.total() <= 22 * 4  # cut off, and more than 31 units


@pytest.mark.parametrize("element", ["float", "gtc::half", "gtc::bfloat16"])
def test_depthwise(element):
    """Kernel 4, stride 2, two axes: a thread's four rows of eight outputs, four products each."""
    code = disassemble(Kernel("gather_rows.cuh", f"gtc::gather_rows<{element},2,1,int>", 128), "sm_90")
    outputs = 4 * 8
    assert code.shortest(products=4 * outputs, stores=outputs // 4) <= 40 * outputs
    assert all(not counted(loop, "MUFU") for loop in code.loops())  # no division where the products are


@pytest.mark.parametrize("element", ["float", "gtc::half", "gtc::bfloat16"])
def test_few_channels(element):
    """One tap of one input channel: a thread's four rows of four pixels of four channels, which are stored together."""
    code = disassemble(Kernel("gather_direct.cuh", f"gtc::gather_direct<{element},4,4,int>", 128), "sm_90")
    outputs = 4 * 4 * 4
    assert code.shortest(products=outputs, stores=outputs // 4) <= 22 * outputs
    assert all(not counted(loop, "MUFU") for loop in code.loops())


@pytest.mark.parametrize("element", ["float", "gtc::half", "gtc::bfloat16"])
def test_depthwise_channels_last(element):
    """The same of four rows of four outputs of four channels, which are stored together."""
    code = disassemble(Kernel("gather_rows.cuh", f"gtc::gather_rows<{element},2,4,int>", 128), "sm_90")
    outputs = 4 * 4 * 4
    assert code.shortest(products=4 * outputs, stores=outputs // 4) <= 40 * outputs
    assert all(not counted(loop, "MUFU") for loop in code.loops())
