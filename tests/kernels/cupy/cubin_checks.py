"""Compile the CUDA C++ kernels to machine code without a driver, and read off what they need.

As a command it prints the table of resources: ``PYTHONPATH=tests python tests/kernels/cupy/cubin_checks.py sm_90``.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from support.kept import installed, kept

from gpu_transconv.kernels.cupy.compile import program_of
from gpu_transconv.kernels.cupy.tile_shapes import C_TYPES, MMA_SHAPES, SIMT_SHAPES, SUM_BYTES, Tile, TileShape
from gpu_transconv.problem.dtypes import DTYPES

#: What CuPy adds to the options of every module: `_compile_with_cache_cuda` and `_compile_using_nvrtc_no_warning` in
#: its compiler.py. The last of several -ftz holds, so float32 subnormals are flushed whatever the package asks for.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


class Multiprocessor(NamedTuple):
    """Limits of one multiprocessor, from the CUDA programming guide's table of compute capabilities."""

    threads: int
    shared: int
    blocks: int


_MULTIPROCESSORS = {
    "sm_75": Multiprocessor(1024, 64 << 10, 16),
    "sm_80": Multiprocessor(2048, 164 << 10, 32),
    "sm_86": Multiprocessor(1536, 100 << 10, 16),
    "sm_89": Multiprocessor(1536, 100 << 10, 24),
    "sm_90": Multiprocessor(2048, 228 << 10, 32),
    "sm_100": Multiprocessor(2048, 228 << 10, 32),
    "sm_120": Multiprocessor(1536, 100 << 10, 32),
}
_REGISTERS = 64 << 10
#: Bytes of SourcePhase of source_phase.cuh with 32-bit indices, which test_cubin.py holds against the source.
SOURCE_PHASE_BYTES = 336
_RESERVED_SHARED = 1 << 10


@dataclass(frozen=True)
class Kernel:
    """One instantiation: where it is, its threads and dynamic shared memory, and whether time is spent in it."""

    source: str
    name: str
    threads: int = 256
    shared: int = 0
    hot: bool = False

    @property
    def id(self) -> str:
        return self.name.replace("gtc::", "").replace("Tile", "").replace(" ", "")


