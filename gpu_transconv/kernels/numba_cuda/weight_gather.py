"""The gradient by the weight, gathered: a block of threads owns a tile of it, and sums over pixels (`weight_tile`).

A layer with few channels has few tiles, and would leave most of a device idle. There the pixels are cut into parts, a
tile of one part is a block's, and another kernel adds the parts up (`elementwise.make_add_parts`). How many parts there
are is fixed by the plan, and the order in which they are added too: so the result is the same on every run.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, KernelFunction, Number, cuda, inlined, types
from .traits import Traits
from .weight_tile import WeightTile, make_weight_tile


def make_weight_gather(traits: Traits) -> KernelFunction:
    """Build the kernel that writes the gradient itself: of all pixels at once."""
    return _make_gather(traits, getattr(types, traits.dtype))


def make_weight_parts(traits: Traits) -> KernelFunction:
    """Build the kernel that writes partial sums, in the type of sums."""
    return _make_gather(traits, getattr(types, traits.accumulate))


def _make_gather(traits: Traits, element: Number) -> KernelFunction:
    """Build the kernel, which writes sums as `element`; a block takes one tile after another."""
    tile, number = make_weight_tile(traits), getattr(types, traits.accumulate)
    columns, depth, row_width, column_width = tile.columns, tile.depth, tile.row_width, tile.column_width
    thread_rows, thread_columns, index = tile.thread_rows, tile.thread_columns, tile.index
    column_words, row_words = at.COLUMN_WORDS, at.ROW_WORDS
    clear, place, find_tile, describe, add_pixels = tile[:5]
    store = _make_store(tile, element)

    def weight_gather(x, grad, out, g):
        """Read x and the gradient of the output; write every element of `out`, part after part, once.

        A block owns one tile after another, that is some input channels, output channels and taps of one part; a thread
        owns its sums.
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
        column_tiles = (g[at.COUT] * g[at.MOST_TAPS] + columns - 1) // columns
        for item in range(cuda.blockIdx.x, column_tiles * g[at.ROW_TILES] * g[at.PARTS], cuda.gridDim.x):
            part, group, row0, column0, stamp = find_tile(item, g)
            first = part * g[at.PART_PIXELS]
            describe(offsets, column0, stamp, t, g)
            clear(sums)
            span = first, min(first + g[at.PART_PIXELS], pixels)
            shared, thread = (left, right, offsets, corners, source), (t, row, column)
            add_pixels(shared, sums, x, grad, (group, row0), span, thread, g)
            store(out, sums, offsets, part * g[at.RESULT], group, row0 + row, column, g)
            cuda.syncthreads()

    return weight_gather


def _make_store(tile: WeightTile, element: Number) -> DeviceFunction:
    thread_rows, thread_columns, offset = tile.thread_rows, tile.thread_columns, tile.offset
    step_r, step_c = tile.rows // thread_rows, tile.columns // thread_columns

    @inlined
    def store(out, sums, offsets, start, group, row, column, g):
        """Write the thread's sums."""
        stamp = g[at.COUT] * g[at.MOST_TAPS]
        for i in range(thread_rows):
            if row + i * step_r < g[at.CIN]:
                channel = start + (group * g[at.CIN] + row + i * step_r) * stamp
                for j in range(thread_columns):
                    c = column + j * step_c
                    if offsets[at.CHANNEL, c] >= 0:
                        out[offset(channel + offsets[at.PLACE, c])] = element(sums[i, j])

    return store
