"""A block's piece of a matrix product, through shared memory: what gather and scatter have in common.

Both formulations multiply a matrix of filters (rows) with a matrix of input pixels (columns) over the input
channels (depth). A block of threads owns ``rows x columns`` of the result. It goes through the depth in steps:

1. all threads together copy a slice of both matrices into shared memory, neighbouring threads reading
   neighbouring addresses, so that the device fetches whole lines;
2. a barrier;
3. every thread multiplies its own rows with its own columns out of shared memory, where each value is read by
   many threads, and adds the products up in registers;
4. a barrier, and the next slice.

A thread's rows are ``row, row + STEP_R, ...`` and its columns ``column, column + STEP_C, ...``. So the threads
of a warp read neighbouring words of shared memory, which lie in different banks, or the same word, which is
broadcast; and when they store, they store neighbouring elements.
"""

from __future__ import annotations

from typing import NamedTuple

from . import geometry as at
from .cuda import DeviceFunction, Number, cuda, inlined, types
from .numbers import make_integers
from .traits import Tile, Traits

#: Memory banks of a streaming multiprocessor, each 4 bytes wide.
BANKS = 32


class Product(NamedTuple):
    """The device functions of a tile, and the sizes and types that a kernel declares its arrays with."""

    clear: DeviceFunction
    load_filters: DeviceFunction
    load_inputs: DeviceFunction
    multiply: DeviceFunction
    multiply_present: DeviceFunction
    place: DeviceFunction
    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    #: Words in a row of the slice of inputs; with channels last a few more than it has columns, since there
    #: neighbouring threads write below each other.
    width: int
    index: Number
    offset: Number


def make_product(traits: Traits) -> Product:
    """Build the functions for one tile size and one set of types."""
    tile = traits.tile
    assert tile is not None
    integers = make_integers(traits.index)
    return Product(
        _make_clear(tile.thread_rows, tile.thread_columns, getattr(types, traits.accumulate)),
        *_make_loads(traits, tile),
        *_make_multiplies(traits, tile),
        _make_place(traits, tile),
        tile.rows,
        tile.columns,
        tile.depth,
        tile.thread_rows,
        tile.thread_columns,
        tile.columns + (max(1, BANKS // tile.depth) if traits.channels_last else 0),
        integers.index,
        integers.offset,
    )


def make_find_tile(traits: Traits) -> DeviceFunction:
    """Build ``find_tile``, which tells a block what the tile of a number is."""
    _, _, split = make_integers(traits.index)
    tile = traits.tile
    assert tile is not None
    rows, columns = tile.rows, tile.columns

    @inlined
    def find_tile(number_of_tile, phases, row_tiles, g):
        """Phase on each axis, group, first row and first column of a tile.

        Neighbouring blocks take neighbouring phases: in gather they read the same inputs, and fill the same lines.
        """
        rest, phase = split(number_of_tile, phases)
        rest, row_tile = split(rest, row_tiles)
        column_tile, group = split(rest, g[at.GROUPS])
        phase, phase_w = split(phase, g[at.PHASES_W])
        phase_d, phase_h = split(phase, g[at.PHASES_H])
        return (phase_d, phase_h, phase_w), group, row_tile * rows, column_tile * columns

    return find_tile


def _make_place(traits: Traits, tile: Tile) -> DeviceFunction:
    """Which row and column is a thread's first; neighbours in a warp lie along the contiguous axis of the result."""
    step_r, step_c, last = tile.rows // tile.thread_rows, tile.columns // tile.thread_columns, traits.channels_last

    @inlined
    def place(t):
        if last:
            return t % step_r, t // step_r
        return t // step_c, t % step_c

    return place


def _make_clear(thread_rows: int, thread_columns: int, number: Number) -> DeviceFunction:
    @inlined
    def clear(sums):
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] = number(0)

    return clear


def _make_loads(traits: Traits, tile: Tile) -> tuple[DeviceFunction, DeviceFunction]:
    """Build ``load_filters`` and ``load_inputs``: the threads of a block fill its slices in shared memory."""
    number, last = getattr(types, traits.accumulate), traits.channels_last
    _, offset, _ = make_integers(traits.index)
    rows, columns, depth, threads = tile.rows, tile.columns, tile.depth, tile.threads

    @inlined
    def load_filters(filters, weight, start, pitch, left, rows_left, t):
        """Copy `left` rows of `pitch` weights; zeros beyond. Return whether one was not finite."""
        nonfinite = 0
        for e in range(t, depth * rows, threads):
            k, r = e // rows, e % rows
            value = number(0)
            if k < left and r < rows_left:
                value = number(weight[offset(start + k * pitch + r)])
            filters[k, r] = value
            if value - value != number(0):
                nonfinite = 1
        return nonfinite

    @inlined
    def load_inputs(inputs, x, source, first, left, t, g):
        """Copy `left` channels from `first` on of the pixels at `source`; zeros where there is none (-1)."""
        for e in range(t, depth * columns, threads):
            if last:
                k, c = e % depth, e // depth
            else:
                k, c = e // columns, e % columns
            value = number(0)
            if k < left and source[c] >= 0:
                value = number(x[offset(source[c] + (first + k) * g[at.X_CHANNEL])])
            inputs[k, c] = value

    return load_filters, load_inputs


def _make_multiplies(traits: Traits, tile: Tile) -> tuple[DeviceFunction, DeviceFunction]:
    """Build ``multiply`` and ``multiply_present``: a thread reads the block's slices and adds to sums of its own."""
    number = getattr(types, traits.accumulate)
    depth, thread_rows, thread_columns = tile.depth, tile.thread_rows, tile.thread_columns
    step_r, step_c = tile.rows // thread_rows, tile.columns // thread_columns

    @inlined
    def multiply(filters, inputs, sums, row, column):
        """Add the products of the slices in shared memory to the thread's own sums."""
        left = cuda.local.array(thread_rows, number)  # registers, since every index is known when compiled
        right = cuda.local.array(thread_columns, number)
        for k in range(depth):
            for i in range(thread_rows):
                left[i] = filters[k, row + i * step_r]
            for j in range(thread_columns):
                right[j] = inputs[k, column + j * step_c]
            for i in range(thread_rows):
                for j in range(thread_columns):
                    sums[i, j] += left[i] * right[j]

    @inlined
    def multiply_present(filters, inputs, sums, row, column, source):
        """The same without the columns that have no pixel: their zeros times infinity would be NaN."""
        for k in range(depth):
            for j in range(thread_columns):
                if source[column + j * step_c] >= 0:
                    for i in range(thread_rows):
                        sums[i, j] += filters[k, row + i * step_r] * inputs[k, column + j * step_c]

    return multiply, multiply_present
