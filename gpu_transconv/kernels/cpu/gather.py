"""Gather: every output element collects its contributions, as an implicit matrix product.

Blocks of output positions are flattened over batch and space, so that small maps still fill the vectors.
For one run of blocks, the input at every slot is copied into a panel once; then every set of rows is a
product of packed weights with that panel, started with the bias, and every finished chunk of rows is
interleaved into the output. Channels first, the tile's rows are weights and its columns blocks; channels
last the other way round, so that both read and write memory in order.
"""

from __future__ import annotations

from .blocking import Blocking
from .compiled import inner, kernel
from .geometry import Geometry
from .layout import CUT, LAYOUT, Layout
from .microkernel import ADD, PER_COLUMN, PER_ROW, tile
from .packing import TILE_ROWS, VECTOR_BYTES, pack_input, tile_count, tile_range, tile_vectors
from .store import store_chunk
from .tables import unpack
from .vectors import address, combine_pairs, fence, place


@kernel
def gather(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; return how many runs of blocks in pairs are not all finite.

    A task is a run of blocks of one group, times a part of the chunks.
    """
    g, lay, b = unpack(Geometry, table, 0), unpack(Layout, table, LAYOUT), unpack(Blocking, table, CUT)
    tasks = b.runs * g.groups * b.splits
    wrong = 0
    for task in range(thread * tasks // b.threads, (thread + 1) * tasks // b.threads):
        run, rest = task % b.runs, task // b.runs
        wrong += _gather_run(x, weight, bias, out, g, lay, b, work[thread], run, rest % b.splits, rest // b.splits)
    fence()
    return wrong


@inner
def _gather_run(x, weight, bias, out, g, lay, b, work, run, split, group):
    first = run * b.pixels
    count = min(b.pixels, g.batch * b.blocks_d * b.blocks_h * b.blocks_w - first)
    line, panel, sums = work[: b.line], work[b.line : b.line + b.panel], work[b.line + b.panel :]
    chunk0, chunk1 = split * lay.chunks.shape[0] // b.splits, (split + 1) * lay.chunks.shape[0] // b.splits
    wrong = 0
    for k0 in range(0, g.cin, b.depth):
        depth = min(b.depth, g.cin - k0)
        pack_input(x, panel, g, lay, b, group, k0, depth, first, count)
        for c in range(chunk0, chunk1):
            chunk = lay.chunks[c]
            # With the channels in parts, all chunks keep their sums; else one place serves them in turn.
            base = (chunk[6] - lay.chunks[chunk0, 6]) * b.pixels if b.depth < g.cin else 0
            width = lay.row_channels.size if c + 1 == lay.chunks.shape[0] else lay.chunks[c + 1, 6]
            width -= chunk[6]
            for s in range(chunk[4], chunk[5]):
                start = group * lay.row_channels.size + chunk[6]
                if g.last:
                    _multiply_last(
                        sums[base:], panel, weight, bias, g, lay, b, group, s, start, width, k0, depth, count
                    )
                else:
                    _multiply_first(sums[base:], panel, weight, bias, g, lay, b, group, s, start, k0, depth, count)
            if k0 + depth == g.cin:
                if lay.paired_h + lay.paired_w > 2:
                    wrong += _combine(sums, base, g, lay, chunk, b.pixels, count)
                store_chunk(out, sums[base:], line, g, lay, b, group, chunk, width, first, count)
    return wrong


@inner
def _combine(c, base, g, lay, chunk, pixels, count):
    """Make the outputs of two blocks from two or three products, in the place of the first two."""
    wrong = 0
    rows = lay.products_w * chunk[3]  # of a product on h
    first = lay.products_h[chunk[1]]
    for part in range(lay.products_h[chunk[1] + chunk[7]] - first):
        for i in range(lay.threes_w.size):
            start = part * rows + lay.threes_w[i] * chunk[3]
            third = part * rows + (2 * g.stride_w + i) * chunk[3]
            wrong |= _combine_rows(c, base, start, start + g.stride_w * chunk[3], third, chunk[3], pixels, count)
    for phase in range(chunk[1], chunk[1] + chunk[7]):
        start = (lay.products_h[phase] - first) * rows
        if lay.products_h[phase + 1] - lay.products_h[phase] == 3:
            done = lay.paired_w * g.stride_w * chunk[3]
            wrong |= _combine_rows(c, base, start, start + rows, start + 2 * rows, done, pixels, count)
    return wrong


@inner
def _combine_rows(c, base, first, second, third, rows, pixels, count):
    wrong = 0
    for row in range(rows):
        wrong |= combine_pairs(
            address(c, base + (first + row) * pixels),
            address(c, base + (second + row) * pixels),
            address(c, base + (third + row) * pixels),
            count,
        )
    return wrong


@inner
def _multiply_first(c, panel, weight, bias, g, lay, b, group, s, start, k0, depth, count):
    row0, rows, tap0, taps, first, _ = lay.sets[s]
    lane = VECTOR_BYTES // c.itemsize
    vectors = (count + lane - 1) // lane
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (group * lay.weights + first + low * taps) * g.cin + k0 * m)
        v = 0
        while v < vectors:
            step = tile_vectors(m, vectors - v)
            tile(
                b.tile,
                address(c, (row0 + low) * b.pixels + v * lane), address(b.iota, 0), b.pixels,
                a, 1, m, address(b.iota, 0), g.cin * m,
                address(panel, v * lane), b.pixels, address(lay.tap_slots, tap0), b.depth * b.pixels,
                address(bias, start + row0 + low), PER_ROW if k0 == 0 else ADD, taps, depth,
                place(panel, 0), 0, m, step,
            )  # fmt: skip
            v += step


@inner
def _multiply_last(c, panel, weight, bias, g, lay, b, group, s, start, width, k0, depth, count):
    row0, rows, tap0, taps, first, _ = lay.sets[s]
    for t in range(tile_count(rows, lay.lane)):
        low, high = tile_range(rows, lay.lane, t)
        vectors = (high - low) // lay.lane
        columns = address(weight, (group * lay.weights + first + low * taps) * g.cin + k0 * (high - low))
        parts = (count + TILE_ROWS - 1) // TILE_ROWS
        for part in range(parts):
            p, q = part * count // parts, (part + 1) * count // parts
            tile(
                b.tile,
                address(c, p * width + row0 + low), address(b.iota, 0), width,
                address(panel, p * b.depth), b.depth, 1, address(lay.tap_slots, tap0), b.pixels * b.depth,
                columns, high - low, address(b.iota, 0), g.cin * (high - low),
                address(bias, start + row0 + low), PER_COLUMN if k0 == 0 else ADD, taps, depth,
                place(panel, 0), 0, q - p, vectors,
            )  # fmt: skip
