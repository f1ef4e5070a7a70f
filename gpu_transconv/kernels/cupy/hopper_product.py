"""How the kernel for Hopper's matrix unit cuts a product: src/hopper_geometry.cuh.

Rows come in blocks of 64 channels of one unit (a phase), pixels in boxes of 128, depth in chunks of 128 bytes of
channels. A tile of rows is 4 blocks or 2; for every input shift it multiplies those of them that have a tap there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product as every

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import Product, by_phase, correlation
from .block_axis import BlockAxis, block_axis
from .choose import busy
from .geometry import index_type
from .launch_plan import HEADER
from .tensor_map import TensorMap
from .tile_shapes import DeviceProperties

#: As in hopper_geometry.cuh and hopper_pipeline.cuh: rows of a block, the M of a product; pixels of a box, its N;
#: bytes of a chunk's channels; and stages of shared memory, as many as fit beside 256 rows.
BLOCK_ROWS, BOX_PIXELS, LINE_BYTES, _STAGES = 64, 128, 128, 4
#: Bytes of one block's weights of a chunk, and of one Step of hopper_geometry.cuh.
_SLOT_BYTES, _STEP_BYTES = BLOCK_ROWS * LINE_BYTES, 32
#: Pixels of one row that a line of shared memory holds, channels first, as powers of two: 128, 64 or 32 bytes, as
#: swizzles have them. And boxes more, per halving, that are as good as the more copies of shorter lines.
_LINES, _SHORTER_LINES = (6, 5, 4), 0.05
#: Boxes of pixels, over the fewest that there could be, up to which tensor copies are worth their whole lines: threads
#: reach some 60 % of their speed.
_MOST_WASTE = 1.6
# The constants of the cost model are estimates from counts of instructions, not measured: no device was at hand.
#: Share of the matrix unit's peak that the main loop keeps up: by tensor copies, and where threads load x, by bytes of
#: an element: products of TF32 numbers take twice as long, so that more of the loads hides behind them; three of them
#: take as long as copies would allow.
_COPY_SHARE, _LOAD_SHARES = 0.75, {2: 0.45, 4: 0.6}
#: Time of a tile's stores, over that of the products of one block and chunk: for each of its blocks.
_STORE_CHUNKS = 2
_MOST_GRID = (1 << 16) - 1


@dataclass(frozen=True)
class HopperProduct:
    """A product cut for the kernel.

    Attributes
    ----------
    product : Product
    axes : three of BlockAxis
    box : four of int
        Powers of two of a box of pixels: images, then the axes.
    source : str
        How x is read, a Source of hopper_gather.cuh.
    group_axis : bool
        Whether the tensor map has the groups in the place of depth.
    tile_blocks : int
        Blocks of a tile of rows, 4 or 2.
    line : int
        Power of two of the pixels in a line of shared memory, channels first.
    """

    product: Product
    axes: tuple[BlockAxis, BlockAxis, BlockAxis]
    box: tuple[int, int, int, int]
    source: str
    group_axis: bool
    tile_blocks: int = 4
    line: int = _LINES[0]

    @property
    def plan(self) -> Plan:
        """The plan of the product."""
        return self.product.plan

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels of a group."""
        return self.plan.in_channels // self.plan.groups, self.plan.out_channels // self.plan.groups

    @cached_property
    def units(self) -> int:
        """Units of all axes."""
        return math.prod(axis.units for axis in self.axes)

    @property
    def blocks(self) -> int:
        """Blocks of rows of a group."""
        return -(-self.channels[1] // BLOCK_ROWS) * self.units

    @property
    def row_tiles(self) -> int:
        """Tiles of rows of a group."""
        return -(-self.blocks // self.tile_blocks)

    @property
    def chunks(self) -> int:
        """Chunks of a group's channels."""
        return -(-self.channels[0] // self.chunk)

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return DTYPES[self.plan.dtype].size

    @property
    def images(self) -> int:
        """Numbers of the matrix unit in an element: two TF32 numbers are one of float32."""
        return 2 if self.plan.dtype == "float32" and self.plan.precision != "tf32" else 1

    @property
    def chunk(self) -> int:
        """Channels of a chunk."""
        return LINE_BYTES // self.item

    @property
    def boxes(self) -> tuple[int, ...]:
        """Boxes of images, and of each axis."""
        counts = (self.plan.batch, *(axis.count for axis in self.axes))
        return tuple(-(-count >> log) if count else 0 for count, log in zip(counts, self.box, strict=True))

    @property
    def tiles(self) -> int:
        """Tiles of all groups."""
        return self.row_tiles * self.plan.groups * math.prod(self.boxes)

    @cached_property
    def steps(self) -> int:
        """Shifts that a tile has at most, and one that ends them."""
        return math.prod(len(axis.axis.shifts()) for axis in self.axes) + 1

    @cached_property
    def slots(self) -> int:
        """Slots of a group's packed weights."""
        return self.blocks // self.units * math.prod(axis.taps for axis in self.axes) * self.chunks

    @property
    def together(self) -> str:
        """How results of a thread lie together in the output, a Together of hopper_geometry.cuh."""
        width, columns = self.axes[2], self.plan.out_spatial[2]
        if self.plan.channels_last:
            return "CHANNELS_2" if self.channels[1] % 2 == 0 else "APART"
        stride, wide = width.axis.stride, self.box[3] > 0
        if stride % 2 == 0 and columns % 2 == 0 and width.units == stride:
            return "UNITS_PIXELS" if stride == 2 and columns % 4 == 0 and wide else "UNITS_2"
        return "PIXELS_2" if stride == 1 and columns % 2 == 0 and wide else "APART"

    @property
    def work(self) -> int:
        """Multiply-adds that are executed."""
        return self.slots * self.plan.groups * math.prod(self.boxes) * BLOCK_ROWS * BOX_PIXELS * self.chunk

    @property
    def effort(self) -> float:
        """Multiply-adds that take as long at the matrix unit's peak, the device being full."""
        copied = self.source.startswith("COPY") or self.images == 2
        share = (_COPY_SHARE if copied else _LOAD_SHARES[self.item]) / (3 if self.images == 2 else 1)
        stores = self.row_tiles * self.tile_blocks * _STORE_CHUNKS
        pairs = (self.slots / share + stores) * self.plan.groups * math.prod(self.boxes)
        return pairs * BLOCK_ROWS * BOX_PIXELS * self.chunk

    def cost(self, device: DeviceProperties) -> float:
        """Effort on a device that is as full as it is: a block to a multiprocessor."""
        return self.effort / max(busy(self.tiles, device.multiprocessors), 1e-9)

    @property
    def shared(self) -> int:
        """Bytes of shared memory: stages, their barriers, and room to begin at a multiple of 1024."""
        stage = (self.tile_blocks * _SLOT_BYTES + BOX_PIXELS * LINE_BYTES) * self.images + 16
        return (_STAGES - (self.images == 2)) * stage + 1024

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed weights: header, steps, slots."""
        steps = HEADER + self.row_tiles * self.steps * _STEP_BYTES
        return -(-steps // 128) * 128 + self.plan.groups * self.slots * _SLOT_BYTES * self.images

    def tensor_map(self) -> TensorMap:
        """The map of x that the copies use."""
        plan, item = self.plan, self.item
        d, h, w = plan.in_spatial
        of_group, plane = self.channels[0], d * h * w * item
        if self.source == "COPY_FIRST":
            strides = (w * item, h * w * item, plane, of_group * plane)
            return TensorMap(
                "x", item, (w, h, d, of_group, plan.batch * plan.groups), strides, (1 << self.line, 1, 1, self.chunk, 1)
            )
        line = plan.in_channels * item
        third = (plan.groups, of_group * item) if self.group_axis else (d, h * w * line)
        sizes = (of_group if self.group_axis else plan.in_channels, w, h, third[0], plan.batch)
        strides = (line, w * line, third[1], plan.in_channels * plane)
        steps = tuple(axis.axis.step for axis in self.axes)
        n, bd, bh, bw = ((1 << log) - 1 for log in self.box)
        box = (self.chunk, bw * steps[2] + 1, bh * steps[1] + 1, bd * steps[0] + 1, n + 1)
        return TensorMap("x", item, sizes, strides, box, (1, steps[2], steps[1], steps[0], 1))


def cut_product(plan: Plan, device: DeviceProperties) -> HopperProduct | None:
    """Cut a plan for the kernel, or None for other dtypes, indices beyond 32 bits, and grids too large."""
    if (
        plan.dtype not in ("float16", "bfloat16", "float32")
        or plan.operation == "weight_grad"
        or index_type(plan) != "int"
    ):
        return None
    product = correlation(plan) if plan.operation == "input_grad" else by_phase(plan)
    d, h, w = (block_axis(axis, a == 2 and not plan.channels_last) for a, axis in enumerate(product.axes))
    axes = (d, h, w)
    best = _fit_box(product.plan.batch, axes, 0)
    cut = HopperProduct(product, axes, best, "LOAD_LAST" if plan.channels_last else "LOAD_FIRST", False)
    copied = _by_copies(cut)
    if copied and (fault := copied.tensor_map().fault):
        raise AssertionError(f"a tensor map that the driver refuses: {fault}")
    cut = copied or cut
    narrow = replace(cut, tile_blocks=2)  # with two images there are no registers for more
    cut = narrow if cut.images == 2 else min(cut, narrow, key=lambda one: one.cost(device))
    return cut if cut.row_tiles * product.plan.groups <= _MOST_GRID else None


def _by_copies(cut: HopperProduct) -> HopperProduct | None:
    """The product read by tensor copies, where their alignment allows it and they do not move too much for nothing."""
    plan, axes = cut.plan, cut.axes
    of_group = cut.channels[0]
    per_line = 16 // cut.item
    steps = [axis.axis.step for axis in axes]
    if not plan.batch or cut.item != 2:  # TF32 numbers are rounded on their way
        return None
    if plan.channels_last:
        whole = plan.groups == 1 or of_group % cut.chunk == 0
        group_axis = not whole and axes[0].is_unit
        if of_group % per_line or not (whole or group_axis) or max(steps) > 8:
            return None
        copied = replace(cut, source="COPY_LAST", group_axis=group_axis)
        return copied if max(copied.tensor_map().box) <= 256 else None
    if plan.in_spatial[2] % per_line or max(steps) > 1:
        return None
    copied = min(
        (replace(cut, source="COPY_FIRST", line=line, box=_fit_box(plan.batch, axes, line)) for line in _LINES),
        key=lambda one: math.prod(one.boxes) * (1 + _SHORTER_LINES * (_LINES[0] - one.line)),
    )
    return copied if math.prod(copied.boxes) <= _MOST_WASTE * math.prod(cut.boxes) else None


@lru_cache(maxsize=1024)
def _fit_box(batch: int, axes: tuple[BlockAxis, BlockAxis, BlockAxis], least: int) -> tuple[int, int, int, int]:
    """The box of 128 pixels of which the fewest cover all, with lines of 2^`least` at least; of those the longest."""
    counts = (batch, *(axis.count for axis in axes))

    def boxes(box: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        return math.prod(-(-count // (1 << log)) for count, log in zip(counts, box, strict=True)), box

    logs = BOX_PIXELS.bit_length() - 1
    possible = (
        (logs - d - h - w, d, h, w)
        for d, h, w in every(range(logs + 1), range(logs + 1), range(least, logs + 1))
        if d + h + w <= logs
    )
    n, d, h, w = min(possible, key=boxes)
    return n, d, h, w
