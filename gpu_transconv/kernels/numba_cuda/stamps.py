"""The stamps of a tile: where each lies, and the product that fills them; both scatter kernels use them."""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, cuda, inlined
from .numbers import make_integers
from .tile import Product
from .traits import Tile, Traits


def make_stamps(traits: Traits, product: Product) -> tuple[DeviceFunction, DeviceFunction, DeviceFunction]:
    """Build the functions ``describe_rows``, ``describe_columns`` and ``multiply``."""
    tile = traits.tile
    assert tile is not None
    columns = make_describe_columns(traits, tile.columns, tile.threads)
    return _make_describe_rows(traits, tile), columns, _make_multiply(product)


def make_find_taps(traits: Traits) -> DeviceFunction:
    """Build ``find_taps``, which looks a phase up."""
    index, _, _ = make_integers(traits.index)

    @inlined
    def find_taps(phase, g):
        """Where the table has the phase on each axis; how many taps it has, and how many those before it have."""
        d = g[at.TABLE_D] + at.PHASE_SIZE * phase[0]
        h = g[at.TABLE_H] + at.PHASE_SIZE * phase[1]
        w = g[at.TABLE_W] + at.PHASE_SIZE * phase[2]
        before = g[d + at.TAPS_BEFORE] * g[at.KERNEL_H] + g[d + at.TAPS] * g[h + at.TAPS_BEFORE]
        before = before * g[at.KERNEL_W] + g[d + at.TAPS] * g[h + at.TAPS] * g[w + at.TAPS_BEFORE]
        return (d, h, w), index(g[d + at.TAPS] * g[h + at.TAPS] * g[w + at.TAPS]), index(before)

    return find_taps


def _make_describe_rows(traits: Traits, tile: Tile) -> DeviceFunction:
    """Build ``describe_rows``, which fills the block's table of the rows of a tile: channels, each with its taps."""
    rows, threads = tile.rows, tile.threads
    index, _, split = make_integers(traits.index)

    @inlined
    def describe_rows(offsets, first, limit, channel0, table, t, g):
        """For every row: offset of its tap from the stamp's corner, channel past `channel0` (-1: none), round.

        The taps are those of a phase, which `table` tells the place of.
        """
        taps_h, taps_w = g[table[1] + at.TAPS], g[table[2] + at.TAPS]
        taps = g[table[0] + at.TAPS] * taps_h * taps_w
        for r in range(t, rows, threads):
            channel, tap = split(first + r, taps)
            rest, c = split(tap, taps_w)
            a, b = split(rest, taps_h)
            offsets[at.D, r] = index(a * g[at.SHIFT_STEP_D])
            offsets[at.H, r] = index(b * g[at.SHIFT_STEP_H])
            offsets[at.W, r] = index(c * g[at.SHIFT_STEP_W])
            offsets[at.CHANNEL, r] = index(channel - channel0) if first + r < limit else index(-1)
            turn_d, turn_h = split(a, g[at.ROUND_STEP_D])[0], split(b, g[at.ROUND_STEP_H])[0]
            turn_w = split(c, g[at.ROUND_STEP_W])[0]
            offsets[at.ROUND, r] = index((turn_d * g[at.ROUNDS_H] + turn_h) * g[at.ROUNDS_W] + turn_w)

    return describe_rows


def make_describe_columns(traits: Traits, columns: int, threads: int) -> DeviceFunction:
    """Build ``describe_columns``, which fills the block's tables of `columns` elements of x and their stamps."""
    index, _, split = make_integers(traits.index)

    @inlined
    def describe_columns(corners, source, first, limit, blocks, phase, origin, t, g):
        """For every column: corner of its stamp past `origin`, image, and place in x; -1 where there is none.

        The columns from `first` on, of `limit`, are those of a phase. `blocks` is the first image, and the first
        block and how many there are on each axis, image after image.
        """
        image, low, count = blocks
        for c in range(t, columns, threads):
            pixel = first + c
            rest, b_w = split(pixel, count[2])
            rest, b_h = split(rest, count[1])
            n, b_d = split(rest, count[0])
            n, b_d, b_h, b_w = image + n, low[0] + b_d, low[1] + b_h, low[2] + b_w
            corners[at.D, c] = index(b_d * g[at.FAR_STEP_D] - origin[0])
            corners[at.H, c] = index(b_h * g[at.FAR_STEP_H] - origin[1])
            corners[at.W, c] = index(b_w * g[at.FAR_STEP_W] - origin[2])
            i_d = b_d * g[at.NEAR_STEP_D] + phase[0]
            i_h = b_h * g[at.NEAR_STEP_H] + phase[1]
            i_w = b_w * g[at.NEAR_STEP_W] + phase[2]
            place = n * g[at.X_BATCH] + ((i_d * g[at.IN_H] + i_h) * g[at.IN_W] + i_w) * g[at.X_PIXEL]
            inside = pixel < limit and i_d < g[at.IN_D] and i_h < g[at.IN_H] and i_w < g[at.IN_W]
            corners[at.IMAGE, c] = index(n) if inside else index(-1)
            source[c] = index(place) if inside else index(-1)

    return describe_columns


def _make_multiply(product: Product) -> DeviceFunction:
    """Build ``multiply``, the loop over the channels of what is read, for a tile of stamps."""
    depth, clear, accumulate = product.depth, product.clear, product.multiply
    load_filters, load_inputs = product.load_filters, product.load_inputs

    @inlined
    def multiply(slices, sums, x, weight, source, group, rows, thread, g):
        """Compute the thread's elements of the product of filters and pixels; ends with a barrier.

        In `weight` the stamp of a channel, (channel of the result, tap of the phase), lies in one piece, the phases one
        after another. `rows` is the first row, how many a stamp has, and where the phase begins. The threads of the
        block fill its `slices` of filters and inputs; `sums` is the thread's own, and `thread` its number, first row
        and first column in the tile.
        """
        filters, inputs = slices
        row0, stamp, start = rows
        t, row, column = thread
        clear(sums)
        for first in range(0, g[at.CIN], depth):
            left, channel = g[at.CIN] - first, group * g[at.CIN] + first
            load_filters(filters, weight, start + channel * stamp + row0, stamp, left, stamp - row0, t)
            load_inputs(inputs, x, source, channel, left, t, g)
            cuda.syncthreads()
            accumulate(filters, inputs, sums, row, column)
            cuda.syncthreads()

    return multiply
