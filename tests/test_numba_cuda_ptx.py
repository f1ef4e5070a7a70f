"""Every Numba-CUDA kernel compiled for every architecture: atomics only where they belong, registers, memory."""

from __future__ import annotations

import itertools
import re
import sys

import pytest
from ptx_checks import COMPUTE_CAPABILITIES, ENDS, MOST_REGISTERS, MOST_SHARED, compile_all

if sys.platform == "darwin":
    pytest.skip("there is no numba-cuda for macOS", allow_module_level=True)

from gpu_transconv.kernels.numba_cuda import shapes
from gpu_transconv.kernels.numba_cuda.compiled import KERNELS, parameters
from gpu_transconv.kernels.numba_cuda.cuda import Device, signature
from gpu_transconv.kernels.numba_cuda.facts import Facts, Tile
from gpu_transconv.problem.arguments import ACTIVATIONS
from gpu_transconv.problem.dtypes import DTYPES

#: The least that every device has.
SMALLEST = Device(number=0, multiprocessors=1, threads_per_block=1024, shared_bytes=MOST_SHARED, blocks=2**31 - 1)
DTYPE_NAMES = ("float16", "float32", "float64")


def facts_of(name: str, dtype: str, index: str, **more) -> list[Facts]:
    """The facts that the launcher compiles a kernel with, apart from layout, bias and activation."""
    accumulate = DTYPES[dtype][1]
    item = DTYPES[accumulate][0]
    tiles: tuple[Tile | None, ...] = {
        "gather_tiled": shapes._TILES[item],
        "scatter_atomic": shapes._STAMP_TILES,
        "scatter_tiles": shapes._STAMP_TILES[-1:],
    }.get(name, (None,))
    sizes = {"channels": shapes._DIRECT_CHANNELS, "owned": shapes.owned_elements(item, SMALLEST)}
    return [Facts(dtype, accumulate, index, tile=tile, **sizes, **more) for tile in tiles]


def compiled(name: str, facts: Facts, folder, capabilities=ENDS):
    """A kernel for some compute capabilities."""
    types = signature(*parameters(name, facts))
    return compile_all(lambda: KERNELS[name].make(facts), types, capabilities, folder, name, repr(facts))


def check(name: str, facts: Facts, folder, record_property, capabilities=ENDS) -> None:
    threads = facts.tile.threads if facts.tile else shapes._THREADS
    registers, shared = [], 0
    for capability, found in compiled(name, facts, folder, capabilities):
        where = f"{name}, {facts}, compute capability {capability}"
        assert found.is_atomic == (name == "scatter_atomic"), where
        assert ".local" not in found.ptx, where
        assert found.stack == found.spilled == 0, where
        assert facts.accumulate == "float64" or not in_double(found.ptx), where
        assert 0 < found.registers * threads <= MOST_REGISTERS, where
        assert found.shared <= MOST_SHARED, where
        registers.append(found.registers)
        shared = max(shared, found.shared)
    label = f"{name} {facts.dtype} {facts.index} {facts.tile or ''}".rstrip()
    used = "/".join(map(str, registers)) + ("" if capabilities == COMPUTE_CAPABILITIES else " (first and last)")
    record_property("cuda_budget", f"{label}: {threads} threads, registers {used}, shared memory {shared} bytes")


#: For float32 on every architecture, for the others on the first and the last. float16 is summed in float32 too, and
#: needs no more registers than that; of the tiles the largest needs the most.
TYPES = [(dtype, "int32") for dtype in DTYPE_NAMES] + [("float32", "int64"), ("float64", "int64")]


@pytest.mark.parametrize(("dtype", "index"), TYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_every_architecture(name, dtype, index, tmp_path, record_property):
    tiles = facts_of(name, dtype, index, has_bias=True)
    every = (dtype, index) == ("float32", "int32")
    for facts in tiles if index == "int32" and dtype != "float16" else tiles[:1]:
        check(name, facts, tmp_path, record_property, COMPUTE_CAPABILITIES if every else ENDS)


@pytest.mark.parametrize("name", ["gather_tiled", "scatter_tiles"])
def test_channels_last(name, tmp_path, record_property):
    for facts in facts_of(name, "float32", "int32", channels_last=True, activation="relu"):
        check(name, facts, tmp_path, record_property)


def in_double(ptx: str) -> set[str]:
    """Instructions on float64, apart from those that take in the slope, a float64 for all kernels."""
    return set(re.findall(r"\b(\w+(?:\.\w+)*)\.f64\b", ptx)) - {"ld.param", "cvt.rn.f32", ".reg", "mov"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_stay_in_the_precision_of_the_sums(activation, tmp_path):
    (facts,) = facts_of("gather_direct", "float32", "int32", activation=activation)
    for _, found in compiled("gather_direct", facts, tmp_path):
        assert in_double(found.ptx) == set()
        assert found.spilled == 0


def test_every_size_of_the_launcher_is_compiled():
    compiled = {
        facts.tile for name, d in itertools.product(KERNELS, DTYPE_NAMES) for facts in facts_of(name, d, "int32")
    }
    tiles = [tile for tiles in shapes._TILES.values() for tile in tiles] + list(shapes._STAMP_TILES)
    assert set(tiles) | {None} == compiled
