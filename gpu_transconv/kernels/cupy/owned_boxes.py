"""How the output is cut into boxes with one owner each, for the deterministic scatter."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...problem.axis import Axis
from ...problem.plan import Plan
from ...problem.product import stamps, tap_stamps
from .choose import busy, choose_gather, input_of, resident_blocks, shapes_for
from .geometry import PackedProduct, index_format, pack_product
from .tile_shapes import DeviceProperties, Tile, TileShape

#: Bytes of shared memory for the sums that a block owns: with the tile's own they are within the 64 KiB of compute
#: capability 7.5, which tests/kernels/cupy/test_cubin.py holds.
_OWNED_BYTES = 24 << 10

#: Making and collecting the stamps, as a multiple of making them; an estimate, not measured.
_COLLECTING = 2.0


@dataclass(frozen=True, slots=True)
class OwnedBoxes:
    """The members of OwnedBoxes in scatter_owned.cuh, and the tile that makes the stamps."""

    packed: PackedProduct
    tile: Tile
    outputs: tuple[int, ...]  # sizes of an owner's box
    inputs: tuple[int, ...]  # sizes of the boxes of inputs that it goes through
    boxes: tuple[int, ...]  # boxes of the output on each axis
    channels: int  # of an owner
    channel_blocks: int  # of a group
    work: int  # multiply-adds, with those on padding and those made twice
    cost: float  # as of a product, see choose.py

    @property
    def blocks(self) -> int:
        """Number of owners."""
        plan = self.packed.plan
        return plan.batch * plan.groups * self.channel_blocks * math.prod(self.boxes)

    @property
    def numbers(self) -> bytes:
        """The struct, as a kernel is given it."""
        values = (*self.outputs, *self.inputs, *self.boxes, self.channels, self.channel_blocks)
        return struct.pack(f"=11{index_format(self.packed.plan)}", *values)

    @property
    def sum_bytes(self) -> int:
        """Bytes of shared memory for an owner's sums."""
        return self.channels * math.prod(self.outputs) * self.tile.sum_bytes


@lru_cache(maxsize=1024)
def cut_output(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> OwnedBoxes:
    """Cut the output so that least is computed twice, for tiles of one shape or of the best."""
    shapes = [shape] if shape else shapes_for(plan, device)
    return min((_cut_for(plan, device, s) for s in shapes), key=lambda owned: owned.cost)


def cheaper(plan: Plan, device: DeviceProperties) -> str:
    """Name the formulation that should cost less."""
    return "scatter" if cut_output(plan, device).cost < choose_gather(plan, device).cost else "gather"


def _cut_for(plan: Plan, device: DeviceProperties, shape: TileShape) -> OwnedBoxes:
    """Cut the output for tiles of one shape, and predict the cost: whole tiles, for every box of inputs."""
    axes: tuple[Axis, ...] = plan.axes
    phases = 1
    if plan.operation == "input_grad":
        packed = pack_product(tap_stamps(plan), channel_major=True)
        plan, axes, phases = packed.plan, _largest_phase(plan.axes), packed.product.count
    else:
        packed = pack_product(stamps(plan), channel_major=True)
    gathered = input_of(packed, shape)
    # A box is no run of memory, so x is read by element or by channel.
    tile = Tile(shape, plan.dtype, "PLANES" if gathered == "PLANES_16" else gathered)
    most = max(1, _OWNED_BYTES // tile.sum_bytes)
    outputs, inputs = _box(axes, shape.pixels, most)
    of_group = plan.out_channels // plan.groups
    units = packed.product.rows // of_group
    channels = max(1, min(of_group, most // math.prod(outputs), -(-shape.rows // units)))
    boxes = tuple(-(-axis.output_size // size) for axis, size in zip(axes, outputs, strict=True))
    channel_blocks = -(-of_group // channels)
    rounds = phases * math.prod(-(-a.inputs_reaching(o) // i) for a, o, i in zip(axes, outputs, inputs, strict=True))
    blocks = plan.groups * plan.batch * channel_blocks * math.prod(boxes)
    depth = -(-(plan.in_channels // plan.groups) // tile.depth) * tile.depth
    work = blocks * rounds * -(-channels * units // shape.rows) * shape.rows * shape.pixels * (depth + 2 * tile.depth)
    effort = _COLLECTING * work / shape.efficiency
    cost = effort / max(busy(blocks, resident_blocks(shape, device)), 1e-9)
    return OwnedBoxes(packed, tile, outputs, inputs, boxes, channels, channel_blocks, work, cost)


def _largest_phase(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes of one phase of grad_output: a transposed convolution with stride 1, see source_phase.cuh."""
    return tuple(Axis(a.blocks, a.most_taps, 1, a.shift_step, 0, a.size) for a in axes)


def _box(axes: Sequence[Axis], pixels: int, most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Output blocks and inputs of one owner: a box grown axis by axis, the last first, while both fit."""
    blocks = [1, 1, 1]
    grown = True
    while grown:
        grown = False
        for a in (2, 1, 0):
            larger = [*blocks[:a], blocks[a] * 2, *blocks[a + 1 :]]
            if blocks[a] < axes[a].blocks and _volume(axes, larger) <= most and _inputs(axes, larger) <= pixels:
                blocks, grown = larger, True
    outputs = _sizes(axes, blocks)
    if math.prod(outputs) > most:  # a stride beyond what one block can own
        outputs = _shrink(outputs, most)
    reach = [min(a.inputs_reaching(o), a.size) for a, o in zip(axes, outputs, strict=True)]
    return outputs, _fit_inputs(reach, pixels)


def _sizes(axes: Sequence[Axis], blocks: list[int]) -> tuple[int, ...]:
    return tuple(min(n * axis.stride, axis.output_size) for n, axis in zip(blocks, axes, strict=True))


def _volume(axes: Sequence[Axis], blocks: list[int]) -> int:
    return math.prod(_sizes(axes, blocks))


def _inputs(axes: Sequence[Axis], blocks: list[int]) -> int:
    return math.prod(min(a.inputs_reaching(o), a.size) for a, o in zip(axes, _sizes(axes, blocks), strict=True))


def _shrink(sizes: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Cut sizes, the first axis first, until at most so many elements are left."""
    shrunk = list(sizes)
    for a in (0, 1, 2):
        others = math.prod(shrunk) // shrunk[a]
        shrunk[a] = max(1, min(shrunk[a], most // others))
    return tuple(shrunk)


def _fit_inputs(reach: list[int], pixels: int) -> tuple[int, ...]:
    """Sizes of a box of inputs with at most `pixels` of them, the last axis longest."""
    fitted, left = [1, 1, 1], pixels
    for a in (2, 1, 0):
        fitted[a] = max(1, min(reach[a], left))
        left //= fitted[a]
    return tuple(fitted)
