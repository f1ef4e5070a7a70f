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
#: Chunks' time that a tile takes for its tables and its stores: about 2000 instructions of sm_90 a thread, where a
#: chunk of the largest tile of half precision has 300.
_TILE_CHUNKS = 6
#: Blocks of tiles, and threads of such blocks, that the registers of one multiprocessor hold.
_MOST_BLOCKS, _TILE_THREADS = 4, 512
#: Threads that hide the direct kernel's reads on one multiprocessor.
_FULL_THREADS = 1024
#: Threads of a block of the direct kernel, as its launch bounds in gather_direct.cuh have it.
DIRECT_THREADS = 128
#: Rows of one thread of gather_direct.cuh.
_DIRECT_ROWS = 4
#: Neighbouring outputs of one thread of gather_rows.cuh, channels first and last, its rows, strides that it is compiled
#: for, and what it reads per multiply-add: six inputs and four weights for sixteen.
_ROW_OUTPUTS, _ROWS, ROW_STRIDES, _ROW_READS = {False: 8, True: 4}, 4, (2,), 10 / 16
#: Multiply-adds' time of what a thread of gather_direct.cuh and of gather_rows.cuh does beside its products:
#: instructions of sm_90, most of them divisions that find its place; and what a row of the former takes.
_PIXELS_WORK, _PIXELS_ROW_WORK, _ROWS_WORK = 400, 140, 300
#: Multiply-adds' time of one read of the direct kernel, which are four, and some of it not hidden.
_READ_WORK = 6
#: How much faster matrix instructions are than ordinary ones, as far as kernels can keep them busy.
_TENSOR_CORES = 8
#: Pixels of a tile so small that a kernel more is not worth its reads of 16 bytes.
_NARROW = 32
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
    cost: float  # multiply-adds that take as long at the arithmetic's peak, on a device that is full

    @property
    def tiles(self) -> int:
        """Blocks per part."""
        return self.packed.product.count * self.row_tiles * self.packed.plan.groups * self.pixel_tiles


@dataclass(frozen=True, slots=True)
class DirectGather:
    """Gather without tiles: channels and pixels of one thread, and the number of threads that have work.

    Where `row_stride` is not 0 the pixels are all outputs of a row, whose axis has that stride, and the channels of as
    many groups: gather_rows.cuh.
    """

    packed: PackedProduct
    channels: int
    pixels: int
    shares: int
    row_stride: int
    cost: float  # in ordinary multiply-adds


def uses_tensor_cores(dtype: str, precision: str, device: DeviceProperties) -> bool:
    """Whether products run on matrix instructions."""
    return device.capability >= (8, 0) and (
        dtype in ("float16", "bfloat16") or (dtype == "float32" and precision == "tf32")
    )


def shapes_for(plan: Plan, device: DeviceProperties) -> tuple[TileShape, ...]:
    """Tiles that can compute `plan` on `device`."""
    return shapes_of(plan.dtype, plan.precision, plan.channels_last, device)


def shapes_of(dtype: str, precision: str, channels_last: bool, device: DeviceProperties) -> tuple[TileShape, ...]:
    """Tiles that there are for a dtype and format."""
    if uses_tensor_cores(dtype, precision, device):
        return MMA_SHAPES
    shapes = SIMT_SHAPES[SUM_BYTES.get(dtype, DTYPES[dtype].size)]
    # Beside the largest tile's sums a thread has too few registers for what it keeps in mind where the channels lie
    # together, and wherever the compiler needs more of them: it would spill.
    crowded = channels_last or not (8, 0) <= device.capability < (10, 0)
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
    aligned = math.prod(plan.in_spatial) % width == 0
    return "PLANES_16" if in_place and aligned and "PLANES_16" in inputs_of(shape, plan.dtype, False) else "PLANES"


def inputs_of(shape: TileShape, dtype: str, channels_last: bool) -> tuple[str, ...]:
    """Ways in which tiles of one shape can read x."""
    wide = DTYPES[dtype].size < 16
    if channels_last:
        if not wide:
            return ("PIXELS",)
        # Few rows are few channels of the output; where those of x do not lie aligned either, tiles are rarely best.
        return ("PIXELS_16",) if shape.rows < _NARROW else ("PIXELS", "PIXELS_16")
    same_type = isinstance(shape, MmaShape) or dtype not in SUM_BYTES
    return ("PLANES", "PLANES_16") if wide and same_type and shape.pixels > _NARROW else ("PLANES",)


