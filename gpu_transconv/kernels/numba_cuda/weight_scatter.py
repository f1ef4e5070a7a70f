"""The gradient by the weight, scattered: every block of pixels adds what it brings to all weights (`weight_tile`).

All pixels reach the same weights, so every addition can collide with another, and again there are two ways out:

*atomic*: the sums of a block of pixels are added to the gradient in memory by atomic additions, in any order.

*tiles*: a few copies of the gradient, how many is fixed by the plan, have the blocks of pixels in turns, and of a copy
every tile has one owner, who adds block after block. At the end the copies are added up in their order.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, KernelFunction, cuda, inlined, types
from .traits import Traits
from .weight_tile import WeightTile, make_weight_tile


def make_weight_atomic(traits: Traits) -> KernelFunction:
    """Build the kernel that adds to `sums` by atomic additions; they are zero before."""
    return _make_scatter(traits, _make_add(make_weight_tile(traits)))


def make_weight_owned(traits: Traits) -> KernelFunction:
    """Build the kernel that adds to copies of the gradient, which hold nothing before."""
    return _make_scatter(traits, _make_add_owned(make_weight_tile(traits)))


def _make_scatter(traits: Traits, add: DeviceFunction) -> KernelFunction:
    """Build the kernel, in which a thread adds its elements of each block of pixels by `add`."""
    tile, number = make_weight_tile(traits), getattr(types, traits.accumulate)
    columns, depth, row_width, column_width = tile.columns, tile.depth, tile.row_width, tile.column_width
    thread_rows, thread_columns, index = tile.thread_rows, tile.thread_columns, tile.index
    column_words, row_words = at.COLUMN_WORDS, at.ROW_WORDS
    clear, place, find_tile, describe, add_pixels = tile[:5]

    def weight_scatter(x, grad, out, g):
        """Read x and the gradient of the output; add to `out`, or to copies of it that lie one after another.

        A block takes one tile of a copy after another, that is some input channels, output channels and taps, and for
        it every so-many-th block of pixels. With atomic additions nobody owns `out`; otherwise each tile's block does.
        """
        left = cuda.shared.array((depth, row_width), number)
        right = cuda.shared.array((depth, column_width), number)
        offsets = cuda.shared.array((row_words, columns), index)  # of a tap from its stamp's corner; channel, place
        corners = cuda.shared.array((column_words, depth), index)  # of a pixel's stamp in the output, image
        source = cuda.shared.array(depth, index)
        sums = cuda.local.array((thread_rows, thread_columns), number)
        t = types.uint32(cuda.threadIdx.x)
        row, column = place(t)
        pixels = g[at.BATCH] * g[at.BLOCKS_D] * g[at.BLOCKS_H] * g[at.BLOCKS_W]
        copies, step = g[at.PARTS], g[at.PART_PIXELS]
        column_tiles = (g[at.COUT] * g[at.MOST_TAPS] + columns - 1) // columns
        for item in range(cuda.blockIdx.x, column_tiles * g[at.ROW_TILES] * copies, cuda.gridDim.x):
            copy, group, row0, column0, stamp = find_tile(item, g)
            describe(offsets, column0, stamp, t, g)
            shared, thread = (left, right, offsets, corners, source), (t, row, column)
            for first in range(copy * step, pixels, copies * step):
                clear(sums)
                add_pixels(shared, sums, x, grad, (group, row0), (first, min(first + step, pixels)), thread, g)
                add(out, sums, offsets, (copy, first == copy * step), group, row0 + row, column, g)
            cuda.syncthreads()

    return weight_scatter


def _make_add(tile: WeightTile) -> DeviceFunction:
    thread_rows, thread_columns, offset = tile.thread_rows, tile.thread_columns, tile.offset
    step_r, step_c = tile.rows // thread_rows, tile.columns // thread_columns

    @inlined
    def add(out, sums, offsets, _copy, group, row, column, g):
        """Add the thread's elements to the gradient, of which there is one copy."""
        stamp = g[at.COUT] * g[at.MOST_TAPS]
        for i in range(thread_rows):
            if row + i * step_r < g[at.CIN]:
                channel = (group * g[at.CIN] + row + i * step_r) * stamp - g[at.RESULT_START]
                for j in range(thread_columns):
                    c = column + j * step_c
                    if offsets[at.CHANNEL, c] >= 0:
                        cuda.atomic.add(out, offset(channel + offsets[at.PLACE, c]), sums[i, j])

    return add


def _make_add_owned(tile: WeightTile) -> DeviceFunction:
    thread_rows, thread_columns, offset = tile.thread_rows, tile.thread_columns, tile.offset
    step_r, step_c = tile.rows // thread_rows, tile.columns // thread_columns

    @inlined
    def add(out, sums, offsets, copy, group, row, column, g):
        """Add the thread's elements to those that it owns of a copy; the first ones are written."""
        number, is_first = copy
        stamp, start = g[at.COUT] * g[at.MOST_TAPS], number * g[at.RESULT] - g[at.RESULT_START]
        for i in range(thread_rows):
            if row + i * step_r < g[at.CIN]:
                channel = start + (group * g[at.CIN] + row + i * step_r) * stamp
                for j in range(thread_columns):
                    c = column + j * step_c
                    if offsets[at.CHANNEL, c] >= 0:
                        place = offset(channel + offsets[at.PLACE, c])
                        if is_first:
                            out[place] = sums[i, j]
                        else:
                            out[place] += sums[i, j]

    return add
