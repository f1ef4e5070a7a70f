"""The kernel for Hopper's matrix unit: how it cuts a product, and its launches; src/hopper_gather.cuh.

Rows come in blocks of 64 channels of one unit (a phase), pixels in boxes of 128, depth in chunks of 64 channels. A tile
of rows is 4 blocks or 2; for every input shift it multiplies those of its blocks that have a tap there.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product as every

from ...problem.axis import Axis
from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import Product, by_phase, correlation
from .geometry import ACTIVATION_CODES, channel_steps, index_type, weight_steps
from .launch_plan import HEADER, OUT, THREADS, WEIGHT, Argument, Buffer, Bytes, KernelLaunch, LaunchPlan, X, bias_of
from .tensor_map import TensorMap
from .tile_shapes import C_TYPES, DeviceProperties

BLOCK_ROWS, BOX_PIXELS, CHUNK, _STAGES, _THREADS = 64, 128, 64, 4, 384
#: Bytes of one block's weights of a chunk, and of one Step of hopper_geometry.cuh.
_SLOT_BYTES, _STEP_BYTES = BLOCK_ROWS * CHUNK * 2, 32
#: Pixels of one row that a line of shared memory holds, channels first.
_LINE_PIXELS = 64
#: Boxes of pixels, over the fewest that there could be, up to which tensor copies are worth their whole lines: threads
#: reach some 60 % of their speed.
_MOST_WASTE = 1.6
#: Time of a tile's barriers and stores, in that of one block.
_TILE_BLOCKS = 0.5
_MOST_GRID = (1 << 16) - 1
_TOGETHER = {name: code for code, name in enumerate(("APART", "PIXELS_2", "UNITS_2", "UNITS_PIXELS", "CHANNELS_2"))}


@dataclass(frozen=True)
class BlockAxis:
    """One axis: output ``stride*b + unit - origin`` of block b; `axis` is the relation counted from the origin."""

    axis: Axis
    origin: int

    @property
    def units(self) -> int:
        """Phases that hold an output."""
        return self.axis.phase_count

    @property
    def first(self) -> int:
        """First block with an output."""
        return self.origin // self.axis.stride

    @property
    def count(self) -> int:
        """Blocks with an output."""
        return self.axis.blocks - self.first

    @property
    def taps(self) -> int:
        """Taps that reach an output."""
        return sum(self.axis.phase_of(tap) < self.units for tap in range(self.axis.kernel))

    @property
    def is_unit(self) -> bool:
        """Whether there is one input and one output, which is that input."""
        axis = self.axis
        return axis.size == axis.kernel == axis.output_size == axis.step == 1 and axis.pad_low == self.origin == 0


def _block_axis(axis: Axis, together: bool) -> BlockAxis:
    """Count from the uncropped result's begin, so that shifts are few; `together` keeps pairs of outputs aligned."""
    origin = 0 if axis.stride == 1 else axis.pad_low - (axis.pad_low % 2 if together and axis.stride % 2 == 0 else 0)
    counted = replace(axis, pad_low=axis.pad_low - origin, output_size=axis.output_size + origin)
    return BlockAxis(counted, origin)


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
    """

    product: Product
    axes: tuple[BlockAxis, BlockAxis, BlockAxis]
    box: tuple[int, int, int, int]
    source: str
    group_axis: bool
    tile_blocks: int = 4

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
        return -(-self.channels[0] // CHUNK)

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
    def shared(self) -> int:
        """Bytes of shared memory: stages, their barriers, and room to begin at a multiple of 1024."""
        return _STAGES * (self.tile_blocks * _SLOT_BYTES + BOX_PIXELS * CHUNK * 2 + 16) + 1024

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed weights: header, steps, slots."""
        steps = HEADER + self.row_tiles * self.steps * _STEP_BYTES
        return -(-steps // 128) * 128 + self.plan.groups * self.slots * _SLOT_BYTES

    def tensor_map(self) -> TensorMap:
        """The map of x that the copies use."""
        plan, item = self.plan, DTYPES[self.plan.dtype].size
        d, h, w = plan.in_spatial
        of_group, plane = self.channels[0], d * h * w * item
        if self.source == "COPY_FIRST":
            strides = (w * item, h * w * item, plane, of_group * plane)
            return TensorMap("x", item, (w, h, d, of_group, plan.batch * plan.groups), strides, (64, 1, 1, CHUNK, 1))
        line = plan.in_channels * item
        third = (plan.groups, of_group * item) if self.group_axis else (d, h * w * line)
        sizes = (of_group if self.group_axis else plan.in_channels, w, h, third[0], plan.batch)
        strides = (line, w * line, third[1], plan.in_channels * plane)
        steps = tuple(axis.axis.step for axis in self.axes)
        n, bd, bh, bw = ((1 << log) - 1 for log in self.box)
        box = (CHUNK, bw * steps[2] + 1, bh * steps[1] + 1, bd * steps[0] + 1, n + 1)
        return TensorMap("x", item, sizes, strides, box, (1, steps[2], steps[1], steps[0], 1))


def cut_product(plan: Plan, device: DeviceProperties) -> HopperProduct | None:
    """Cut a plan for the kernel, or None where it is of no use: other dtypes, indices beyond 32 bits, grids too large."""
    if plan.dtype not in ("float16", "bfloat16") or plan.operation == "weight_grad" or index_type(plan) != "int":
        return None
    product = correlation(plan) if plan.operation == "input_grad" else by_phase(plan)
    d, h, w = (_block_axis(axis, a == 2 and not plan.channels_last) for a, axis in enumerate(product.axes))
    axes = (d, h, w)
    best = _fit_box(product.plan.batch, axes, 0)
    cut = HopperProduct(product, axes, best, "LOAD_LAST" if plan.channels_last else "LOAD_FIRST", False)
    copied = _by_copies(cut)
    if copied and (fault := copied.tensor_map().fault):
        raise AssertionError(f"a tensor map that the driver refuses: {fault}")
    cut = copied or cut
    narrow = replace(cut, tile_blocks=2)
    cut = min(cut, narrow, key=lambda one: _cost(one, device))
    return cut if cut.row_tiles * product.plan.groups <= _MOST_GRID else None


def _cost(cut: HopperProduct, device: DeviceProperties) -> float:
    """Waves of tiles, in the time of a block: the larger tile wins where both fill the device."""
    return -(-cut.tiles // device.multiprocessors) * (cut.tile_blocks + _TILE_BLOCKS)


def _by_copies(cut: HopperProduct) -> HopperProduct | None:
    """The product read by tensor copies, where their alignment allows it and they do not move too much for nothing."""
    plan, axes = cut.plan, cut.axes
    of_group = cut.channels[0]
    per_line = 16 // DTYPES[plan.dtype].size
    steps = [axis.axis.step for axis in axes]
    if not plan.batch:
        return None
    if plan.channels_last:
        whole = plan.groups == 1 or of_group % CHUNK == 0
        group_axis = not whole and axes[0].is_unit
        if of_group % per_line or not (whole or group_axis) or max(steps) > 8:
            return None
        copied = replace(cut, source="COPY_LAST", group_axis=group_axis)
        return copied if max(copied.tensor_map().box) <= 256 else None
    if plan.in_spatial[2] % per_line or max(steps) > 1:
        return None
    lines = replace(cut, source="COPY_FIRST", box=_fit_box(plan.batch, axes, 6))
    return lines if math.prod(lines.boxes) <= _MOST_WASTE * math.prod(cut.boxes) else None


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


def geometry_bytes(cut: HopperProduct) -> bytes:
    """Lay a product out as struct HopperGeometry."""
    plan, last = cut.plan, cut.plan.channels_last
    inputs, outputs = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    x_step, y_step = channel_steps(plan)
    numbers: list[int] = []
    for a, part in enumerate(cut.axes):
        axis = part.axis
        numbers += [axis.size, axis.output_size - part.origin, axis.kernel, axis.stride, axis.dilation, axis.pad_low]
        numbers += [part.origin, part.units, part.first, axis.step, cut.box[a + 1], cut.boxes[a + 1]]
        numbers += [math.prod(plan.in_spatial[a + 1 :]) * x_step, math.prod(plan.out_spatial[a + 1 :]) * y_step]
    numbers += [plan.batch, plan.groups, *cut.channels]
    numbers += [plan.in_channels * inputs, 1 if last else inputs, plan.out_channels * outputs, 1 if last else outputs]
    numbers += [*weight_steps(cut.product), cut.box[0], cut.units, cut.blocks, cut.row_tiles, math.prod(cut.boxes)]
    numbers += [cut.steps, cut.chunks, cut.slots, int(cut.group_axis), _TOGETHER[cut.together]]
    numbers.append(ACTIVATION_CODES[plan.activation])
    return struct.pack(f"@{len(numbers)}if", *numbers, plan.slope)


def hopper_launches(plan: Plan, device: DeviceProperties, tile_blocks: int | None = None) -> LaunchPlan:
    """Launch the kernel, or, for tests, with tiles of so many blocks."""
    cut = cut_product(plan, device)
    if cut is None:
        raise ValueError(f"no kernel for Hopper computes {plan}")
    if tile_blocks:
        cut = replace(cut, tile_blocks=tile_blocks)
    geometry, element = Bytes(geometry_bytes(cut)), C_TYPES[plan.dtype]
    packed = Buffer("packed", cut.packed_bytes, zeroed=True)
    steps = KernelLaunch(
        f"gtc::hopper_steps<{cut.tile_blocks}>", "hopper_pack.cuh", (-(-cut.row_tiles // THREADS), 1, 1),
        (THREADS, 1, 1), 0, (geometry, packed),
    )  # fmt: skip
    slots = (cut.steps - 1) * cut.tile_blocks * cut.chunks
    pack = KernelLaunch(
        f"gtc::hopper_pack<{element},{cut.tile_blocks}>", "hopper_pack.cuh", (slots, cut.row_tiles * plan.groups, 1),
        (THREADS, 1, 1), 0, (geometry, WEIGHT, packed),
    )  # fmt: skip
    map_of_x: Argument = Bytes(bytes(128)) if cut.source.startswith("LOAD") else cut.tensor_map()
    launch = KernelLaunch(
        f"gtc::hopper_gather<{element},gtc::{cut.source},{cut.tile_blocks}>", "hopper_gather.cuh",
        (min(cut.tiles, device.multiprocessors), 1, 1), (_THREADS, 1, 1), cut.shared,
        (geometry, map_of_x, X, WEIGHT, packed, bias_of(plan), OUT),
    )  # fmt: skip
    origins = tuple((axis.origin, axis.axis.stride, axis.units) for axis in cut.axes)
    layout = ("hopper", cut.product.is_swapped, cut.tile_blocks, cut.together == "CHANNELS_2", origins)
    return LaunchPlan(layout, (steps, pack), (launch,) if plan.batch else ())
