"""Scatter: every input element stamps its filter into the output, and stamps that overlap add up.

All stamps of some input pixels are one matrix product, over the input channels (`input` below) alone:

    stamp[(channel, tap), pixel] = sum over inputs of  weight[input, channel, tap] * x[input, pixel]

which a block computes piece by piece through shared memory (`tile`). Each element of the product belongs at

    output = pixel * stride + tap * dilation - padding          (per axis; beyond the borders it is cut off)

and several may belong at the same output. That is the race of this formulation, and the two kernels are two
ways out of it:

*atomic*: every element is added to the output in memory by an atomic addition. Any block may take any pixels;
the order of the additions, and with it the last bit of the result, differs from run to run. Before, the sums
are filled with the bias; afterwards comes the activation (`elementwise`).

*tiles* (`scatter_owned`): a block owns a box of the output, keeps its sums in shared memory, and goes through all
inputs whose stamps reach the box. Threads take turns: two taps reach the same output only if they are in the same
phase, so in one round every phase adds one tap, which cannot collide, and a barrier ends the round. The order is
fixed, and so is the result.

The gradient by x is scattered by the same kernels: x stands for the gradient of the output, whose elements stamp phase
by phase, those of a phase with its own taps. The operator's inputs are one phase.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, KernelFunction, cuda, inlined, types
from .stamps import make_find_taps, make_stamps
from .tile import Product, make_find_tile, make_product
from .traits import Traits


def make_atomic(traits: Traits) -> KernelFunction:
    """Build the kernel that adds stamps to `out`, which is in the accumulation type and holds the bias."""
    product, number = make_product(traits), getattr(types, traits.accumulate)
    rows, columns, depth, width = product.rows, product.columns, product.depth, product.width
    thread_rows, thread_columns, index = product.thread_rows, product.thread_columns, product.index
    column_words, row_words = at.COLUMN_WORDS, at.ROW_WORDS
    describe_rows, describe_columns, multiply = make_stamps(traits, product)
    place, add = product.place, _make_add(product)
    find_tile, find_taps = make_find_tile(traits), make_find_taps(traits)

    def scatter_atomic(x, weight, out, g):
        """Read x and weight; add to `out`, which nobody owns, by atomic additions.

        A block takes one tile of stamps after another, that is some taps and output channels of some inputs.
        """
        filters = cuda.shared.array((depth, rows), number)
        inputs = cuda.shared.array((depth, width), number)
        offsets = cuda.shared.array((row_words, rows), index)  # of a tap from its stamp's corner; channel, round
        corners = cuda.shared.array((column_words, columns), index)  # of a stamp in the output, image
        source = cuda.shared.array(columns, index)
        sums = cuda.local.array((thread_rows, thread_columns), number)
        t = types.uint32(cuda.threadIdx.x)
        row, column = place(t)
        pixels = g[at.BATCH] * g[at.BLOCKS_D] * g[at.BLOCKS_H] * g[at.BLOCKS_W]
        phases = g[at.PHASES_D] * g[at.PHASES_H] * g[at.PHASES_W]
        row_tiles = (g[at.COUT] * g[at.MOST_TAPS] + rows - 1) // rows
        tiles = (pixels + columns - 1) // columns * row_tiles * g[at.GROUPS] * phases
        blocks = 0, (0, 0, 0), (g[at.BLOCKS_D], g[at.BLOCKS_H], g[at.BLOCKS_W])
        for number_of_tile in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
            phase, group, row0, column0 = find_tile(number_of_tile, phases, row_tiles, g)
            (d, h, w), taps, before = find_taps(phase, g)
            stamp, start = g[at.COUT] * taps, before * g[at.GROUPS] * g[at.CIN] * g[at.COUT]
            if row0 < stamp:  # otherwise the phase has fewer taps than others
                origin = -g[d + at.FIRST_SHIFT], -g[h + at.FIRST_SHIFT], -g[w + at.FIRST_SHIFT]
                describe_columns(corners, source, column0, pixels, blocks, phase, origin, t, g)
                describe_rows(offsets, row0, stamp, 0, (d, h, w), t, g)
                cuda.syncthreads()
                rows_of_phase = row0, stamp, start
                multiply((filters, inputs), sums, x, weight, source, group, rows_of_phase, (t, row, column), g)
                add(out, sums, offsets, corners, group, row, column, g)
                cuda.syncthreads()

    return scatter_atomic


def _make_add(product: Product) -> DeviceFunction:
    thread_rows, thread_columns, offset = product.thread_rows, product.thread_columns, product.offset
    step_r, step_c = product.rows // thread_rows, product.columns // thread_columns

    @inlined
    def add(out, sums, offsets, corners, group, row, column, g):
        """Add the thread's elements to the output; what falls beyond its borders is cut off."""
        for i in range(thread_rows):
            r = row + i * step_r
            channel = (group * g[at.COUT] + offsets[at.CHANNEL, r]) * g[at.Y_CHANNEL]
            if offsets[at.CHANNEL, r] >= 0:
                for j in range(thread_columns):
                    c = column + j * step_c
                    o_d, o_h = corners[at.D, c] + offsets[at.D, r], corners[at.H, c] + offsets[at.H, r]
                    o_w = corners[at.W, c] + offsets[at.W, r]
                    inside = 0 <= o_d < g[at.OUT_D] and 0 <= o_h < g[at.OUT_H] and 0 <= o_w < g[at.OUT_W]
                    if inside and corners[at.IMAGE, c] >= 0:
                        pixel = ((o_d * g[at.OUT_H] + o_h) * g[at.OUT_W] + o_w) * g[at.Y_PIXEL]
                        cuda.atomic.add(out, offset(corners[at.IMAGE, c] * g[at.Y_BATCH] + channel + pixel), sums[i, j])

    return add
