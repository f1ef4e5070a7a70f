"""How a problem is cut for a device: which kernel, which tile, which box; plain arithmetic, no arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.sides import Sides
from .traits import Box, Tile

if TYPE_CHECKING:
    from .cuda import Device

#: Tiles of the gather by element size of the sums, the most economical one first. A tile of twice the sides
#: reads half as much per product; a smaller one leaves fewer processors idle. A float64 takes two registers.
_TILES = {
    4: (Tile(64, 64, 16, 8, 8), Tile(32, 32, 16, 4, 4)),
    8: (Tile(32, 64, 16, 4, 8), Tile(32, 32, 16, 4, 4)),
}
#: Tiles of the scatters, which need registers for the places of the stamps too.
_STAMP_TILES = (Tile(64, 64, 16, 4, 4), Tile(32, 32, 16, 4, 4))
#: For devices whose blocks have a few threads only: the simulator.
_TINY = Tile(8, 8, 8, 4, 4)
#: With fewer tiles for each multiprocessor of the device a smaller tile is taken: while one waits for memory, another
#: computes. Not measured.
_TILES_PER_PROCESSOR = 2
#: Output channels that a thread of the direct kernel computes at most.
_DIRECT_CHANNELS = 4
#: Threads of a block that share nothing.
_THREADS = 256
#: Scatter takes about twice the operations: it computes with the tile's edges what the box's neighbours compute too.
SCATTER_WORK = 2.0
#: Shared memory that the slices and tables of a block take besides an owned box, in bytes, with room to spare.
_TABLES = 20 * 1024


def item_size(plan: Plan) -> int:
    """Bytes of one sum."""
    return DTYPES[plan.accumulate].size


def is_direct(sides: Sides, device: Device) -> bool:
    """Whether the direct kernel is the right gather: where a tile would be mostly empty."""
    smallest = gather_tiles(sides.plan, device)[-1]
    return sides.rows <= smallest.rows // 4 or sides.source_channels <= smallest.depth // 4


def direct_channels(sides: Sides) -> int:
    """Output channels that a thread of the direct kernel computes."""
    return min(sides.rows, _DIRECT_CHANNELS)


def gather_tiles(plan: Plan, device: Device) -> Sequence[Tile]:
    """Tiles that the gather can use on the device, the most economical one first."""
    return _fitting(_TILES[item_size(plan)], device)


def stamp_tiles(device: Device) -> Sequence[Tile]:
    """Tiles that the scatters can use on the device, the most economical one first."""
    return _fitting(_STAMP_TILES, device)


def _fitting(tiles: Sequence[Tile], device: Device) -> Sequence[Tile]:
    return [tile for tile in tiles if tile.threads <= device.threads_per_block] or [_TINY]


class Work(NamedTuple):
    """Matrix products, of all groups together: rows and columns of each, and how many there are."""

    rows: int
    columns: int
    products: int


def work_of(sides: Sides) -> Work:
    """Return the products of the operator or of its gradient by x."""
    return Work(sides.rows, sides.columns, sides.count * sides.plan.groups)


def choose_tile(tiles: Sequence[Tile], device: Device, work: Work) -> Tile:
    """Take the most economical tile that gives every processor work."""
    for tile in tiles:
        if tile_count(tile, work) >= _TILES_PER_PROCESSOR * device.multiprocessors:
            return tile
    return tiles[-1]


def tile_count(tile: Tile, work: Work) -> int:
    """Tiles that cover the products."""
    return -(-work.rows // tile.rows) * -(-work.columns // tile.columns) * work.products


def idle_ratio(blocks: int, device: Device) -> float:
    """Time of all multiprocessors, over that in which they have work, all blocks being equal."""
    return -(-blocks // device.multiprocessors) * device.multiprocessors / blocks if blocks else 1.0


def owned_elements(item: int, device: Device) -> int:
    """Elements of `item` bytes in an owned box: what is left of the shared memory, as a power of two."""
    if stamp_tiles(device) == [_TINY]:
        return 128
    return 1 << (max(256, (device.shared_bytes - _TABLES) // item).bit_length() - 1)


def choose_box(sides: Sides, device: Device, tile: Tile) -> Box:
    """Cut the result of a scatter into boxes (channels, depth, height, width) of at most `owned_elements`.

    Channels first, as many as fill the rows of a tile with their stamps. Then the axis along which the box
    is shortest beside a stamp is doubled, as long as there is room: inputs at its border are read by two boxes.
    """
    channels = min(sides.result_channels, max(1, tile.rows // math.prod(axis.most_taps for axis in sides.axes)))
    room = owned_elements(item_size(sides.plan), device) // channels
    sizes = [1, 1, 1]
    while True:
        open_axes = [a for a in range(3) if sizes[a] < sides.axes[a].far]
        if not open_axes or 2 * math.prod(sizes) > room:
            return channels, sizes[0], sizes[1], sizes[2]
        sizes[min(open_axes, key=lambda a: sizes[a] / sides.axes[a].reach)] *= 2


def box_count(sides: Sides, box: Box) -> int:
    """Boxes of all images and groups."""
    per_image = math.prod(-(-axis.far // size) for axis, size in zip(sides.axes, box[1:], strict=True))
    return sides.plan.batch * sides.plan.groups * -(-sides.result_channels // box[0]) * per_image


def elementwise_grid(elements: int, device: Device) -> tuple[int, int]:
    """Blocks and threads for kernels whose threads share nothing."""
    threads = min(_THREADS, device.threads_per_block)
    return -(-elements // threads), threads
