"""Which tile of the product, and whether a tile at all: pure functions of the plan and a few facts of the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from .geometry import View, index_type, merged_view, phase_view
from .shapes import SIMT_SHAPES, SUM_BYTES, TENSOR_SHAPES, DeviceFacts, Shape, Tile

#: Parts into which a reduction is split at most.
_MOST_PARTS = 32
#: Chunks that a part has at least, so that its pipeline fills.
_LEAST_CHUNKS = 8
#: Threads that hide the direct kernel's reads on one multiprocessor.
_FULL_THREADS = 1024
#: How much faster matrix instructions are than ordinary ones, as far as kernels can keep them busy.
_TENSOR_CORES = 8


@dataclass(frozen=True, slots=True)
class Product:
    """A view computed by tiles: how many of them, and into how many parts their reduction is split."""

    view: View
    tile: Tile
    row_tiles: int
    pixel_tiles: int
    parts: int
    effort: float  # multiply-adds that take as long at the arithmetic's peak, the device being full
    cost: float  # and as full as it is

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
    effort: float  # in ordinary multiply-adds
    cost: float


def uses_tensor_cores(plan: Plan, device: DeviceFacts) -> bool:
    """Whether products of `plan` run on matrix instructions."""
    return device.capability >= (8, 0) and (
        plan.dtype in ("float16", "bfloat16") or (plan.dtype == "float32" and plan.precision == "tf32")
    )


def shapes_for(plan: Plan, device: DeviceFacts) -> tuple[Shape, ...]:
    """Tiles that can compute `plan` on `device`."""
    if uses_tensor_cores(plan, device):
        return TENSOR_SHAPES
    shapes = SIMT_SHAPES[SUM_BYTES.get(plan.dtype, DTYPES[plan.dtype].size)]
    # Beside the largest tile's sums a thread has too few registers for what it keeps in mind where the channels lie
    # together, and wherever the compiler needs more of them: it would spill.
    crowded = plan.channels_last or device.capability >= (10, 0)
    return tuple(shape for shape in shapes if not crowded or shape.rows * shape.pixels <= 64 * 128)


def input_of(view: View, tensor: bool) -> str:
    """How x can be read: 16 bytes at a time where pixels or channels lie together and aligned."""
    plan = view.plan
    width = 16 // DTYPES[plan.dtype].size
    if plan.channels_last:
        return "PIXELS_16" if width > 1 and plan.in_channels // plan.groups % width == 0 else "PIXELS"
    in_place = view.lines is not None and all(
        line.taps == 1 and line.shift == 0 and line.count == axis.size
        for line, axis in zip(view.lines, view.axes, strict=True)
    )
    aligned = math.prod(plan.in_spatial) % width == 0 and width > 1
    same_type = tensor or plan.dtype not in SUM_BYTES
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
    resident = resident_blocks(shape, device)
    parts = max(1, min(_MOST_PARTS, resident // max(tiles, 1), most_chunks // _LEAST_CHUNKS))
    effort = work * shape.rows * shape.pixels * tile.depth / shape.efficiency * (1.1 if parts > 1 else 1.0)
    cost = effort / max(busy(tiles * parts, resident), 1e-9)
    if tile.shared(index_bytes(plan)) > device.shared_per_block:
        parts, cost = 1, math.inf
    return Product(view, tile, row_tiles, pixel_tiles, parts, effort, cost)


def resident_blocks(shape: Shape, device: DeviceFacts) -> int:
    """Blocks that run at once, by the registers that tiles take."""
    return device.multiprocessors * max(1, min(4, 512 // shape.threads))


def busy(blocks: int, resident: int) -> float:
    """Share of the device's time that has work: not all of it with few blocks, nor in the last wave of many."""
    return blocks / (-(-blocks // resident) * resident) if blocks else 1.0


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
    effort = plan.flops / 2 * (1 + 6 * loads)  # a read takes four multiply-adds' time, and some of it is not hidden
    return Direct(view, channels, pixels, shares, effort, effort / max(fill, 1e-9))


@lru_cache(maxsize=1024)
def choose(plan: Plan, device: DeviceFacts) -> Product | Direct:
    """Pick the gather kernel that should cost least; `plan` without its batch stays on the same weights."""
    views = [view for view in (merged_view(plan), phase_view(plan)) if view is not None]
    products = [fit(view, shape, device) for view in views for shape in shapes_for(plan, device)]
    best = min(products, key=lambda product: product.cost)
    alternative = direct(plan, device)
    return alternative if alternative.cost * slower(plan, device) < best.cost else best


def slower(plan: Plan, device: DeviceFacts) -> int:
    """How much slower the ordinary multiply-adds of the direct kernel are than those of tiles."""
    return _TENSOR_CORES if uses_tensor_cores(plan, device) else 1


def index_bytes(plan: Plan) -> int:
    """Bytes of one index in the kernels."""
    return 4 if index_type(plan) == "int" else 8
