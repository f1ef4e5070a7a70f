"""The gradient by the weight as a matrix product: what its gather and its scatter have in common.

It is a sum over pixels, and one product with the input channels as rows:

    gradient[input channel, (channel, tap)] = sum over pixels of
        x[input channel, pixel] * grad_output[channel, pixel * stride + tap * dilation - padding]

So the columns of a tile are what the rows of a tile of `stamps` are, and the depth, through which a block of threads
goes slice by slice as in `tile`, is what their columns are. Where a tap leads beyond the borders there is no product.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from . import geometry as at
from .cuda import DeviceFunction, Number, cuda, inlined, types
from .numbers import make_integers
from .stamps import make_describe_columns
from .tile import BANKS, make_product
from .traits import Tile, Traits


class WeightTile(NamedTuple):
    """The device functions of a tile, and the sizes and types that a kernel declares its arrays with."""

    clear: DeviceFunction
    place: DeviceFunction
    find_tile: DeviceFunction
    describe: DeviceFunction
    add_pixels: DeviceFunction
    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    #: Words in a row of the two slices; with channels first some more than used, since there neighbouring threads write
    #: below each other.
    row_width: int
    column_width: int
    index: Number
    offset: Number


def make_weight_tile(traits: Traits) -> WeightTile:
    """Build the functions for one tile size and one set of types."""
    tile = traits.tile
    assert tile is not None
    product = make_product(replace(traits, channels_last=False))  # the contiguous axis of the result is its columns
    more = 0 if traits.channels_last else max(1, BANKS // tile.depth)
    return WeightTile(
        product.clear,
        product.place,
        _make_find_tile(traits, tile),
        _make_describe(traits, tile),
        _make_add_pixels(traits, tile),
        tile.rows,
        tile.columns,
        tile.depth,
        tile.thread_rows,
        tile.thread_columns,
        tile.rows + more,
        tile.columns + more,
        product.index,
        product.offset,
    )


def _make_find_tile(traits: Traits, tile: Tile) -> DeviceFunction:
    _, _, split = make_integers(traits.index)
    rows, columns = tile.rows, tile.columns

    @inlined
    def find_tile(item, g):
        """Part of the pixels, group, and first row and column of a tile; how many columns there are."""
        stamp = g[at.COUT] * g[at.MOST_TAPS]
        rest, column_tile = split(item, (stamp + columns - 1) // columns)
        part, row_tile = split(rest, g[at.ROW_TILES])
        group, row_tile = split(g[at.FIRST_ROW_TILE] + row_tile, (g[at.CIN] + rows - 1) // rows)
        return part, group, row_tile * rows, column_tile * columns, stamp

    return find_tile


def _make_describe(traits: Traits, tile: Tile) -> DeviceFunction:
    """Build ``describe``, which fills the block's table of the columns of a tile."""
    columns, threads, last = tile.columns, tile.threads, traits.channels_last
    index, _, split = make_integers(traits.index)

    @inlined
    def describe(offsets, first, limit, t, g):
        """For every column: offset of its tap from the stamp's corner, channel (-1: none), place in the weights.

        Neighbours are neighbours in the weights, or with channels last in what is read.
        """
        taps = g[at.MOST_TAPS]
        for c in range(t, columns, threads):
            if last:
                tap, channel = split(first + c, g[at.COUT])
            else:
                channel, tap = split(first + c, taps)
            rest, k_w = split(tap, g[at.KERNEL_W])
            k_d, k_h = split(rest, g[at.KERNEL_H])
            offsets[at.D, c] = index(k_d * g[at.SHIFT_STEP_D])
            offsets[at.H, c] = index(k_h * g[at.SHIFT_STEP_H])
            offsets[at.W, c] = index(k_w * g[at.SHIFT_STEP_W])
            offsets[at.CHANNEL, c] = channel if first + c < limit else index(-1)
            offsets[at.PLACE, c] = index(channel * taps + tap)

    return describe


