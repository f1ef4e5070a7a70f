"""Scatter without atomics: a block owns a box of the output; the idea is told in `scatter`."""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, KernelFunction, cuda, inlined, types
from .numbers import make_activation, make_integers
from .stamps import make_find_taps, make_stamps
from .tile import Product, make_product
from .traits import Traits


def make_owned(traits: Traits) -> KernelFunction:
    """Build the kernel; a block takes one box after another, each with some channels of one group and image."""
    product, number, owned_size = make_product(traits), getattr(types, traits.accumulate), traits.owned
    rows, columns, depth, width = product.rows, product.columns, product.depth, product.width
    thread_rows, thread_columns, index = product.thread_rows, product.thread_columns, product.index
    threads = rows // thread_rows * (columns // thread_columns)
    column_words, row_words = at.COLUMN_WORDS, at.ROW_WORDS
    find_box, add_phase, store = _make_find_box(traits), _make_add_phase(traits), _make_store(traits)
    place, split = product.place, make_integers(traits.index).split

    def scatter_owned(x, weight, bias, slope, out, g):
        """Read x, weight and bias; write every element of `out` once.

        A block owns one box of the output after another, and in shared memory its sums. It goes through all inputs
        whose stamps reach the box, phase by phase.
        """
        owned = cuda.shared.array(owned_size, number)
        filters = cuda.shared.array((depth, rows), number)
        inputs = cuda.shared.array((depth, width), number)
        offsets = cuda.shared.array((row_words, rows), index)  # of a tap from its stamp's corner; channel, round
        corners = cuda.shared.array((column_words, columns), index)  # of a stamp in the box, image
        source = cuda.shared.array(columns, index)
        sums = cuda.local.array((thread_rows, thread_columns), number)
        t = types.uint32(cuda.threadIdx.x)
        row, column = place(t)
        phases = g[at.PHASES_D] * g[at.PHASES_H] * g[at.PHASES_W]
        boxes = g[at.BOXES_D] * g[at.BOXES_H] * g[at.BOXES_W] * g[at.CHANNEL_BOXES] * g[at.BATCH] * g[at.GROUPS]
        for number_of_box in range(cuda.blockIdx.x, boxes, cuda.gridDim.x):
            image, group, channel0, first = find_box(number_of_box, g)
            for e in range(t, owned_size, threads):
                owned[e] = number(0)
            cuda.syncthreads()
            shared, box = (filters, inputs, offsets, corners, source), (image, group, channel0, first)
            for number_of_phase in range(phases):
                rest, phase_w = split(number_of_phase, g[at.PHASES_W])
                phase_d, phase_h = split(rest, g[at.PHASES_H])
                add_phase(owned, shared, sums, x, weight, box, (phase_d, phase_h, phase_w), (t, row, column), g)
            store(out, bias, slope, owned, image, group, channel0, first, t, g)
            cuda.syncthreads()

    return scatter_owned


def _make_find_box(traits: Traits) -> DeviceFunction:
    _, _, split = make_integers(traits.index)

    @inlined
    def find_box(box, g):
        """Image, group, first channel, and first output on each axis."""
        rest, w = split(box, g[at.BOXES_W])
        rest, h = split(rest, g[at.BOXES_H])
        rest, d = split(rest, g[at.BOXES_D])
        rest, part = split(rest, g[at.CHANNEL_BOXES])
        image, group = split(rest, g[at.GROUPS])
        return image, group, part * g[at.BOX_CHANNELS], (d * g[at.BOX_D], h * g[at.BOX_H], w * g[at.BOX_W])

    return find_box


