"""How the gradient by the weight is cut: its pixels into parts, and its channels where memory is short.

Where the pixels are cut depends on the plan alone, and with it the result to the last bit. Tiles depend on the device,
and the result does not depend on them.
"""

from __future__ import annotations

import itertools
import math

from ...problem.plan import Plan
from .choose import Work, item_size
from .traits import Cut, Tile

#: Scratch memory at most, in bytes, or that of one tile of rows if that is more: room for all partial sums of most
#: layers, and little beside the memory of a device.
MOST_WORKSPACE = 32 * 1024 * 1024
#: Tiles of 32 x 32 into which the gather cuts the products at least, where there are pixels for it: some for each
#: multiprocessor of the largest devices, which have 132 to 188. Not measured.
GATHER_TILES = 1024
#: Pixels of a part of the gather, at least: 16 slices of a tile, so that writing its sums and adding them up stays a
#: small share. Not measured.
LEAST_PIXELS = 256
#: Pixels of a block of the scatters. Not measured.
BLOCK_PIXELS = 1024
#: Copies of the gradient that the scatter without atomics adds to, at most: with those of a small layer, which has few
#: tiles, a block for each multiprocessor. Not measured.
MOST_COPIES = 128


def stamp_of(plan: Plan) -> int:
    """Weights of an input channel, one after another in memory."""
    return plan.out_channels // plan.groups * math.prod(plan.kernel)


def work_of_weight(plan: Plan, parts: int) -> Work:
    """Return the products of all groups and parts."""
    return Work(plan.in_channels // plan.groups, stamp_of(plan), plan.groups * parts)


def parts_of_gather(plan: Plan) -> tuple[int, int]:
    """Into how many parts, and of how many pixels, the gather cuts; one where the sums of two would not fit."""
    pixels, work = _pixels(plan), work_of_weight(plan, 1)
    tiles = -(-work.rows // 32) * -(-work.columns // 32) * work.products
    parts = max(1, min(-(-GATHER_TILES // tiles), pixels // LEAST_PIXELS, _copies_that_fit(plan)))
    size = max(1, -(-pixels // parts))
    return max(1, -(-pixels // size)), size


def gather_cut(plan: Plan, tile: Tile) -> Cut:
    """Cut for the gather; it takes all channels at once."""
    parts, pixels = parts_of_gather(plan)
    return Cut(parts, pixels, 0, plan.groups * _row_tiles(plan, tile), 0, plan.in_channels * stamp_of(plan))


def atomic_cuts(plan: Plan, tile: Tile) -> list[Cut]:
    """Cut for the scatter with atomic additions, of which half types need float32 sums in the workspace."""
    in_place = plan.dtype == plan.accumulate
    return _passes(plan, tile, blocks_of_scatter(plan), 0 if in_place else item_size(plan))


def owned_cuts(plan: Plan, tile: Tile) -> list[Cut]:
    """Cut for the scatter into copies."""
    copies = max(1, min(blocks_of_scatter(plan), MOST_COPIES, _copies_that_fit(plan)))
    return _passes(plan, tile, copies, copies * item_size(plan))


def blocks_of_scatter(plan: Plan) -> int:
    """Blocks of pixels of the scatters."""
    return max(1, -(-_pixels(plan) // BLOCK_PIXELS))


def _passes(plan: Plan, tile: Tile, parts: int, workspace: int) -> list[Cut]:
    """Cut the channels so that what is summed at a time fits: `workspace` bytes for each element."""
    channels, row_tiles, stamp = plan.in_channels // plan.groups, _row_tiles(plan, tile), stamp_of(plan)
    tiles = plan.groups * row_tiles
    room = MOST_WORKSPACE // (workspace * stamp * min(tile.rows, channels)) if workspace else tiles
    each = max(1, min(tiles, room))

    def start(number: int) -> int:
        return (number // row_tiles * channels + number % row_tiles * tile.rows) * stamp

    ends = [*range(0, tiles, each), tiles]
    return [
        Cut(parts, BLOCK_PIXELS, low, high - low, start(low), start(high) - start(low))
        for low, high in itertools.pairwise(ends)
    ]


def _row_tiles(plan: Plan, tile: Tile) -> int:
    return -(-(plan.in_channels // plan.groups) // tile.rows)


def _pixels(plan: Plan) -> int:
    return plan.batch * math.prod(plan.in_spatial)


def _copies_that_fit(plan: Plan) -> int:
    return MOST_WORKSPACE // (plan.in_channels * stamp_of(plan) * item_size(plan))
