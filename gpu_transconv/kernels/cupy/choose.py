"""Which tile of the product, and whether a tile at all: pure functions of the plan and the device's properties."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import by_phase, correlation, merged
from .geometry import PackedProduct, index_bytes, pack_product
from .tile_shapes import MMA_SHAPES, SIMT_SHAPES, SUM_BYTES, DeviceProperties, MmaShape, Tile, TileShape

# The constants of the cost model are estimates from counts, not measured: no device was at hand.
#: Parts into which a reduction is split at most.
_MOST_PARTS = 32
#: Chunks that a part has at least, so that its pipeline fills.
_LEAST_CHUNKS = 8
#: What a split reduction takes beside one that is not: its parts are written, read again and added.
_SPLIT_WORK = 1.1
#: Chunks' time that a tile takes for its tables and its stores.
_TILE_CHUNKS = 2
#: Blocks of tiles, and threads of such blocks, that the registers of one multiprocessor hold.
_MOST_BLOCKS, _TILE_THREADS = 4, 512
#: Threads that hide the direct kernel's reads on one multiprocessor.
_FULL_THREADS = 1024
#: Threads of a block of the direct kernel, as its launch bounds in gather_direct.cuh have it.
DIRECT_THREADS = 128
#: Multiply-adds' time of one read of the direct kernel, which are four, and some of it not hidden.
_READ_WORK = 6
#: How much faster matrix instructions are than ordinary ones, as far as kernels can keep them busy.
_TENSOR_CORES = 8
#: Most results of a tile where registers are few.
_CROWDED_RESULTS = 64 * 128


@dataclass(frozen=True, slots=True)
class TiledProduct:
    """A product computed by tiles: how many of them, and into how many parts their reduction is split."""

    packed: PackedProduct
    tile: Tile
    row_tiles: int
    pixel_tiles: int
    parts: int
    effort: float  # multiply-adds that take as long at the arithmetic's peak, the device being full
    cost: float  # and as full as it is

    @property
    def tiles(self) -> int:
        """Blocks per part."""
        return self.packed.product.count * self.row_tiles * self.packed.plan.groups * self.pixel_tiles


@dataclass(frozen=True, slots=True)
class DirectGather:
    """Gather without tiles: channels and pixels of one thread, and the number of threads that have work."""

    packed: PackedProduct
    channels: int
    pixels: int
    shares: int
    effort: float  # in ordinary multiply-adds
    cost: float


def uses_tensor_cores(plan: Plan, device: DeviceProperties) -> bool:
    """Whether products of `plan` run on matrix instructions."""
    return device.capability >= (8, 0) and (
        plan.dtype in ("float16", "bfloat16") or (plan.dtype == "float32" and plan.precision == "tf32")
    )


def shapes_for(plan: Plan, device: DeviceProperties) -> tuple[TileShape, ...]:
    """Tiles that can compute `plan` on `device`."""
    if uses_tensor_cores(plan, device):
        return MMA_SHAPES
    shapes = SIMT_SHAPES[SUM_BYTES.get(plan.dtype, DTYPES[plan.dtype].size)]
    # Beside the largest tile's sums a thread has too few registers for what it keeps in mind where the channels lie
    # together, and wherever the compiler needs more of them: it would spill.
    crowded = plan.channels_last or device.capability >= (10, 0)
    return tuple(shape for shape in shapes if not crowded or shape.rows * shape.pixels <= _CROWDED_RESULTS)


def input_of(packed: PackedProduct, shape: TileShape) -> str:
    """How x can be read: 16 bytes at a time where pixels or channels lie together and aligned."""
    plan, frame = packed.plan, packed.product.frame
    width = 16 // DTYPES[plan.dtype].size
    if plan.channels_last:
        return "PIXELS_16" if width > 1 and plan.in_channels // plan.groups % width == 0 else "PIXELS"
    in_place = frame is not None and all(
        part.taps == axis.step == 1 and part.shift == 0 and part.count == axis.size
        for part, axis in zip(frame, packed.product.axes, strict=True)
    )
    aligned = math.prod(plan.in_spatial) % width == 0 and width > 1
    same_type = isinstance(shape, MmaShape) or plan.dtype not in SUM_BYTES
    return "PLANES_16" if in_place and aligned and same_type else "PLANES"


def fit_tiles(packed: PackedProduct, shape: TileShape, device: DeviceProperties) -> TiledProduct:
    """Lay tiles of one shape over a product, and predict their cost.

    `TiledProduct.effort` is compared between shapes and kernels; `TiledProduct.cost` is infinite where a tile does not
    fit the device's shared memory.
    """
    plan = packed.plan
    tile = Tile(shape, plan.dtype, input_of(packed, shape))
    row_tiles = -(-packed.product.rows // shape.rows)
    chunks_per_tap = -(-(plan.in_channels // plan.groups) // tile.depth)
    work, tiles, most_chunks, pixel_tiles = 0, 0, 0, 1
    for count, columns, taps in packed.product.alike():
        n = count * -(-columns // shape.pixels) * row_tiles * plan.groups
        chunks = taps * chunks_per_tap
        work += n * (chunks + _TILE_CHUNKS)
        tiles += n
        most_chunks = max(most_chunks, chunks)
        pixel_tiles = max(pixel_tiles, -(-columns // shape.pixels))
    resident = resident_blocks(shape, device)
    parts = max(1, min(_MOST_PARTS, resident // max(tiles, 1), most_chunks // _LEAST_CHUNKS))
    effort = work * shape.rows * shape.pixels * tile.depth / shape.efficiency * (_SPLIT_WORK if parts > 1 else 1.0)
    cost = effort / max(busy(tiles * parts, resident), 1e-9)
    if tile.shared(index_bytes(plan)) > device.shared_per_block:
        parts, cost = 1, math.inf
    return TiledProduct(packed, tile, row_tiles, pixel_tiles, parts, effort, cost)


def resident_blocks(shape: TileShape, device: DeviceProperties) -> int:
    """Blocks that run at once, by the registers that tiles take."""
    return device.multiprocessors * max(1, min(_MOST_BLOCKS, _TILE_THREADS // shape.threads))


def busy(blocks: int, resident: int) -> float:
    """Share of the device's time that has work: not all of it with few blocks, nor in the last wave of many."""
    return blocks / (-(-blocks // resident) * resident) if blocks else 1.0


def fit_direct(plan: Plan, device: DeviceProperties) -> DirectGather:
    """Lay the direct kernel's shares over a plan, and predict their cost."""
    packed = pack_product(correlation(plan) if plan.operation == "input_grad" else by_phase(plan))
    of_group = packed.plan.out_channels // plan.groups
    channels = next((n for n in (1, 2, 4) if n >= of_group), 4)
    depth, height, width = packed.product.axes
    pixels = 4 if width.blocks >= 4 else 1
    shares = plan.batch * plan.groups * -(-of_group // channels) * -(-width.blocks // pixels)
    shares *= width.phase_count
    for axis in (depth, height):
        shares *= axis.blocks * axis.phase_count
    loads = 1 / channels + 1 / pixels
    fill = min(1.0, shares / (device.multiprocessors * _FULL_THREADS))
    effort = plan.flops / 2 * (1 + _READ_WORK * loads)
    return DirectGather(packed, channels, pixels, shares, effort, effort / max(fill, 1e-9))


@lru_cache(maxsize=1024)
def choose_gather(plan: Plan, device: DeviceProperties) -> TiledProduct | DirectGather:
    """Pick the gather kernel that should cost least; `plan` without its batch stays on the same weights."""
    products = (correlation(plan),) if plan.operation == "input_grad" else (merged(plan), by_phase(plan))
    packed = [pack_product(product) for product in products if product is not None]
    tiled = [fit_tiles(one, shape, device) for one in packed for shape in shapes_for(plan, device)]
    best = min(tiled, key=lambda product: product.cost)
    direct = fit_direct(plan, device)
    return direct if direct.cost * direct_slowdown(plan, device) < best.cost else best


def direct_slowdown(plan: Plan, device: DeviceProperties) -> int:
    """How much slower the ordinary multiply-adds of the direct kernel are than those of tiles."""
    return _TENSOR_CORES if uses_tensor_cores(plan, device) else 1