def fit_tiles(packed: PackedProduct, shape: TileShape, device: DeviceProperties) -> TiledProduct:
    """Lay tiles of one shape over a product, and predict their cost.

    `TiledProduct.cost` is compared between shapes and kernels; it is infinite where a tile does not read x, or not
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
    unread = plan.channels_last and tile.input not in inputs_of(shape, plan.dtype, True)
    if unread or tile.shared(index_bytes(plan)) > device.shared_per_block:
        parts, cost = 1, math.inf
    return TiledProduct(packed, tile, row_tiles, pixel_tiles, parts, cost)


def resident_blocks(shape: TileShape, device: DeviceProperties) -> int:
    """Blocks that run at once, by the registers that tiles take."""
    return device.multiprocessors * max(1, min(_MOST_BLOCKS, _TILE_THREADS // shape.threads))


def busy(blocks: int, resident: int) -> float:
    """Share of the device's time that has work: not all of it with few blocks, nor in the last wave of many."""
    return blocks / (-(-blocks // resident) * resident) if blocks else 1.0


def fit_direct(plan: Plan, device: DeviceProperties) -> list[DirectGather]:
    """Lay shares of the kernels without tiles over a plan, and predict their cost."""
    packed = pack_product(correlation(plan) if plan.operation == "input_grad" else by_phase(plan))
    found = [_fit_pixels(packed, device)]
    if stride := _row_stride(packed):
        found.append(_fit_rows(packed, stride, device))
    return found


def _fit_pixels(packed: PackedProduct, device: DeviceProperties) -> DirectGather:
    """Lay shares of gather_direct.cuh over a product: some channels at some pixels of one phase."""
    of_group, (depth, height, width) = packed.plan.out_channels // packed.plan.groups, packed.product.axes
    channels, pixels = (1 if of_group == 1 else 4), 4
    shares = packed.plan.groups * -(-of_group // channels) * -(-width.blocks // pixels) * width.phase_count
    shares *= depth.blocks * depth.phase_count * -(-height.blocks // _DIRECT_ROWS) * height.phase_count
    work = _PIXELS_WORK + _PIXELS_ROW_WORK * min(_DIRECT_ROWS, height.blocks)
    return _direct(packed, channels, pixels, shares, 0, 1 / channels + 1 / pixels, work, device)


def _fit_rows(packed: PackedProduct, stride: int, device: DeviceProperties) -> DirectGather:
    """Lay shares of gather_rows.cuh over a product: outputs of some rows of one channel, or of some, channels last."""
    depth, height, width = packed.product.axes
    lanes = row_lanes(packed.plan.dtype) if packed.plan.channels_last else 1
    shares = packed.plan.groups // lanes * depth.output_size * -(-height.output_size // _ROWS)
    outputs = _ROW_OUTPUTS[packed.plan.channels_last]
    shares *= -(-width.output_size // outputs)
    return _direct(packed, lanes, outputs, shares, stride, _ROW_READS, _ROWS_WORK, device)


def _direct(
    packed: PackedProduct, channels: int, pixels: int, shares: int, row_stride: int, reads: float, work: int,
    device: DeviceProperties,
) -> DirectGather:  # fmt: skip
    """Count shares of the whole batch, and predict their cost.

    `reads` are those of one multiply-add, `work` is what a share takes beside its products, in multiply-adds.
    """
    plan = packed.plan
    shares *= plan.batch
    effort = plan.flops / 2 * (1 + _READ_WORK * reads) + shares * work
    fill = min(1.0, shares / (device.multiprocessors * _FULL_THREADS))
    return DirectGather(packed, channels, pixels, shares, row_stride, effort / max(fill, 1e-9))


def row_lanes(dtype: str) -> int:
    """Channels that a thread of gather_rows.cuh has, channels last: LANES_OF there."""
    return min(4, 16 // DTYPES[dtype].size)


def _row_stride(packed: PackedProduct) -> int:
    """Stride of the last axis where gather_rows.cuh takes a product, else 0."""
    product, plan = packed.product, packed.plan
    if product.is_swapped or plan.out_channels != plan.groups:
        return 0
    if plan.channels_last and (
        row_lanes(plan.dtype) == 1 or plan.groups % row_lanes(plan.dtype) or plan.in_channels != plan.groups
    ):
        return 0
    stride = product.axes[2].stride
    return stride if stride in ROW_STRIDES and all(axis.dilation == 1 for axis in product.axes) else 0


@lru_cache(maxsize=1024)
def choose_gather(plan: Plan, device: DeviceProperties) -> TiledProduct | DirectGather:
    """Pick the gather kernel that should cost least; `plan` without its batch stays on the same weights."""
    products = (correlation(plan),) if plan.operation == "input_grad" else (merged(plan), by_phase(plan))
    packed = [pack_product(product) for product in products if product is not None]
    tiled = [fit_tiles(one, shape, device) for one in packed for shape in shapes_for(plan, device)]
    best = min(tiled, key=lambda product: product.cost)
    direct = min(fit_direct(plan, device), key=lambda found: found.cost)
    return direct if direct.cost * direct_slowdown(plan, device) < best.cost else best


def direct_slowdown(plan: Plan, device: DeviceProperties) -> int:
    """How much slower the ordinary multiply-adds of the direct kernel are than those of tiles."""
    return _TENSOR_CORES if uses_tensor_cores(plan.dtype, plan.precision, device) else 1
