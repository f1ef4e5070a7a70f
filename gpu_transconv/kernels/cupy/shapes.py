"""The tiles that are compiled: their sizes, their C++ types, and what they need of a device."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the choice of kernels depends on; the defaults are an H100's."""

    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 132
    shared_per_block: int = 227 << 10  # with the attribute that allows more than 48 KiB


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a tile: SimtTile's rows, pixels and those of one thread, or TensorTile's, its warps and stages."""

    tensor: bool
    rows: int
    pixels: int
    down: int
    across: int
    stages: int = 2

    @property
    def threads(self) -> int:
        """Threads of a block."""
        if self.tensor:
            return 32 * self.down * self.across
        return (self.rows // self.down) * (self.pixels // self.across)

    @property
    def efficiency(self) -> float:
        """Fraction of the arithmetic's peak that the inner loop keeps up beside its reads of shared memory, cache."""
        if self.tensor:
            rows, pixels = self.rows // self.down, self.pixels // self.across
            return 1 / (1 + 24 / rows + 12 / pixels + 64 / self.rows + 64 / self.pixels)
        return 1 / (1 + 1 / self.down + 1 / self.across + 8 / self.rows + 8 / self.pixels)


TENSOR_SHAPES = (
    Shape(True, 128, 128, 2, 4, 4),
    Shape(True, 64, 128, 2, 2, 4),
    Shape(True, 64, 64, 2, 2, 4),
    Shape(True, 32, 128, 1, 4, 4),
    Shape(True, 32, 32, 1, 2, 4),
    Shape(True, 16, 128, 1, 4, 4),
)
SIMT_SHAPES = {
    4: (
        Shape(False, 128, 128, 8, 8),
        Shape(False, 64, 128, 8, 8),
        Shape(False, 64, 64, 4, 8),
        Shape(False, 32, 128, 4, 8),
        Shape(False, 32, 32, 4, 4),
        Shape(False, 16, 128, 4, 4),
    ),
    8: (Shape(False, 64, 64, 4, 4), Shape(False, 32, 32, 4, 4), Shape(False, 16, 64, 4, 4)),
    16: (Shape(False, 32, 32, 2, 4), Shape(False, 16, 64, 2, 4)),
}
#: Bytes of a sum where it is wider than the elements.
SUM_BYTES = {"float16": 4, "bfloat16": 4}


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's type: shape, element and how it reads x."""

    shape: Shape
    dtype: str
    input: str

    @property
    def name(self) -> str:
        """C++ type."""
        s, kind = self.shape, "TensorTile" if self.shape.tensor else "SimtTile"
        sizes = [s.rows, s.pixels, s.down, s.across, *([s.stages] if s.tensor else [])]
        return f"gtc::{kind}<{C_TYPES[self.dtype]},{','.join(map(str, sizes))},gtc::{self.input}>"

    @property
    def sum_bytes(self) -> int:
        """Bytes of one sum."""
        return SUM_BYTES.get(self.dtype, DTYPES[self.dtype].size)

    @property
    def depth(self) -> int:
        """Channels of one chunk of the reduction."""
        return 64 // DTYPES[self.dtype].size if self.shape.tensor else 8

    def shared(self, index_bytes: int) -> int:
        """Bytes of shared memory: `shared_bytes` of block.cuh."""
        s = self.shape
        if s.tensor:
            item = DTYPES[self.dtype].size
            by_pixel = self.input.startswith("PIXELS")
            inputs = s.pixels * (self.depth + 16 // item) if by_pixel else self.depth * (s.pixels + 8)
            stage, pitch = (self.depth * (s.rows + 8) + inputs) * item, s.rows + 4
        else:
            vector = max(1, 16 // self.sum_bytes)
            stage = self.depth * (s.rows + s.pixels + 2 * vector) * self.sum_bytes
            pitch = s.rows * vector // s.down + 1
        tables = _up(((s.rows + s.pixels) * 5 + 17) * index_bytes + 4) + _up(s.rows * self.sum_bytes)
        return tables + _up(max(pitch * (s.pixels + 1) * self.sum_bytes, s.stages * _up(stage)))


def _up(size: int) -> int:
    return -(-size // 16) * 16
