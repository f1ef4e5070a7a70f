"""Gather: every output element collects what reaches it, and is written once.

Of one phase all output elements are reached by the same taps, each from the input at the same shift from the
output's block (`gpu_transconv.problem.axis`). So a phase is an ordinary correlation of stride 1, and that is a matrix
product without the matrix being there ("implicit GEMM"):

    result[channel, pixel] = sum over taps, input channels of  filter[tap, channel] * x[input channel, pixel + shift]

The *tiled* kernel computes it block by block through shared memory (`tile`). Output pixels are counted over
batch and space together, so that small pictures fill a tile too; where the input of a pixel is outside, nothing
is added. The *direct* kernel (`gather_direct`), for layers with few channels, has one thread per output pixel and no
shared memory.

No element is written by two threads, so there is nothing to race for, and the result is the same on every run.

The gradient by x is gathered by the same kernels: x stands for the gradient of the output, and the one phase has all
taps, which it finds stride apart from pixel to pixel. What follows names the operator's case.
"""

from __future__ import annotations

from . import geometry as at
from .cuda import DeviceFunction, KernelFunction, cuda, inlined, types
from .numbers import make_activation, make_integers
from .tile import make_find_tile, make_product
from .traits import Traits


def make_gather(traits: Traits) -> KernelFunction:
    """Build the tiled kernel; a block takes one tile after another."""
    product, number = make_product(traits), getattr(types, traits.accumulate)
    rows, columns, depth, width = product.rows, product.columns, product.depth, product.width
    thread_rows, thread_columns, index = product.thread_rows, product.thread_columns, product.index
    column_words = at.COLUMN_WORDS
    find_tile, add_taps = make_find_tile(traits), _make_add_taps(traits)
    find_blocks, store, clear, place = _make_find_blocks(traits), _make_store(traits), product.clear, product.place

    def gather_tiled(x, weight, bias, slope, out, g):
        """Read x, the packed weights and the bias; write every element of `out` once.

        A block owns one tile after another, that is the output channels and pixels of a phase; a thread owns its sums.
        """
        filters = cuda.shared.array((depth, rows), number)
        inputs = cuda.shared.array((depth, width), number)
        blocks = cuda.shared.array((column_words, columns), index)  # depth, height, width; image
        source = cuda.shared.array(columns, index)
        sums = cuda.local.array((thread_rows, thread_columns), number)
        t = types.uint32(cuda.threadIdx.x)
        row, column = place(t)
        pixels = g[at.BATCH] * g[at.BLOCKS_D] * g[at.BLOCKS_H] * g[at.BLOCKS_W]
        phases = g[at.PHASES_D] * g[at.PHASES_H] * g[at.PHASES_W]
        row_tiles = (g[at.COUT] + rows - 1) // rows
        tiles = (pixels + columns - 1) // columns * row_tiles * g[at.GROUPS] * phases
        for number_of_tile in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
            phase, group, row0, column0 = find_tile(number_of_tile, phases, row_tiles, g)
            tile = phase, group, row0
            find_blocks(blocks, column0, pixels, t, g)
            clear(sums)
            cuda.syncthreads()
            add_taps(sums, (filters, inputs), blocks, source, x, weight, tile, (t, row, column), g)
            store(out, bias, slope, sums, blocks, phase, group, row0 + row, column, g)
            cuda.syncthreads()

    return gather_tiled


def _make_find_blocks(traits: Traits) -> DeviceFunction:
    index, _, split = make_integers(traits.index)
    tile = traits.tile
    assert tile is not None
    columns, threads = tile.columns, tile.threads

    @inlined
    def find_blocks(blocks, first, pixels, t, g):
        """For every column: its output block, and its image, -1 where there is none."""
        for c in range(t, columns, threads):
            rest, blocks[at.W, c] = split(first + c, g[at.BLOCKS_W])
            rest, blocks[at.H, c] = split(rest, g[at.BLOCKS_H])
            image, blocks[at.D, c] = split(rest, g[at.BLOCKS_D])
            blocks[at.IMAGE, c] = image if first + c < pixels else index(-1)

    return find_blocks


