"""Scatter without atomics: a block owns a box of the output; the idea is told in `scatter`."""

from __future__ import annotations

from typing import Any

from . import geometry as at
from .activation import make_activation
from .cuda import cuda, types
from .facts import Facts
from .integers import make_integers
from .stamps import make_stamps
from .tile import Product, make_product


def make_tiles(facts: Facts) -> Any:
    """Build the kernel; a block takes one box after another, each with some channels of one group and image."""
    product, number, owned_size = make_product(facts), getattr(types, facts.accumulate), facts.owned
    rows, columns, depth, width = product.rows, product.columns, product.depth, product.width
    thread_rows, thread_columns, index = product.thread_rows, product.thread_columns, product.index
    threads = rows // thread_rows * (columns // thread_columns)
    describe_rows, describe_columns, multiply = make_stamps(facts, product)
    find_box, reach, add, store = _make_find_box(facts), _make_reach(facts), _make_add(product), _make_store(facts)
    place = product.place

    def scatter_tiles(x, weight, bias, slope, out, g):
        owned = cuda.shared.array(owned_size, number)
        filters = cuda.shared.array((depth, rows), number)
        inputs = cuda.shared.array((depth, width), number)
        offsets = cuda.shared.array((5, rows), index)  # of a tap from its stamp's corner, channel, round
        corners = cuda.shared.array((4, columns), index)  # of a stamp in the box, image
        source = cuda.shared.array(columns, index)
        sums = cuda.local.array((thread_rows, thread_columns), number)
        t = types.uint32(cuda.threadIdx.x)
        row, column = place(t)
        taps = g[at.KERNEL_D] * g[at.KERNEL_H] * g[at.KERNEL_W]
        boxes = (g[at.OUT_D] + g[at.BOX_D] - 1) // g[at.BOX_D] * ((g[at.OUT_H] + g[at.BOX_H] - 1) // g[at.BOX_H])
        boxes *= (g[at.OUT_W] + g[at.BOX_W] - 1) // g[at.BOX_W]
        boxes *= g[at.BATCH] * g[at.GROUPS] * ((g[at.COUT] + g[at.BOX_CHANNELS] - 1) // g[at.BOX_CHANNELS])
        for box in range(cuda.blockIdx.x, boxes, cuda.gridDim.x):
            image, group, channel0, o_d, o_h, o_w = find_box(box, g)
            low_d, count_d = reach(o_d, 0, g)
            low_h, count_h = reach(o_h, 1, g)
            low_w, count_w = reach(o_w, 2, g)
            pixels = count_d * count_h * count_w
            low, count = (low_d, low_h, low_w), (count_d, count_h, count_w)
            origin = (g[at.PAD_D] + o_d, g[at.PAD_H] + o_h, g[at.PAD_W] + o_w)
            stamp = g[at.COUT] * taps
            last_row = min(channel0 + g[at.BOX_CHANNELS], g[at.COUT]) * taps
            for e in range(t, owned_size, threads):
                owned[e] = number(0)
            cuda.syncthreads()
            for column0 in range(0, pixels, columns):
                describe_columns(corners, source, column0, pixels, image, low, count, origin, t, g)
                for row0 in range(channel0 * taps, last_row, rows):
                    describe_rows(offsets, row0, last_row, channel0, t, g)
                    cuda.syncthreads()
                    multiply(filters, inputs, sums, x, weight, source, group, row0, stamp, t, row, column, g)
                    add(owned, sums, offsets, corners, row, column, g)
            store(out, bias, slope, owned, image, group, channel0, (o_d, o_h, o_w), t, g)
            cuda.syncthreads()

    return scatter_tiles


def _make_find_box(facts: Facts) -> Any:
    _, _, split = make_integers(facts.index)

    @cuda.jit(device=True, inline="always")
    def find_box(box, g):
        """Image, group, first channel, and first output on each axis."""
        rest, w = split(box, split(g[at.OUT_W] + g[at.BOX_W] - 1, g[at.BOX_W])[0])
        rest, h = split(rest, split(g[at.OUT_H] + g[at.BOX_H] - 1, g[at.BOX_H])[0])
        rest, d = split(rest, split(g[at.OUT_D] + g[at.BOX_D] - 1, g[at.BOX_D])[0])
        rest, part = split(rest, split(g[at.COUT] + g[at.BOX_CHANNELS] - 1, g[at.BOX_CHANNELS])[0])
        image, group = split(rest, g[at.GROUPS])
        return image, group, part * g[at.BOX_CHANNELS], d * g[at.BOX_D], h * g[at.BOX_H], w * g[at.BOX_W]

    return find_box


def _make_reach(facts: Facts) -> Any:
    index, _, _ = make_integers(facts.index)

    @cuda.jit(device=True, inline="always")
    def reach(first, axis, g):
        """The inputs of an axis whose stamps reach the box that begins at output `first`: first one, and how many."""
        far = first + g[at.PAD_D + axis] - (g[at.KERNEL_D + axis] - 1) * g[at.DILATION_D + axis]
        low = max(0, -(-far // g[at.STRIDE_D + axis]))  # rounded up
        high = (first + g[at.BOX_D + axis] - 1 + g[at.PAD_D + axis]) // g[at.STRIDE_D + axis]
        return index(low), index(max(0, min(g[at.IN_D + axis] - 1, high) - low + 1))

    return reach


def _make_add(product: Product) -> Any:
    thread_rows, thread_columns, offset = product.thread_rows, product.thread_columns, product.offset
    step_r, step_c = product.rows // thread_rows, product.columns // thread_columns

    @cuda.jit(device=True, inline="always")
    def add(owned, sums, offsets, corners, row, column, g):
        """Add the thread's elements to the box, in rounds in which no two threads meet; ends with a barrier."""
        rounds = (g[at.KERNEL_D] + g[at.TAP_STEP_D] - 1) // g[at.TAP_STEP_D]
        rounds *= (g[at.KERNEL_H] + g[at.TAP_STEP_H] - 1) // g[at.TAP_STEP_H]
        rounds *= (g[at.KERNEL_W] + g[at.TAP_STEP_W] - 1) // g[at.TAP_STEP_W]
        for turn in range(rounds):
            for i in range(thread_rows):
                r = row + i * step_r
                if offsets[4, r] == turn and offsets[3, r] >= 0:
                    for j in range(thread_columns):
                        c = column + j * step_c
                        d = corners[0, c] + offsets[0, r]
                        h = corners[1, c] + offsets[1, r]
                        w = corners[2, c] + offsets[2, r]
                        inside = 0 <= d < g[at.BOX_D] and 0 <= h < g[at.BOX_H] and 0 <= w < g[at.BOX_W]
                        if inside and corners[3, c] >= 0:
                            place = ((offsets[3, r] * g[at.BOX_D] + d) * g[at.BOX_H] + h) * g[at.BOX_W] + w
                            owned[offset(place)] += sums[i, j]
            cuda.syncthreads()

    return add


def _make_store(facts: Facts) -> Any:
    number, element = getattr(types, facts.accumulate), getattr(types, facts.dtype)
    activate, has_bias = make_activation(facts.activation, number), facts.has_bias
    tile, last, (_, offset, split) = facts.tile, facts.channels_last, make_integers(facts.index)
    assert tile is not None
    threads = tile.threads

    @cuda.jit(device=True, inline="always")
    def store(out, bias, slope, owned, image, group, channel0, first, t, g):
        """Write the box, with bias and activation; neighbouring threads write neighbouring elements."""
        channels = min(g[at.BOX_CHANNELS], g[at.COUT] - channel0)
        volume = g[at.BOX_D] * g[at.BOX_H] * g[at.BOX_W]
        for e in range(t, channels * volume, threads):
            if last:
                pixel, c = split(e, channels)
            else:
                c, pixel = split(e, volume)
            rest, w = split(pixel, g[at.BOX_W])
            d, h = split(rest, g[at.BOX_H])
            o_d, o_h, o_w = first[0] + d, first[1] + h, first[2] + w
            if o_d < g[at.OUT_D] and o_h < g[at.OUT_H] and o_w < g[at.OUT_W]:
                channel = group * g[at.COUT] + channel0 + c
                value = owned[offset(c * volume + pixel)]
                if has_bias:
                    value += number(bias[offset(channel)])
                start = image * g[at.Y_BATCH] + ((o_d * g[at.OUT_H] + o_h) * g[at.OUT_W] + o_w) * g[at.Y_PIXEL]
                out[offset(start + channel * g[at.Y_CHANNEL])] = element(activate(value, slope))

    return store
