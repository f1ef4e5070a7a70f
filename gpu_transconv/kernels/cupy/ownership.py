"""How the output is cut into boxes with one owner each, for the deterministic scatter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from ...problem.axis import Axis
from ...problem.plan import Plan
from .geometry import View, stamp_view
from .shapes import DeviceFacts, Shape, Tile
from .tiles import busy, choose, input_of, resident_blocks, shapes_for

#: Shared memory for the sums that a block owns.
_OWNED_BYTES = 24 << 10

#: Collecting the stamps, as a multiple of making them.
_COLLECTING = 2.0


@dataclass(frozen=True, slots=True)
class Ownership:
    """The members of Cut in scatter_tiles.cuh, and the tile that makes the stamps."""

    view: View
    tile: Tile
    out: tuple[int, ...]
    inputs: tuple[int, ...]
    tiles: tuple[int, ...]
    channels: int
    channel_tiles: int
    work: int  # multiply-adds, with those on padding and those made twice
    effort: float  # as of a product, see tiles.py
    cost: float


@lru_cache(maxsize=1024)
def own(plan: Plan, device: DeviceFacts, shape: Shape | None = None) -> Ownership:
    """Cut the output so that least is computed twice, for tiles of one shape or of the best."""
    shapes = [shape] if shape else shapes_for(plan, device)
    return min((_own(plan, device, s) for s in shapes), key=lambda owned: owned.cost)


def cheaper(plan: Plan, device: DeviceFacts) -> str:
    """Name the formulation that should cost less."""
    return "scatter" if own(plan, device).cost < choose(plan, device).cost else "gather"


def _own(plan: Plan, device: DeviceFacts, shape: Shape) -> Ownership:
    view = stamp_view(plan, channel_major=True)
    gathered = input_of(view, shape.tensor)
    # A box is no run of memory, so x is read by element or by channel.
    tile = Tile(shape, plan.dtype, "PLANES" if gathered == "PLANES_16" else gathered)
    most = max(1, _OWNED_BYTES // tile.sum_bytes)
    out, inputs = _box(plan.axes, shape.pixels, most)
    units, of_group = math.prod(plan.kernel), plan.out_channels // plan.groups
    channels = max(1, min(of_group, most // math.prod(out), -(-shape.rows // units)))
    tiles = tuple(-(-axis.output_size // size) for axis, size in zip(plan.axes, out, strict=True))
    channel_tiles = -(-of_group // channels)
    boxes = math.prod(-(-a.inputs_reaching(o) // i) for a, o, i in zip(plan.axes, out, inputs, strict=True))
    blocks = plan.groups * plan.batch * channel_tiles * math.prod(tiles)
    depth = -(-(plan.in_channels // plan.groups) // tile.depth) * tile.depth
    work = blocks * boxes * -(-channels * units // shape.rows) * shape.rows * shape.pixels * (depth + 2 * tile.depth)
    effort = _COLLECTING * work / shape.efficiency
    cost = effort / max(busy(blocks, resident_blocks(shape, device)), 1e-9)
    return Ownership(view, tile, out, inputs, tiles, channels, channel_tiles, work, effort, cost)


def _box(axes: tuple[Axis, ...], pixels: int, most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Output blocks and inputs of one owner: a box grown axis by axis, the last first, while both fit."""
    blocks = [1, 1, 1]
    grown = True
    while grown:
        grown = False
        for a in (2, 1, 0):
            larger = [*blocks[:a], blocks[a] * 2, *blocks[a + 1 :]]
            if blocks[a] < axes[a].blocks and _volume(axes, larger) <= most and _inputs(axes, larger) <= pixels:
                blocks, grown = larger, True
    out = _sizes(axes, blocks)
    if math.prod(out) > most:  # a stride beyond what one block can own
        out = _shrink(out, most)
    reach = [min(a.inputs_reaching(o), a.size) for a, o in zip(axes, out, strict=True)]
    return out, _fit_inputs(reach, pixels)


def _sizes(axes: tuple[Axis, ...], blocks: list[int]) -> tuple[int, ...]:
    return tuple(min(n * axis.stride, axis.output_size) for n, axis in zip(blocks, axes, strict=True))


def _volume(axes: tuple[Axis, ...], blocks: list[int]) -> int:
    return math.prod(_sizes(axes, blocks))


def _inputs(axes: tuple[Axis, ...], blocks: list[int]) -> int:
    return math.prod(min(a.inputs_reaching(o), a.size) for a, o in zip(axes, _sizes(axes, blocks), strict=True))


def _shrink(sizes: tuple[int, ...], most: int) -> tuple[int, ...]:
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