def _make_add_taps(traits: Traits) -> DeviceFunction:
    """Build ``add_taps``, the loop over all that is multiplied for a tile."""
    product, find_inputs = make_product(traits), _make_find_inputs(traits)
    load_filters, load_inputs, depth = product.load_filters, product.load_inputs, product.depth
    multiply, multiply_present = product.multiply, product.multiply_present

    @inlined
    def add_taps(sums, slices, blocks, source, x, weight, tile, thread, g):
        """Add all that reaches the tile's outputs to the thread's sums, tap by tap.

        Reads x, the packed weights and `blocks`. All threads of the block fill `source` and `slices`, which are of the
        filters and of the inputs; `sums` is the thread's own. `tile` is phase, group and first row, `thread` the
        thread's number, first row and first column in the tile.
        """
        filters, inputs = slices
        phase, group, row0 = tile
        t, row, column = thread
        taps_d = g[at.TABLE_D] + at.PHASE_SIZE * phase[0]
        taps_h = g[at.TABLE_H] + at.PHASE_SIZE * phase[1]
        taps_w = g[at.TABLE_W] + at.PHASE_SIZE * phase[2]
        for tap_number in range(g[taps_d + at.TAPS] * g[taps_h + at.TAPS] * g[taps_w + at.TAPS]):
            tap = find_inputs(source, blocks, tap_number, taps_d, taps_h, taps_w, t, g)
            start = (tap * g[at.GROUPS] + group) * g[at.CIN] * g[at.COUT] + row0
            cuda.syncthreads()
            for first in range(0, g[at.CIN], depth):
                left, place = g[at.CIN] - first, start + first * g[at.COUT]
                nonfinite = load_filters(filters, weight, place, g[at.COUT], left, g[at.COUT] - row0, t)
                load_inputs(inputs, x, source, group * g[at.CIN] + first, left, t, g)
                if cuda.syncthreads_or(types.int32(nonfinite)):  # a barrier that also takes a vote
                    multiply_present(filters, inputs, sums, row, column, source)
                else:
                    multiply(filters, inputs, sums, row, column)
                cuda.syncthreads()

    return add_taps


def _make_find_inputs(traits: Traits) -> DeviceFunction:
    """Build ``find_inputs``, which fills the block's table of places in x for a tap."""
    index, _, split = make_integers(traits.index)
    tile = traits.tile
    assert tile is not None
    columns, threads = tile.columns, tile.threads

    @inlined
    def find_inputs(source, blocks, tap_number, taps_d, taps_h, taps_w, t, g):
        """For every column: where in x the tap finds its input, -1 where that is outside. Return the tap."""
        rest, c = split(tap_number, g[taps_w + at.TAPS])
        a, b = split(rest, g[taps_h + at.TAPS])
        shift_d = g[taps_d + at.FIRST_SHIFT] + a * g[at.SHIFT_STEP_D]
        shift_h = g[taps_h + at.FIRST_SHIFT] + b * g[at.SHIFT_STEP_H]
        shift_w = g[taps_w + at.FIRST_SHIFT] + c * g[at.SHIFT_STEP_W]
        for p in range(t, columns, threads):
            i_d = blocks[at.D, p] * g[at.FAR_STEP_D] + shift_d
            i_h = blocks[at.H, p] * g[at.FAR_STEP_H] + shift_h
            i_w = blocks[at.W, p] * g[at.FAR_STEP_W] + shift_w
            inside = 0 <= i_d < g[at.IN_D] and 0 <= i_h < g[at.IN_H] and 0 <= i_w < g[at.IN_W]
            pixel = (i_d * g[at.IN_H] + i_h) * g[at.IN_W] + i_w
            place = index(blocks[at.IMAGE, p] * g[at.X_BATCH] + pixel * g[at.X_PIXEL])
            source[p] = place if inside and blocks[at.IMAGE, p] >= 0 else index(-1)
        k_d = g[taps_d + at.FIRST_TAP] + a * g[at.TAP_STEP_D]
        k_h = g[taps_h + at.FIRST_TAP] + b * g[at.TAP_STEP_H]
        k_w = g[taps_w + at.FIRST_TAP] + c * g[at.TAP_STEP_W]
        return index((k_d * g[at.KERNEL_H] + k_h) * g[at.KERNEL_W] + k_w)

    return find_inputs


def _make_store(traits: Traits) -> DeviceFunction:
    """Build ``store``, by which every thread writes the elements of `out` that it owns."""
    product, number, element = make_product(traits), getattr(types, traits.accumulate), getattr(types, traits.dtype)
    activate, has_bias = make_activation(traits.activation, number), traits.has_bias
    thread_rows, thread_columns, offset = product.thread_rows, product.thread_columns, product.offset
    step_r, step_c = product.rows // thread_rows, product.columns // thread_columns

    @inlined
    def store(out, bias, slope, sums, blocks, phase, group, row, column, g):
        """Write the thread's sums where they belong, with bias and activation."""
        for j in range(thread_columns):
            c = column + j * step_c
            o_d = blocks[at.D, c] * g[at.NEAR_STEP_D] + phase[0]
            o_h = blocks[at.H, c] * g[at.NEAR_STEP_H] + phase[1]
            o_w = blocks[at.W, c] * g[at.NEAR_STEP_W] + phase[2]
            inside = o_d < g[at.OUT_D] and o_h < g[at.OUT_H] and o_w < g[at.OUT_W]
            if inside and blocks[at.IMAGE, c] >= 0:
                pixel = (o_d * g[at.OUT_H] + o_h) * g[at.OUT_W] + o_w
                start = blocks[at.IMAGE, c] * g[at.Y_BATCH] + pixel * g[at.Y_PIXEL]
                for i in range(thread_rows):
                    if row + i * step_r < g[at.COUT]:
                        channel = group * g[at.COUT] + row + i * step_r
                        value = sums[i, j]
                        if has_bias:
                            value += number(bias[offset(channel)])
                        out[offset(start + channel * g[at.Y_CHANNEL])] = element(activate(value, slope))

    return store
