"""The tiles that are compiled: their sizes, their C++ types, and what they need of a device."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TypeAlias

from ...problem.dtypes import DTYPES

#: NumPy dtype -> C++ element type.
C_TYPES = {
    "float16": "gtc::half",
    "bfloat16": "gtc::bfloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "gtc::complex<float>",
    "complex128": "gtc::complex<double>",
}
#: Bytes of a sum where it is wider than the elements.
SUM_BYTES = {"float16": 4, "bfloat16": 4}

# What the inner loop takes beside its products, in products' time, so that tiles can be compared. A weight serves
# all pixels, and an input all rows, so its share of the time is a constant over their number. The constants are fitted
# by eye to counts of instructions, not measured: no device was at hand.
#: MmaShape: reads of pixel fragments, over the rows of a warp; of weight fragments, over its pixels.
_PIXEL_FRAGMENTS, _WEIGHT_FRAGMENTS = 24, 12
#: MmaShape: copies from global to shared memory, over the rows and over the pixels of the tile.
_MMA_COPIES = 64
#: SimtShape: reads of shared memory, over the rows and over the pixels of a thread.
_THREAD_READS = 1
#: SimtShape: copies from global to shared memory, over the rows and over the pixels of the tile.
_SIMT_COPIES = 8


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """What the choice of kernels depends on; the defaults are an H100's."""

    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 132
    shared_per_block: int = 227 << 10  # bytes, with the attribute that allows more than 48 KiB
    has_warpgroups: bool = False  # products of a warpgroup, and what compiles them and encodes tensor maps


@dataclass(frozen=True, slots=True)
class SimtShape:
    """SimtTile of tile_simt.cuh, whose numbers these are: results of a tile, and those in each thread's registers."""

    rows: int
    pixels: int
    thread_rows: int
    thread_pixels: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.rows // self.thread_rows) * (self.pixels // self.thread_pixels)

    @property
    def stages(self) -> int:
        """Chunks in shared memory at once: one is multiplied while the next arrives."""
        return 2

    @property
    def efficiency(self) -> float:
        """Estimated fraction of the arithmetic's peak that the inner loop keeps up."""
        busy = 1 + _THREAD_READS / self.thread_rows + _THREAD_READS / self.thread_pixels
        return 1 / (busy + _SIMT_COPIES / self.rows + _SIMT_COPIES / self.pixels)


@dataclass(frozen=True, slots=True)
class MmaShape:
    """MmaTile of tile_mma.cuh, whose numbers these are: results of a tile and of each warp, and its chunks at once."""

    rows: int
    pixels: int
    warp_rows: int
    warp_pixels: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.rows // self.warp_rows) * (self.pixels // self.warp_pixels)

    @property
    def efficiency(self) -> float:
        """Estimated fraction of the arithmetic's peak that the inner loop keeps up."""
        busy = 1 + _PIXEL_FRAGMENTS / self.warp_rows + _WEIGHT_FRAGMENTS / self.warp_pixels
        return 1 / (busy + _MMA_COPIES / self.rows + _MMA_COPIES / self.pixels)


TileShape: TypeAlias = SimtShape | MmaShape

# Few, so that a dozen kernels are all that a dtype and format needs: two more sizes between these would be the best for
# one of 60 real layers by the cost model, and within 1.17 of it for the others in float32, 1.39 in half types and TF32.
#: Tiles of matrix instructions, from the largest to the smallest.
MMA_SHAPES = (
    MmaShape(128, 128, 64, 32, 4),
    MmaShape(64, 128, 32, 64, 4),
    MmaShape(32, 32, 32, 16, 4),
    MmaShape(16, 128, 16, 32, 4),
)
#: Bytes of a sum -> tiles of ordinary multiply-adds, from the largest to the smallest.
SIMT_SHAPES = {
    4: (
        SimtShape(128, 128, 8, 8),
        SimtShape(64, 128, 8, 8),
        SimtShape(32, 32, 4, 4),
        SimtShape(16, 128, 4, 4),
    ),
    8: (SimtShape(64, 64, 4, 4), SimtShape(32, 32, 4, 4), SimtShape(16, 64, 4, 4)),
    16: (SimtShape(32, 32, 2, 4), SimtShape(16, 64, 2, 4)),
}
#: The piece of a tile that a block of gather_add_parts owns: a divisor of all tiles.
PIECE = SimtShape(16, 32, 4, 4)
#: Channels of one chunk of a SimtTile; bytes of them, of one pixel or row, of a MmaTile.
_SIMT_DEPTH, _MMA_DEPTH_BYTES = 8, 64


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's type: shape, element and how it reads x, an `Input` of loaders.cuh."""

    shape: TileShape
    dtype: str
    input: str

    @property
    def name(self) -> str:
        """C++ type."""
        s, kind = self.shape, "MmaTile" if isinstance(self.shape, MmaShape) else "SimtTile"
        sizes = ",".join(map(str, astuple(s)))
        return f"gtc::{kind}<{C_TYPES[self.dtype]},{sizes},gtc::{self.input}>"

    @property
    def sum_bytes(self) -> int:
        """Bytes of one sum."""
        return SUM_BYTES.get(self.dtype, DTYPES[self.dtype].size)

    @property
    def depth(self) -> int:
        """Channels of one chunk of the reduction."""
        return _MMA_DEPTH_BYTES // DTYPES[self.dtype].size if isinstance(self.shape, MmaShape) else _SIMT_DEPTH

    def shared(self, index_bytes: int) -> int:
        """Bytes of shared memory: `shared_bytes` of mainloop.cuh."""
        s = self.shape
        if isinstance(s, MmaShape):
            item = DTYPES[self.dtype].size
            by_pixel = self.input.startswith("PIXELS")
            inputs = s.pixels * (self.depth + 16 // item) if by_pixel else self.depth * (s.pixels + 8)
            stage, rows, pitch, plane_pitch = (
                (self.depth * (s.rows + 8) + inputs) * item,
                s.rows,
                s.rows + 4,
                s.pixels + 8,
            )
        else:
            vector = max(1, 16 // self.sum_bytes)
            stage = self.depth * (s.rows + s.pixels + 2 * vector) * self.sum_bytes
            rows = s.rows * vector // s.thread_rows
            pitch, plane_pitch = rows + 1, s.pixels + vector
        results = max(rows * plane_pitch, s.pixels * pitch) * self.sum_bytes
        work = _up(max(results, s.stages * _up(stage)))
        return self._storage(index_bytes) + work

    def _storage(self, index_bytes: int) -> int:
        """Bytes of SharedStorage: numbers and bits of every row and pixel, a phase's lines, a flag, the biases."""
        s = self.shape
        return _up((s.rows * 4 + s.pixels * 5 + 17) * index_bytes + (s.rows + s.pixels + 1) * 4) + _up(
            s.rows * self.sum_bytes
        )

    def panel_shared(self, index_bytes: int) -> int:
        """Bytes of shared memory where it sums over pixels: `panel_bytes` of weight_grad.cuh."""
        return self.shared(index_bytes) - self._storage(index_bytes) + _up(4 * self.shape.threads * index_bytes)


def _up(size: int) -> int:
    return -(-size // 16) * 16