def _make_add_pixels(traits: Traits, tile: Tile) -> DeviceFunction:
    """Build ``add_pixels``, the loop over the pixels that a tile sums over."""
    depth, threads = tile.depth, tile.threads
    multiply, multiply_present = make_product(traits).multiply, _make_multiply_present(tile)
    find_pixels, (load_rows, load_columns) = make_describe_columns(traits, depth, threads), _make_loads(traits, tile)

    @inlined
    def add_pixels(shared, sums, x, grad, tile, pixels, thread, g):
        """Add the products of the pixels from the first to before the last of `pixels` to the thread's own sums.

        Reads x, grad and the `offsets` of the tile's columns, which other threads may just have written. All threads
        of the block fill the rest of what is `shared`. `tile` is group and first row, `thread` the thread's number,
        first row and first column in the tile.
        """
        left, right, offsets, corners, source = shared
        group, row0 = tile
        t, row, column = thread
        blocks = 0, (0, 0, 0), (g[at.BLOCKS_D], g[at.BLOCKS_H], g[at.BLOCKS_W])
        shift_d, shift_h = g[g[at.TABLE_D] + at.FIRST_SHIFT], g[g[at.TABLE_H] + at.FIRST_SHIFT]
        origin = -shift_d, -shift_h, -g[g[at.TABLE_W] + at.FIRST_SHIFT]
        for first in range(pixels[0], pixels[1], depth):
            find_pixels(corners, source, first, pixels[1], blocks, (0, 0, 0), origin, t, g)
            cuda.syncthreads()
            nonfinite = load_rows(left, x, source, group * g[at.CIN] + row0, g[at.CIN] - row0, t, g)
            load_columns(right, grad, corners, offsets, group, t, g)
            if cuda.syncthreads_or(types.int32(nonfinite)):  # a barrier that also takes a vote
                multiply_present(left, right, sums, corners, offsets, row, column, g)
                cuda.syncthreads()  # since that reads the corners too, which are the next to be written
            else:
                multiply(left, right, sums, row, column)

    return add_pixels


def _make_loads(traits: Traits, tile: Tile) -> tuple[DeviceFunction, DeviceFunction]:
    """Build ``load_rows`` and ``load_columns``: the threads of a block fill its slices in shared memory."""
    number, last = getattr(types, traits.accumulate), traits.channels_last
    _, offset, _ = make_integers(traits.index)
    rows, columns, depth, threads = tile.rows, tile.columns, tile.depth, tile.threads

    @inlined
    def load_rows(left, x, source, channel, rows_left, t, g):
        """Copy `rows_left` channels of x from `channel` on, of the pixels at `source`; zeros beyond.

        Return whether one was not finite.
        """
        nonfinite = 0
        for e in range(t, depth * rows, threads):
            if last:
                k, r = e // rows, e % rows
            else:
                k, r = e % depth, e // depth
            value = number(0)
            if r < rows_left and source[k] >= 0:
                value = number(x[offset(source[k] + (channel + r) * g[at.X_CHANNEL])])
            left[k, r] = value
            if value - value != number(0):
                nonfinite = 1
        return nonfinite

    @inlined
    def load_columns(right, grad, corners, offsets, group, t, g):
        """Copy what the taps of the columns find in `grad`, of every pixel; zeros where that is nothing."""
        for e in range(t, depth * columns, threads):
            if last:
                k, c = e // columns, e % columns
            else:
                k, c = e % depth, e // depth
            o_d, o_h = corners[at.D, k] + offsets[at.D, c], corners[at.H, k] + offsets[at.H, c]
            o_w = corners[at.W, k] + offsets[at.W, c]
            inside = 0 <= o_d < g[at.OUT_D] and 0 <= o_h < g[at.OUT_H] and 0 <= o_w < g[at.OUT_W]
            value = number(0)
            if inside and corners[at.IMAGE, k] >= 0 and offsets[at.CHANNEL, c] >= 0:
                place = ((o_d * g[at.OUT_H] + o_h) * g[at.OUT_W] + o_w) * g[at.Y_PIXEL]
                place += (group * g[at.COUT] + offsets[at.CHANNEL, c]) * g[at.Y_CHANNEL]
                value = number(grad[offset(corners[at.IMAGE, k] * g[at.Y_BATCH] + place)])
            right[k, c] = value

    return load_rows, load_columns


def _make_multiply_present(tile: Tile) -> DeviceFunction:
    depth, thread_rows, thread_columns = tile.depth, tile.thread_rows, tile.thread_columns
    step_r, step_c = tile.rows // thread_rows, tile.columns // thread_columns

    @inlined
    def multiply_present(left, right, sums, corners, offsets, row, column, g):
        """Multiply without what lies beyond the borders: its zeros times infinity would be NaN."""
        for k in range(depth):
            for j in range(thread_columns):
                c = column + j * step_c
                o_d, o_h = corners[at.D, k] + offsets[at.D, c], corners[at.H, k] + offsets[at.H, c]
                o_w = corners[at.W, k] + offsets[at.W, c]
                if 0 <= o_d < g[at.OUT_D] and 0 <= o_h < g[at.OUT_H] and 0 <= o_w < g[at.OUT_W]:
                    for i in range(thread_rows):
                        sums[i, j] += left[k, row + i * step_r] * right[k, c]

    return multiply_present
