"""Which tile of the product, and whether a tile at all: pure functions of the plan and a few facts of the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from ...plan import DTYPES, Plan
from .geometry import View, index_type, merged_view, phase_view

#: NumPy dtype -> C++ element type.
C_TYPES = {
    "float16": "gtc::half",
    "bfloat16": "gtc::bfloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "gtc::complex<float>",
    "complex128": "gtc::complex<double>",
}
#: Parts into which a reduction is split at most.
_MOST_PARTS = 32
#: Chunks that a part has at least, so that its pipeline fills.
_LEAST_CHUNKS = 8
#: Threads that hide the direct kernel's reads on one multiprocessor.
_FULL_THREADS = 1024


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
_SUM_BYTES = {"float16": 4, "bfloat16": 4}


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
        return _SUM_BYTES.get(self.dtype, DTYPES[self.dtype][0])

    @property
    def depth(self) -> int:
        """Channels of one chunk of the reduction."""
        return 64 // DTYPES[self.dtype][0] if self.shape.tensor else 8

    def shared(self, index_bytes: int) -> int:
        """Bytes of shared memory: `shared_bytes` of block.cuh."""
        s = self.shape
        if s.tensor:
            item = DTYPES[self.dtype][0]
            by_pixel = self.input.startswith("PIXELS")
            inputs = s.pixels * (self.depth + 16 // item) if by_pixel else self.depth * (s.pixels + 8)
            stage, slab = (self.depth * (s.rows + 8) + inputs) * item, s.rows
        else:
            vector = max(1, 16 // self.sum_bytes)
            stage = self.depth * (s.rows + s.pixels + 2 * vector) * self.sum_bytes
            slab = s.rows * vector // s.down
        tables = _up(((s.rows + s.pixels) * 5 + 17) * index_bytes + 4) + _up(s.rows * self.sum_bytes)
        return tables + _up(max((slab + 1) * (s.pixels + 1) * self.sum_bytes, s.stages * _up(stage)))


@dataclass(frozen=True, slots=True)
class Product:
    """A view computed by tiles: how many of them, and into how many parts their reduction is split."""

    view: View
    tile: Tile
    row_tiles: int
    pixel_tiles: int
    parts: int
    cost: float  # multiply-adds at the arithmetic's peak that would take as long

    @property
    def tiles(self) -> int:
        """Blocks per part."""
        return self.view.phases * self.row_tiles * self.view.plan.groups * self.pixel_tiles


@dataclass(frozen=True, slots=True)
class Direct:
    """Direct gather: channels and pixels of one thread, and the number of threads that have work."""

    view: View
    channels: int
    pixels: int
    shares: int
    cost: float


def _up(size: int) -> int:
    return -(-size // 16) * 16


def uses_tensor_cores(plan: Plan, device: DeviceFacts) -> bool:
    """Whether products of `plan` run on matrix instructions."""
    return device.capability >= (8, 0) and (
        plan.dtype in ("float16", "bfloat16") or (plan.dtype == "float32" and plan.precision == "tf32")
    )


def shapes_for(plan: Plan, device: DeviceFacts) -> tuple[Shape, ...]:
    """Tiles that can compute `plan` on `device`."""
    if uses_tensor_cores(plan, device):
        return TENSOR_SHAPES
    shapes = SIMT_SHAPES[_SUM_BYTES.get(plan.dtype, DTYPES[plan.dtype][0])]
    # Beside the largest tile's sums a thread has too few registers for what it keeps in mind where the channels lie
    # together, and wherever the compiler needs more of them: it would spill.
    crowded = plan.channels_last or device.capability >= (10, 0)
    return tuple(shape for shape in shapes if not crowded or shape.rows * shape.pixels <= 64 * 128)


def input_of(view: View, tensor: bool) -> str:
    """How x can be read: 16 bytes at a time where pixels or channels lie together and aligned."""
    plan = view.plan
    width = 16 // DTYPES[plan.dtype][0]
    if plan.channels_last:
        return "PIXELS_16" if width > 1 and plan.in_channels // plan.groups % width == 0 else "PIXELS"
    in_place = view.lines is not None and all(
        line.taps == 1 and line.shift == 0 and line.count == axis.size
        for line, axis in zip(view.lines, view.axes, strict=True)
    )
    aligned = math.prod(plan.in_spatial) % width == 0 and width > 1
    same_type = tensor or plan.dtype not in _SUM_BYTES
    return "PLANES_16" if in_place and aligned and same_type else "PLANES"


def fit(view: View, shape: Shape, device: DeviceFacts) -> Product:
    """Lay tiles of one shape over a view, and predict their cost."""
    plan = view.plan
    tile = Tile(shape, plan.dtype, input_of(view, shape.tensor))
    row_tiles = -(-view.rows // shape.rows)
    chunks_per_tap = -(-(plan.in_channels // plan.groups) // tile.depth)
    per_pixel_tile = row_tiles * plan.groups
    work, tiles, most_chunks, pixel_tiles = 0, 0, 0, 1
    for count, pixels, taps in view.products():
        n = count * -(-pixels // shape.pixels) * per_pixel_tile
        chunks = taps * chunks_per_tap
        work += n * (chunks + 2)  # two for the tables and the stores
        tiles += n
        most_chunks = max(most_chunks, chunks)
        pixel_tiles = max(pixel_tiles, -(-pixels // shape.pixels))
    resident = device.multiprocessors * max(1, min(4, 512 // shape.threads))
    parts = max(1, min(_MOST_PARTS, resident // max(tiles, 1), most_chunks // _LEAST_CHUNKS))
    fill = min(1.0, tiles * parts / resident)
    waves = tiles * parts / resident
    waste = math.ceil(waves) / waves if waves > 1 else 1.0
    per_chunk = shape.rows * shape.pixels * tile.depth
    if tile.shared(index_bytes(plan)) > device.shared_per_block:
        return Product(view, tile, row_tiles, pixel_tiles, 1, math.inf)
    cost = work * per_chunk * waste / (shape.efficiency * max(fill, 1e-9)) * (1.1 if parts > 1 else 1.0)
    return Product(view, tile, row_tiles, pixel_tiles, parts, cost)


def direct(plan: Plan, device: DeviceFacts) -> Direct:
    """Lay the direct kernel's shares over a plan, and predict their cost."""
    view = phase_view(plan)
    channels = next((n for n in (1, 2, 4) if n >= plan.out_channels // plan.groups), 4)
    width = view.axes[2]
    pixels = 4 if width.blocks >= 4 else 1
    shares = plan.batch * plan.groups * -(-(plan.out_channels // plan.groups) // channels) * -(-width.blocks // pixels)
    shares *= width.phase_count
    for axis in view.axes[:2]:
        shares *= axis.blocks * axis.phase_count
    loads = 1 / channels + 1 / pixels
    fill = min(1.0, shares / (device.multiprocessors * _FULL_THREADS))
    return Direct(view, channels, pixels, shares, plan.flops / 2 * (1 + 3 * loads) / max(fill, 1e-9))


@lru_cache(maxsize=1024)
def choose(plan: Plan, device: DeviceFacts) -> Product | Direct:
    """Pick the gather kernel that should cost least; `plan` without its batch stays on the same weights."""
    views = [view for view in (merged_view(plan), phase_view(plan)) if view is not None]
    products = [fit(view, shape, device) for view in views for shape in shapes_for(plan, device)]
    best = min(products, key=lambda product: product.cost)
    alternative = direct(plan, device)
    arithmetic = 8 if uses_tensor_cores(plan, device) else 1  # the direct kernel has ordinary multiply-adds only
    return alternative if alternative.cost * arithmetic < best.cost else best


def index_bytes(plan: Plan) -> int:
    """Bytes of one index in the kernels."""
    return 4 if index_type(plan) == "int" else 8
