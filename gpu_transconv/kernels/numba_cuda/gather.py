"""Gather: every output element collects what reaches it, and is written once.

Of one phase all output elements are reached by the same taps, each from the input at the same shift from the
output's block (`gpu_transconv.problem.axis`). So a phase is an ordinary correlation of stride 1, and that is a matrix
product without the matrix being there ("implicit GEMM"):

    result[channel, pixel] = sum over taps, input channels of  filter[tap, channel] * x[input channel, pixel + shift]

The *tiled* kernel computes it block by block through shared memory (`tile`). Output pixels are counted over
batch and space together, so that small pictures fill a tile too; where the input of a pixel is outside, nothing
is added. The *direct* kernel (`direct`), for layers with few channels, has one thread per output pixel and no
shared memory.

No element is written by two threads, so there is nothing to race for, and the result is the same on every run.
"""

from __future__ import annotations

from typing import Any

from . import geometry as at
from .activation import make_activation
from .cuda import cuda, types
from .facts import Facts
from .integers import make_integers
from .tile import make_product


def make_tiled(facts: Facts) -> Any:
    """Build the tiled kernel; a block takes one tile after another."""
    product, number = make_product(facts), getattr(types, facts.accumulate)
    rows, columns, depth, width = product.rows, product.columns, product.depth, product.width
    thread_rows, thread_columns, index = product.thread_rows, product.thread_columns, product.index
    find_tile, add_taps = _make_find_tile(facts), _make_add_taps(facts)
    find_blocks, store, clear, place = _make_find_blocks(facts), _make_store(facts), product.clear, product.place

    def gather_tiled(x, weight, bias, slope, out, g):
        filters = cuda.shared.array((depth, rows), number)
        inputs = cuda.shared.array((depth, width), number)
        blocks = cuda.shared.array((4, columns), index)  # depth, height, width; image
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
            find_blocks(blocks, column0, pixels, t, g)
            clear(sums)
            cuda.syncthreads()
            add_taps(sums, filters, inputs, blocks, source, x, weight, phase, group, row0, t, row, column, g)
            store(out, bias, slope, sums, blocks, phase, group, row0 + row, column, g)
            cuda.syncthreads()

    return gather_tiled


def _make_find_tile(facts: Facts) -> Any:
    _, _, split = make_integers(facts.index)
    tile = facts.tile
    assert tile is not None
    rows, columns = tile.rows, tile.columns

    @cuda.jit(device=True, inline="always")
    def find_tile(number_of_tile, phases, row_tiles, g):
        """Phase on each axis, group, first row and first column of a tile.

        Neighbouring blocks take neighbouring phases: they read the same inputs, and fill the same lines.
        """
        rest, phase = split(number_of_tile, phases)
        rest, row_tile = split(rest, row_tiles)
        column_tile, group = split(rest, g[at.GROUPS])
        phase, phase_w = split(phase, g[at.PHASES_W])
        phase_d, phase_h = split(phase, g[at.PHASES_H])
        return (phase_d, phase_h, phase_w), group, row_tile * rows, column_tile * columns

    return find_tile


def _make_find_blocks(facts: Facts) -> Any:
    index, _, split = make_integers(facts.index)
    tile = facts.tile
    assert tile is not None
    columns, threads = tile.columns, tile.threads

    @cuda.jit(device=True, inline="always")
    def find_blocks(blocks, first, pixels, t, g):
        """For every column: its output block, and its image, -1 where there is none."""
        for c in range(t, columns, threads):
            rest, blocks[2, c] = split(first + c, g[at.BLOCKS_W])
            rest, blocks[1, c] = split(rest, g[at.BLOCKS_H])
            image, blocks[0, c] = split(rest, g[at.BLOCKS_D])
            blocks[3, c] = image if first + c < pixels else index(-1)

    return find_blocks