def _make_add_phase(traits: Traits) -> DeviceFunction:
    """Build ``add_phase``, the loops over the inputs of a phase and over their stamps."""
    product = make_product(traits)
    rows, columns = product.rows, product.columns
    describe_rows, describe_columns, multiply = make_stamps(traits, product)
    find_taps, reaching, add = make_find_taps(traits), _make_reaching(traits), _make_add(product)

    @inlined
    def add_phase(owned, shared, sums, x, weight, box, phase, thread, g):
        """Add to the box what the inputs of a phase bring to it: `columns` of them at a time, `rows` of their stamps.

        Reads x and weight. All threads of the block fill what is `shared`, and own the box together; `sums` is the
        thread's own. `box` is image, group, first channel, and first output on each axis.
        """
        filters, inputs, offsets, corners, source = shared
        image, group, channel0, first = box
        t, row, column = thread
        (d, h, w), taps, before = find_taps(phase, g)
        low_d, count_d = reaching(first[0], d, 0, g)
        low_h, count_h = reaching(first[1], h, 1, g)
        low_w, count_w = reaching(first[2], w, 2, g)
        pixels = count_d * count_h * count_w if taps > 0 else 0
        blocks = image, (low_d, low_h, low_w), (count_d, count_h, count_w)
        origin_d, origin_h = first[0] - g[d + at.FIRST_SHIFT], first[1] - g[h + at.FIRST_SHIFT]
        origin = origin_d, origin_h, first[2] - g[w + at.FIRST_SHIFT]
        stamp, start = g[at.COUT] * taps, before * g[at.GROUPS] * g[at.CIN] * g[at.COUT]
        last_row = min(channel0 + g[at.BOX_CHANNELS], g[at.COUT]) * taps
        for column0 in range(0, pixels, columns):
            describe_columns(corners, source, column0, pixels, blocks, phase, origin, t, g)
            for row0 in range(channel0 * taps, last_row, rows):
                describe_rows(offsets, row0, last_row, channel0, (d, h, w), t, g)
                cuda.syncthreads()
                multiply((filters, inputs), sums, x, weight, source, group, (row0, stamp, start), thread, g)
                add(owned, sums, offsets, corners, row, column, g)

    return add_phase


def _make_reaching(traits: Traits) -> DeviceFunction:
    index, _, _ = make_integers(traits.index)

    @inlined
    def reaching(first, table, axis, g):
        """The blocks of a phase whose stamps reach the box that begins at output `first`: first one, and how many.

        `table` is where the axis' table has the phase.
        """
        step = g[at.FAR_STEP_D + axis]
        low = max(0, (first + g[table + at.FIRST_BLOCK]) // step)
        high = min(g[at.BLOCKS_D + axis] - 1, (first + g[table + at.LAST_BLOCK]) // step)
        return index(low), index(max(0, high - low + 1))

    return reaching


def _make_add(product: Product) -> DeviceFunction:
    """Build ``add``, by which all threads add their elements of stamps to the block's box."""
    thread_rows, thread_columns, offset = product.thread_rows, product.thread_columns, product.offset
    step_r, step_c = product.rows // thread_rows, product.columns // thread_columns

    @inlined
    def add(owned, sums, offsets, corners, row, column, g):
        """Add the thread's elements to the box, in rounds in which no two threads meet; ends with a barrier."""
        for turn in range(g[at.ROUNDS_D] * g[at.ROUNDS_H] * g[at.ROUNDS_W]):
            for i in range(thread_rows):
                r = row + i * step_r
                if offsets[at.ROUND, r] == turn and offsets[at.CHANNEL, r] >= 0:
                    for j in range(thread_columns):
                        c = column + j * step_c
                        d = corners[at.D, c] + offsets[at.D, r]
                        h = corners[at.H, c] + offsets[at.H, r]
                        w = corners[at.W, c] + offsets[at.W, r]
                        inside = 0 <= d < g[at.BOX_D] and 0 <= h < g[at.BOX_H] and 0 <= w < g[at.BOX_W]
                        if inside and corners[at.IMAGE, c] >= 0:
                            place = ((offsets[at.CHANNEL, r] * g[at.BOX_D] + d) * g[at.BOX_H] + h) * g[at.BOX_W] + w
                            owned[offset(place)] += sums[i, j]
            cuda.syncthreads()

    return add


def _make_store(traits: Traits) -> DeviceFunction:
    """Build ``store``, by which the threads of a block write its box to `out`."""
    number, element = getattr(types, traits.accumulate), getattr(types, traits.dtype)
    activate, has_bias = make_activation(traits.activation, number), traits.has_bias
    tile, last, (_, offset, split) = traits.tile, traits.channels_last, make_integers(traits.index)
    assert tile is not None
    threads = tile.threads

    @inlined
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
