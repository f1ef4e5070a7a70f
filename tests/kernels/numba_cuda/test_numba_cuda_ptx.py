"""Every Numba-CUDA kernel compiled for every architecture: atomics only where they belong, registers, memory."""

from __future__ import annotations

import itertools
import re
import sys

import pytest
from ptx_checks import COMPUTE_CAPABILITIES, ENDS, MOST_REGISTERS, MOST_SHARED, compile_all
from selection import one_of

if sys.platform == "darwin":
    pytest.skip("there is no numba-cuda for macOS", allow_module_level=True)

from gpu_transconv.kernels.numba_cuda import choose
from gpu_transconv.kernels.numba_cuda.compiled import KERNELS, parameters
from gpu_transconv.kernels.numba_cuda.cuda import Device, signature
from gpu_transconv.kernels.numba_cuda.traits import Tile, Traits
from gpu_transconv.problem.arguments import ACTIVATIONS
from gpu_transconv.problem.dtypes import DTYPES

#: The least that every device has.
SMALLEST = Device(number=0, multiprocessors=1, threads_per_block=1024, shared_bytes=MOST_SHARED, blocks=2**31 - 1)
DTYPE_NAMES = ("float16", "float32", "float64")
WEIGHT_KERNELS = ("weight_gather", "weight_parts", "weight_owned", "weight_atomic")


def traits_of(name: str, dtype: str, index: str, **more) -> list[Traits]:
    """The traits that the launcher compiles a kernel with, apart from layout, bias and activation."""
    accumulate = DTYPES[dtype][1]
    item = DTYPES[accumulate][0]
    tiles: tuple[Tile | None, ...] = {
        "gather_tiled": choose._TILES[item],
        "scatter_atomic": choose._STAMP_TILES,
        "scatter_owned": choose._STAMP_TILES[-1:],
        **dict.fromkeys(WEIGHT_KERNELS, choose._STAMP_TILES),
    }.get(name, (None,))
    sizes = {"channels": choose._DIRECT_CHANNELS, "owned": choose.owned_elements(item, SMALLEST)}
    return [Traits(dtype, accumulate, index, tile=tile, **sizes, **more) for tile in tiles]


def compiled(name: str, traits: Traits, folder, capabilities=ENDS):
    """A kernel for some compute capabilities."""
    types = signature(*parameters(name, traits))
    return compile_all(lambda: KERNELS[name].make(traits), types, capabilities, folder, name, repr(traits))


def check(name: str, traits: Traits, folder, record_property, capabilities=ENDS) -> None:
    threads = traits.tile.threads if traits.tile else choose._THREADS
    registers, shared = [], 0
    for capability, found in compiled(name, traits, folder, capabilities):
        where = f"{name}, {traits}, compute capability {capability}"
        assert found.is_atomic == name.endswith("_atomic"), where
        assert ".local" not in found.ptx, where
        assert found.stack == found.spilled == 0, where
        assert traits.accumulate == "float64" or not in_double(found.ptx), where
        assert 0 < found.registers * threads <= MOST_REGISTERS, where
        assert found.shared <= MOST_SHARED, where
        registers.append(found.registers)
        shared = max(shared, found.shared)
    label = f"{name} {traits.dtype} {traits.index} {traits.tile or ''}".rstrip()
    used = "/".join(map(str, registers)) + ("" if capabilities == COMPUTE_CAPABILITIES else " (first and last)")
    record_property("cuda_budget", f"{label}: {threads} threads, registers {used}, shared memory {shared} bytes")


#: For float32 on every architecture, for the others on the first and the last. float16 is summed in float32 too, and
#: needs no more registers than that; of the tiles the largest needs the most.
TYPES = [(dtype, "int32") for dtype in DTYPE_NAMES] + [("float32", "int64"), ("float64", "int64")]


@pytest.mark.parametrize(("name", "dtype", "index"), one_of(4, ((name, *kind) for name in KERNELS for kind in TYPES)))
def test_every_architecture(name, dtype, index, tmp_path, record_property):
    tiles = traits_of(name, dtype, index, has_bias=True)
    every = (dtype, index) == ("float32", "int32")
    for traits in tiles if index == "int32" and dtype != "float16" else tiles[:1]:
        check(name, traits, tmp_path, record_property, COMPUTE_CAPABILITIES if every else ENDS)


@pytest.mark.parametrize("name", ["gather_tiled", "scatter_owned", "weight_parts", "weight_owned"])
def test_channels_last(name, tmp_path, record_property):
    for traits in traits_of(name, "float32", "int32", channels_last=True, activation="relu"):
        check(name, traits, tmp_path, record_property)


def in_double(ptx: str) -> set[str]:
    """Instructions on float64, apart from those that take in the slope, a float64 for all kernels."""
    return set(re.findall(r"\b(\w+(?:\.\w+)*)\.f64\b", ptx)) - {"ld.param", "cvt.rn.f32", ".reg", "mov"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_stay_in_the_precision_of_the_sums(activation, tmp_path):
    (traits,) = traits_of("gather_direct", "float32", "int32", activation=activation)
    for _, found in compiled("gather_direct", traits, tmp_path):
        assert in_double(found.ptx) == set()
        assert found.spilled == 0


def test_every_size_of_the_launcher_is_compiled():
    compiled = {
        traits.tile for name, d in itertools.product(KERNELS, DTYPE_NAMES) for traits in traits_of(name, d, "int32")
    }
    tiles = [tile for tiles in choose._TILES.values() for tile in tiles] + list(choose._STAMP_TILES)
    assert set(tiles) | {None} == compiled