def _make_add_taps(facts: Facts) -> Any:
    product, find_inputs = make_product(facts), _make_find_inputs(facts)
    load_filters, load_inputs, depth = product.load_filters, product.load_inputs, product.depth
    multiply, multiply_present = product.multiply, product.multiply_present

    @cuda.jit(device=True, inline="always")
    def add_taps(sums, filters, inputs, blocks, source, x, weight, phase, group, row0, t, row, column, g):
        """Add all that reaches the tile's outputs to the thread's sums, tap by tap."""
        taps_d = g[at.TABLE_D] + 3 * phase[0]
        taps_h = g[at.TABLE_H] + 3 * phase[1]
        taps_w = g[at.TABLE_W] + 3 * phase[2]
        for tap_number in range(g[taps_d] * g[taps_h] * g[taps_w]):
            tap = find_inputs(source, blocks, tap_number, taps_d, taps_h, taps_w, t, g)
            start = (tap * g[at.GROUPS] + group) * g[at.CIN] * g[at.COUT] + row0
            cuda.syncthreads()
            for first in range(0, g[at.CIN], depth):
                left, place = g[at.CIN] - first, start + first * g[at.COUT]
                wild = load_filters(filters, weight, place, g[at.COUT], left, g[at.COUT] - row0, t)
                load_inputs(inputs, x, source, group * g[at.CIN] + first, left, t, g)
                if cuda.syncthreads_or(types.int32(wild)):  # a barrier that also takes a vote
                    multiply_present(filters, inputs, sums, row, column, source)
                else:
                    multiply(filters, inputs, sums, row, column)
                cuda.syncthreads()

    return add_taps


def _make_find_inputs(facts: Facts) -> Any:
    index, _, split = make_integers(facts.index)
    tile = facts.tile
    assert tile is not None
    columns, threads = tile.columns, tile.threads

    @cuda.jit(device=True, inline="always")
    def find_inputs(source, blocks, tap_number, taps_d, taps_h, taps_w, t, g):
        """For every column: where in x the tap finds its input, -1 where that is outside. Return the tap."""
        rest, c = split(tap_number, g[taps_w])
        a, b = split(rest, g[taps_h])
        shift_d = g[taps_d + 2] + a * g[at.SHIFT_STEP_D]
        shift_h = g[taps_h + 2] + b * g[at.SHIFT_STEP_H]
        shift_w = g[taps_w + 2] + c * g[at.SHIFT_STEP_W]
        for p in range(t, columns, threads):
            i_d, i_h, i_w = blocks[0, p] + shift_d, blocks[1, p] + shift_h, blocks[2, p] + shift_w
            inside = 0 <= i_d < g[at.IN_D] and 0 <= i_h < g[at.IN_H] and 0 <= i_w < g[at.IN_W]
            pixel = (i_d * g[at.IN_H] + i_h) * g[at.IN_W] + i_w
            place = index(blocks[3, p] * g[at.X_BATCH] + pixel * g[at.X_PIXEL])
            source[p] = place if inside and blocks[3, p] >= 0 else index(-1)
        k_d = g[taps_d + 1] + a * g[at.TAP_STEP_D]
        k_h = g[taps_h + 1] + b * g[at.TAP_STEP_H]
        k_w = g[taps_w + 1] + c * g[at.TAP_STEP_W]
        return index((k_d * g[at.KERNEL_H] + k_h) * g[at.KERNEL_W] + k_w)

    return find_inputs


def _make_store(facts: Facts) -> Any:
    product, number, element = make_product(facts), getattr(types, facts.accumulate), getattr(types, facts.dtype)
    activate, has_bias = make_activation(facts.activation, number), facts.has_bias
    thread_rows, thread_columns, offset = product.thread_rows, product.thread_columns, product.offset
    step_r, step_c = product.rows // thread_rows, product.columns // thread_columns

    @cuda.jit(device=True, inline="always")
    def store(out, bias, slope, sums, blocks, phase, group, row, column, g):
        """Write the thread's sums where they belong, with bias and activation."""
        for j in range(thread_columns):
            c = column + j * step_c
            o_d = blocks[0, c] * g[at.STRIDE_D] + phase[0]
            o_h = blocks[1, c] * g[at.STRIDE_H] + phase[1]
            o_w = blocks[2, c] * g[at.STRIDE_W] + phase[2]
            inside = o_d < g[at.OUT_D] and o_h < g[at.OUT_H] and o_w < g[at.OUT_W]
            if inside and blocks[3, c] >= 0:
                pixel = (o_d * g[at.OUT_H] + o_h) * g[at.OUT_W] + o_w
                start = blocks[3, c] * g[at.Y_BATCH] + pixel * g[at.Y_PIXEL]
                for i in range(thread_rows):
                    if row + i * step_r < g[at.COUT]:
                        channel = group * g[at.COUT] + row + i * step_r
                        value = sums[i, j]
                        if has_bias:
                            value += number(bias[offset(channel)])
                        out[offset(start + channel * g[at.Y_CHANNEL])] = element(activate(value, slope))

    return store