@dataclass(frozen=True)
class Resources:
    registers: int
    stack: int
    spilled: int
    seconds: float

    def occupancy(self, kernel: Kernel, architecture: str) -> float:
        """Fraction of a multiprocessor's threads that can be resident."""
        limits = _MULTIPROCESSORS[architecture]
        per_warp = -(-self.registers * 32 // 256) * 256
        warps = kernel.threads // 32
        blocks = min(
            limits.blocks,
            limits.threads // kernel.threads,
            _REGISTERS // (per_warp * warps),
            limits.shared // (kernel.shared + _RESERVED_SHARED),
        )
        return blocks * kernel.threads / limits.threads


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of a kernel."""

    resources: Resources
    cubin: bytes
    ptx: str
    log: str


def compile_kernel(kernel: Kernel, architecture: str) -> Compiled:
    """Compile for an architecture, or find what an earlier run has kept; the registers are those of ptxas."""
    program = program_of(kernel.source, kernel.name)
    options = (*program.options, *CUPY_OPTIONS, "--ptxas-options=-v")

    def compiled() -> tuple[tuple[bytes, str, str], float]:
        begun = time.perf_counter()
        return nvrtc(program.source, options, architecture, kernel.name), time.perf_counter() - begun

    key = (
        "nvrtc",
        installed("nvidia-cuda-nvrtc", "cuda-bindings"),
        program.source,
        *options,
        architecture,
        kernel.name,
    )
    (cubin, text, log), seconds = kept(compiled, *key)
    entry = log.partition("Compiling entry function")[2]
    resources = Resources(
        _first(r"Used (\d+) registers", entry),
        _first(r"(\d+) bytes stack frame", entry),
        _first(r"(\d+) bytes spill stores", entry),
        seconds,
    )
    return Compiled(resources, cubin, text, log)


def nvrtc(source: str, options: tuple[str, ...], architecture: str, *names: str) -> tuple[bytes, str, str]:
    """Machine code, PTX and log of a source, without a driver."""
    from cuda.bindings import nvrtc as api

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        error, *values = function(*arguments)
        if error != api.nvrtcResult.NVRTC_SUCCESS:
            raise AssertionError(f"{function.__name__}: {error}\n{read(api.nvrtcGetProgramLog)}")
        return values[0] if values else None

    def read(get: Callable[..., Any]) -> str:
        size = getattr(api, f"{get.__name__}Size")(program)[1]
        text = b" " * (size + 1)  # never the one space that all of Python shares: it is written to
        get(program, text)
        return text[:size].rstrip(b"\0").decode()

    program = call(api.nvrtcCreateProgram, source.encode(), b"kernel.cu", 0, [], [])
    for name in names:
        call(api.nvrtcAddNameExpression, program, name.encode())
    given = [option.encode() for option in (*options, f"-arch={architecture}")]
    call(api.nvrtcCompileProgram, program, len(given), given)
    cubin = b" " * call(api.nvrtcGetCUBINSize, program)
    call(api.nvrtcGetCUBIN, program, cubin)
    found = cubin, read(api.nvrtcGetPTX), read(api.nvrtcGetProgramLog)
    call(api.nvrtcDestroyProgram, program)
    return found


def _first(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def tile_kernel(kernel: str, tile: Tile, index: str = "int", hot: bool = True) -> Kernel:
    source = {"gather_add_parts": "gather.cuh", "gather_tile": "gather.cuh", "scatter_owned": "scatter_owned.cuh"}
    shared = tile.shared(4 if index == "int" else 8)
    exclusive = ",false" if kernel == "scatter_atomic" else ""
    name = f"gtc::{kernel}<{tile.name}{exclusive},{index}>"
    return Kernel(source.get(kernel, "scatter.cuh"), name, tile.shape.threads, shared, hot)


def _tiles(shapes: tuple[TileShape, ...], dtypes: tuple[str, ...], inputs: tuple[str, ...]) -> Iterator[Tile]:
    for dtype in dtypes:
        for shape in shapes:
            for read in inputs:
                yield Tile(shape, dtype, read)


@lru_cache(maxsize=1)
def every_tile() -> tuple[Tile, ...]:
    """The tiles that the launcher uses, each dtype and shape with the common ways to read x."""
    pixels = ("PLANES", "PIXELS_16")
    large = SIMT_SHAPES[4][0]
    return (
        *_tiles(MMA_SHAPES, ("float16", "float32"), pixels),
        *_tiles(MMA_SHAPES[:2], ("bfloat16",), pixels),
        *_tiles(MMA_SHAPES[:1], ("float16",), ("PIXELS", "PLANES_16")),
        *_tiles(MMA_SHAPES[:1], ("float32",), ("PIXELS", "PLANES_16")),
        *_tiles(SIMT_SHAPES[4], ("float32",), ("PLANES", "PLANES_16")),
        *(t for t in _tiles(SIMT_SHAPES[4], ("float32", "bfloat16"), pixels) if t.shape is not large),
        *_tiles(SIMT_SHAPES[8], ("float64", "complex64"), ("PLANES", "PIXELS_16")),
        *_tiles(SIMT_SHAPES[16], ("complex128",), ("PLANES", "PIXELS")),
    )


def gradient_tiles(tiles: Iterable[Tile]) -> Iterator[Kernel]:
    """The kernels of the gradients that are made of tiles."""
    for tile in tiles:
        shared = tile.shared(4) + SOURCE_PHASE_BYTES
        for kernel in ("input_grad_atomic", "input_grad_owned"):
            yield Kernel("input_grad_scatter.cuh", f"gtc::{kernel}<{tile.name},int>", tile.shape.threads, shared)
        plain, read = replace(tile, input="PLANES"), f"gtc::{tile.input}"
        shared = plain.panel_shared(4)
        for kernel in (f"weight_grad_tile<{plain.name},{read},", f"weight_grad_scatter<{plain.name},{read},true,"):
            yield Kernel("weight_grad.cuh", f"gtc::{kernel}int>", tile.shape.threads, shared, "_tile" in kernel)


def gradient_others(dtypes: Iterable[str] = C_TYPES) -> Iterator[Kernel]:
    """The kernels of the gradients that are no tiles."""
    for dtype in dtypes:
        name, sums = C_TYPES[dtype], SUM_BYTES.get(dtype, DTYPES[dtype].size)
        yield Kernel("pack.cuh", f"gtc::pack_tap_stamps<{name},false,int>")
        yield Kernel("weight_grad.cuh", f"gtc::weight_grad_add_parts<{name},int>")
        shared = 16 * 128 * sums
        yield Kernel("weight_grad_direct.cuh", f"gtc::weight_grad_direct<{name},4,4,int>", 128, shared, hot=True)


def others() -> Iterator[Kernel]:
    """The kernels that are no tiles, for every element type."""
    for dtype in ("gtc::half", "gtc::bfloat16", "float", "double", "gtc::complex<float>", "gtc::complex<double>"):
        yield Kernel("scatter.cuh", f"gtc::scatter_begin<{dtype},int>")
        yield Kernel("scatter.cuh", f"gtc::scatter_finish<{dtype},int>")
        yield Kernel("pack.cuh", f"gtc::pack_weight<{dtype},false,int>")
        yield Kernel("gather_direct.cuh", f"gtc::gather_direct<{dtype},4,4,int>", 128, hot=True)
        yield Kernel("gather_rows.cuh", f"gtc::gather_rows<{dtype},2,1,int>", 128, hot=True)
    for dtype, lanes in (("gtc::half", 4), ("float", 4), ("double", 2), ("gtc::complex<float>", 2)):
        yield Kernel("gather_rows.cuh", f"gtc::gather_rows<{dtype},2,{lanes},int>", 128, hot=True)
    yield Kernel("gather_rows.cuh", "gtc::gather_rows<float,4,1,long long>", 128)
    for channels, pixels in ((1, 4), (2, 4), (1, 1)):
        yield Kernel("gather_direct.cuh", f"gtc::gather_direct<float,{channels},{pixels},int>", 128, hot=True)


def full() -> Iterator[Kernel]:
    """Every instantiation, for the architecture that is looked at most closely."""
    reads = ("PLANES", "PIXELS_16")
    for tile in dict.fromkeys(every_tile()):
        yield tile_kernel("gather_tile", tile)
    yield from others()
    yield from representative(tensor=True)
    for tile in (Tile(MMA_SHAPES[2], "float16", "PIXELS_16"), Tile(SIMT_SHAPES[4][2], "float32", "PLANES")):
        for kernel in ("gather_tile", "gather_add_parts", "scatter_atomic", "scatter_owned"):
            yield tile_kernel(kernel, tile, "long long", hot=False)
    yield from gradient_tiles(Tile(MMA_SHAPES[0], dtype, read) for dtype in ("float16", "float32") for read in reads)
    yield from gradient_tiles((Tile(MMA_SHAPES[1], "float32", "PLANES"), Tile(MMA_SHAPES[3], "bfloat16", "PLANES")))
    yield from gradient_tiles(Tile(SIMT_SHAPES[4][size], "float32", "PLANES") for size in (1, 2))
    yield from gradient_tiles(Tile(SIMT_SHAPES[4][1], "bfloat16", read) for read in reads)
    yield from gradient_tiles(
        (Tile(SIMT_SHAPES[8][0], "float64", "PLANES"), Tile(SIMT_SHAPES[8][0], "complex64", "PIXELS_16"))
    )
    yield from gradient_tiles((Tile(SIMT_SHAPES[16][0], "complex128", "PIXELS"),))
    yield from gradient_others()


def representative(tensor: bool, largest: int = 0) -> Iterator[Kernel]:
    """Each kernel and each kind of tile once, for every architecture; `largest` counts the SIMT tiles left out."""
    simt = Tile(SIMT_SHAPES[4][largest], "float32", "PLANES")
    tiles = [simt, Tile(SIMT_SHAPES[4][1], "float16", "PLANES"), Tile(SIMT_SHAPES[8][0], "float64", "PLANES")]
    if tensor:
        tiles += [Tile(MMA_SHAPES[0], dtype, "PIXELS_16") for dtype in ("float16", "bfloat16", "float32")]
    for tile in tiles:
        yield tile_kernel("gather_tile", tile)
    yield tile_kernel("gather_add_parts", simt, hot=False)
    yield tile_kernel("scatter_atomic", tiles[-1])
    yield tile_kernel("scatter_atomic", Tile(SIMT_SHAPES[4][1], "float32", "PLANES"))
    exclusive = tile_kernel("scatter_atomic", Tile(SIMT_SHAPES[4][1], "float32", "PIXELS_16"))
    yield replace(exclusive, name=exclusive.name.replace("false", "true"))
    yield tile_kernel("scatter_owned", Tile(SIMT_SHAPES[4][1], "float32", "PLANES"), hot=False)
    yield Kernel("gather_direct.cuh", "gtc::gather_direct<gtc::bfloat16,1,4,int>", 128, hot=True)
    yield Kernel("gather_rows.cuh", "gtc::gather_rows<gtc::half,4,1,int>", 128, hot=True)
    yield Kernel("pack.cuh", "gtc::pack_weight<float,true,int>")
    yield Kernel("scatter.cuh", "gtc::scatter_finish<gtc::bfloat16,int>")
    yield from gradient_tiles((tiles[-1],))
    yield from gradient_others(("bfloat16",))


def matrix(architecture: str) -> list[Kernel]:
    crowded = architecture in ("sm_75", "sm_100", "sm_120")  # as in choose.py
    kernels = full() if architecture == "sm_90" else representative(architecture != "sm_75", int(crowded))
    return list(dict.fromkeys(kernels))


def main(architectures: list[str]) -> None:
    """Print what every kernel needs."""
    for architecture in architectures or ARCHITECTURES:
        print(f"{architecture:66} registers stack spilled  shared occupancy seconds")
        for kernel in matrix(architecture):
            r = compile_kernel(kernel, architecture).resources
            occupancy = r.occupancy(kernel, architecture)
            print(
                f"{kernel.id:66} {r.registers:9} {r.stack:5} {r.spilled:7} {kernel.shared:7} "
                f"{occupancy:8.0%} {r.seconds:7.2f}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
