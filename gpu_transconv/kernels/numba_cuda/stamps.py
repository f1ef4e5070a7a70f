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
    return _make_describe_rows(traits, tile), _make_describe_columns(traits, tile), _make_multiply(product)


def _make_describe_rows(traits: Traits, tile: Tile) -> DeviceFunction:
    rows, threads = tile.rows, tile.threads
    index, _, split = make_integers(traits.index)

    @inlined
    def describe_rows(offsets, first, limit, channel0, t, g):
        """For every row: offset of its tap from the stamp's corner, channel past `channel0` (-1: none), round."""
        taps = g[at.KERNEL_D] * g[at.KERNEL_H] * g[at.KERNEL_W]
        for r in range(t, rows, threads):
            channel, tap = split(first + r, taps)
            rest, k_w = split(tap, g[at.KERNEL_W])
            k_d, k_h = split(rest, g[at.KERNEL_H])
            offsets[at.D, r] = index(k_d * g[at.DILATION_D])
            offsets[at.H, r] = index(k_h * g[at.DILATION_H])
            offsets[at.W, r] = index(k_w * g[at.DILATION_W])
            offsets[at.CHANNEL, r] = index(channel - channel0) if first + r < limit else index(-1)
            turn_d, turn_h = split(k_d, g[at.TAP_STEP_D])[0], split(k_h, g[at.TAP_STEP_H])[0]
            turn_w = split(k_w, g[at.TAP_STEP_W])[0]
            offsets[at.ROUND, r] = index((turn_d * g[at.ROUNDS_H] + turn_h) * g[at.ROUNDS_W] + turn_w)

    return describe_rows


def _make_describe_columns(traits: Traits, tile: Tile) -> DeviceFunction:
    """Build ``describe_columns``, which fills the block's tables of its input pixels and their stamps."""
    columns, threads = tile.columns, tile.threads
    index, _, split = make_integers(traits.index)

    @inlined
    def describe_columns(corners, source, first, limit, image, low, count, origin, t, g):
        """For every column: corner of its stamp past `origin`, image, and place in x; -1 where there is none.

        The input pixels are those of a box that begins at `low` and has `count` of them, image after image.
        """
        for c in range(t, columns, threads):
            pixel = first + c
            rest, i_w = split(pixel, count[2])
            rest, i_h = split(rest, count[1])
            n, i_d = split(rest, count[0])
            n, i_d, i_h, i_w = image + n, low[0] + i_d, low[1] + i_h, low[2] + i_w
            corners[at.D, c] = index(i_d * g[at.STRIDE_D] - origin[0])
            corners[at.H, c] = index(i_h * g[at.STRIDE_H] - origin[1])
            corners[at.W, c] = index(i_w * g[at.STRIDE_W] - origin[2])
            place = n * g[at.X_BATCH] + ((i_d * g[at.IN_H] + i_h) * g[at.IN_W] + i_w) * g[at.X_PIXEL]
            corners[at.IMAGE, c] = index(n) if pixel < limit else index(-1)
            source[c] = index(place) if pixel < limit else index(-1)

    return describe_columns


def _make_multiply(product: Product) -> DeviceFunction:
    """Build ``multiply``, the loop over the input channels of a tile of stamps."""
    depth, clear, accumulate = product.depth, product.clear, product.multiply
    load_filters, load_inputs = product.load_filters, product.load_inputs

    @inlined
    def multiply(slices, sums, x, weight, source, group, row0, stamp, thread, g):
        """Compute the thread's elements of the product of filters and pixels; ends with a barrier.

        The weights are read as they are: those of an input channel, (Cout / groups, tap), are one stamp. The threads of
        the block fill its `slices` of filters and inputs; `sums` is the thread's own, and `thread` its number, first
        row and first column in the tile.
        """
        filters, inputs = slices
        t, row, column = thread
        clear(sums)
        for first in range(0, g[at.CIN], depth):
            left, channel = g[at.CIN] - first, group * g[at.CIN] + first
            load_filters(filters, weight, channel * stamp + row0, stamp, left, stamp - row0, t)
            load_inputs(inputs, x, source, channel, left, t, g)
            cuda.syncthreads()
            accumulate(filters, inputs, sums, row, column)
            cuda.syncthreads()

    return multiply
