"""Gather: every output element collects its contributions, as an implicit matrix product.

Blocks of output positions are flattened over batch and space, so that small maps still fill the vectors.
For one run of blocks, the input at every slot is copied into a panel once; then every set of rows is a
product of packed weights with that panel, started with the bias, and every finished chunk of rows is
interleaved into the output. Channels first, the tile's rows are weights and its columns blocks; channels
last the other way round, so that both read and write memory in order.

The gradient by the input runs here too: its blocks are single results, and from one to the next its input, grad_output,
is read a step further on (`pack_input`).
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import unpack
from ..emit.pointers import address, address_as, fence, place, words
from ..emit.registers import VECTOR_BYTES
from ..emit.sums import combine_pairs
from ..gemm import layout as at
from ..gemm.moves import Coming, coming_run, make_moves
from ..gemm.store import store_chunk
from ..partition import Memory
from ..runtime.compiled import inner, kernel
from ..tiles.box_tile import MOVE_WORDS, box_tile
from ..tiles.gemm_tile import TILE_ROWS, tile, tile_count, tile_range, tile_vectors
from ..tiles.tile_frame import ADD, PER_COLUMN, PER_ROW
from .in_place import Piece, is_direct, list_inputs, multiply_in_place
from .later import forget, pending_of, place_of_sums, store_later, store_rest
from .pack_input import pack_input
from .run_partition import Gather
from .slabs import blocks_of, products_of, slab_of, taps_of


class Progress(NamedTuple):
    """How far the tiles of a slab are."""

    products: int  # made, in the unit of `products_of`
    moves: int  # made, of what comes


@kernel
def gather(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; return how many runs of blocks in pairs are not all finite.

    A task is a run of blocks of one group, times a part of the chunks. It reads the inputs that its blocks reach and
    the weights of its chunks, and owns the outputs of both; ``work[thread]`` is the thread's alone.
    """
    job = unpack(Gather, table)
    cut = job.runs
    slabs = (job.geometry.cin + cut.depth - 1) // cut.depth
    end = cut.shares[thread + 1] * slabs
    wrong, own = 0, work[thread][cut.moves :]
    if job.places.later:
        forget(pending_of(own))
    for number in range(cut.shares[thread] * slabs, end):
        wrong += _gather_slab(x, weight, bias, out, job, work[thread], number, number > cut.shares[thread] * slabs, end)
    if job.places.later:
        store_rest(out, own[cut.line + cut.panels * cut.panel :], pending_of(own), job)
    fence()
    return wrong


@inner
def _gather_slab(x, weight, bias, out, job, work, number, brought, end):
    """Compute a slab of a task, the chunks of its part for the blocks of its run; return as `gather` does.

    Reads x, weight and bias; writes the outputs of those blocks and channels after their last slab. `work` holds a list
    of moves, a line, one or two panels of input, and the sums of one chunk, or of all where the input channels come in
    several panels. The panel was `brought` by the slab before, where there are two.
    """
    g, lay, cut = job.geometry, job.layout, job.runs
    slab = slab_of(job, number)
    moves, work = words(work[: cut.moves]), work[cut.moves :]
    line, panels, sums = work[: cut.line], work[cut.line :], work[cut.line + cut.panels * cut.panel :]
    turn = number % cut.panels
    panel = panels[turn * cut.panel : (turn + 1) * cut.panel]
    used, later = job.places.used, job.places.later
    if used and slab.k0 == 0:
        list_inputs(words(panel), job, slab)
    if not used and (cut.panels == 1 or not brought):
        pack_input(x, panel, job, slab)
    chunk0, chunk1 = cut.bounds[slab.split], cut.bounds[slab.split + 1]
    following = Progress(0, 0)
    if cut.panels > 1 and number + 1 < end:
        products = products_of(job, slab, lay.chunks[chunk0, at.FIRST_SET], lay.chunks[chunk1 - 1, at.END_SET])
        other = panels[(1 - turn) * cut.panel :]
        coming = coming_run(x, other, moves, job, slab_of(job, number + 1), products)
    else:
        coming = Coming(x, panel, moves, 0, 1, 0, 0, 0, 1, 0, g.half)
    chunks = lay.chunks.shape[0]
    wrong = 0
    for c in range(chunk0, chunk1):
        chunk = lay.chunks[c]
        row = chunk[at.FIRST_ROW]
        # With the channels in parts, all chunks keep their sums; else one place serves them in turn.
        base = (row - lay.chunks[chunk0, at.FIRST_ROW]) * cut.pixels if cut.depth < g.cin else 0
        width = (lay.row_channels.size if c + 1 == chunks else lay.chunks[c + 1, at.FIRST_ROW]) - row
        base, phase = place_of_sums(pending_of(line), job, width) if later else base, 0
        for s in range(chunk[at.FIRST_SET], chunk[at.END_SET]):
            start = slab.group * lay.row_channels.size + row
            if used:
                piece = Piece(chunk, s, phase, base, start, width)
                multiply_in_place(Memory(x, weight, bias, out), sums, words(panel), line, job, slab, piece)
                phase += lay.sets[s, at.ROWS] // chunk[at.CHANNELS]
            elif g.last:
                _multiply_last(sums[base:], panel, weight, bias, job, slab, s, start, width)
            else:
                following = _multiply_first(sums[base:], panel, weight, bias, job, slab, s, start, coming, following)
        if later:
            store_rest(out, sums, pending_of(line), job)
            store_later(out, sums, pending_of(line), job, slab, chunk, base, width)
        elif slab.k0 + slab.depth == g.cin and not is_direct(job):
            if lay.paired_h + lay.paired_w > 2:
                wrong += _transform_output(sums, base, job, chunk, slab.blocks)
            store_chunk(out, sums[base:], line, job, slab, chunk, width)
    make_moves(coming, following.moves, coming.total)
    return wrong


@inner
def _transform_output(sums, base, job, chunk, count):
    """Make the outputs of two blocks from two or three products, in the place of the first two; see `winograd`.

    Reads and writes the chunk's rows of `sums` from `base` on; returns whether a result is not finite.
    """
    g, lay, channels = job.geometry, job.layout, chunk[at.CHANNELS]
    wrong = 0
    rows = lay.products_w * channels  # of a product on h
    phase0, phases = chunk[at.PHASE_H], chunk[at.PHASES_H]
    first = lay.products_h[phase0]
    for part in range(lay.products_h[phase0 + phases] - first):
        for i in range(lay.combined_w.size):
            start = part * rows + lay.combined_w[i] * channels
            third = part * rows + (2 * g.stride_w + i) * channels
            wrong |= _combine_rows(sums, base, start, start + g.stride_w * channels, third, channels, job, count)
    for phase in range(phase0, phase0 + phases):
        start = (lay.products_h[phase] - first) * rows
        if lay.products_h[phase + 1] - lay.products_h[phase] == 3:
            done = lay.paired_w * g.stride_w * channels
            wrong |= _combine_rows(sums, base, start, start + rows, start + 2 * rows, done, job, count)
    return wrong


@inner
def _combine_rows(sums, base, first, second, third, rows, job, count):
    """Combine `rows` rows of the first two products with those of the third, `count` columns of each."""
    pixels = job.runs.pixels
    wrong = 0
    for row in range(rows):
        wrong |= combine_pairs(
            address(sums, base + (first + row) * pixels),
            address(sums, base + (second + row) * pixels),
            address(sums, base + (third + row) * pixels),
            count,
        )
    return wrong


@inner
def _multiply_first(sums, panel, weight, bias, job, slab, s, start, coming, progress):
    """Channels first: add set `s` of the slab to its rows of `sums`, which have the columns behind each other.

    Reads the panel, the set's weights, and the bias of the rows from `start` on where this is their first slab. Moves
    what comes meanwhile, in proportion to the products; returns how far it got.
    """
    products, done = progress
    g, lay, cut = job.geometry, job.layout, job.runs
    row0, rows, taps = lay.sets[s, at.ROW], lay.sets[s, at.ROWS], lay.sets[s, at.TAPS]
    first = lay.sets[s, at.WEIGHT]
    lane = VECTOR_BYTES // sums.itemsize
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (slab.group * lay.weights + first + low * taps) * g.cin + slab.k0 * m)
        for zone in range(slab.zone, slab.end_zone):
            v, end = blocks_of(job, slab, zone)
            vectors = (end + lane - 1) // lane
            v //= lane
            before, places, terms = taps_of(job, s, zone)
            each = m * terms
            depth = slab.depth
            if cut.fills and terms == 0:
                vectors = 1  # of the bias
            if cut.joined:
                terms, depth = 1, terms * depth
            while v < vectors:
                step = tile_vectors(m, vectors - v)
                products += each * step
                until = coming.total * products // coming.products
                k, i = done // coming.listed, done % coming.listed
                count = max(0, min(until - done, min(coming.listed - i, terms * depth)))
                box_tile(
                    cut.tile,
                    address(sums, (row0 + low) * cut.pixels + v * lane), cut.pixels, a, before,
                    address(panel, v * lane), cut.pitch, places, address(bias, start + row0 + low),
                    PER_ROW if slab.k0 == 0 else ADD, terms, depth,
                    address_as(sums, coming.x, coming.first + k * coming.x_step),
                    address(coming.panel, k * coming.step), address(coming.moves, MOVE_WORDS * i), count,
                    coming.x_step * coming.x.itemsize, coming.apart, m, step,
                )  # fmt: skip
                done += count
                v += step
    return Progress(products, done)


@inner
def _multiply_last(sums, panel, weight, bias, job, slab, s, start, width):
    """Channels last: the same, for `sums` whose columns have their `width` rows behind each other."""
    g, lay, cut = job.geometry, job.layout, job.runs
    row0, rows, taps = lay.sets[s, at.ROW], lay.sets[s, at.ROWS], lay.sets[s, at.TAPS]
    first = lay.sets[s, at.WEIGHT]
    for t in range(tile_count(rows, lay.lane)):
        low, high = tile_range(rows, lay.lane, t)
        vectors = (high - low) // lay.lane
        a = (slab.group * lay.weights + first + low * taps) * g.cin + slab.k0 * (high - low)
        for zone in range(slab.zone, slab.end_zone):
            begin, end = blocks_of(job, slab, zone)
            before, places, terms = taps_of(job, s, zone)
            parts = (end - begin + TILE_ROWS - 1) // TILE_ROWS
            for part in range(parts):
                p, q = begin + part * (end - begin) // parts, begin + (part + 1) * (end - begin) // parts
                tile(
                    cut.tile,
                    address(sums, p * width + row0 + low), address(cut.iota, 0), width,
                    address(panel, p * cut.pitch), cut.pitch, 1, places, 1,
                    address(weight, a), high - low, before, high - low,
                    address(bias, start + row0 + low), PER_COLUMN if slab.k0 == 0 else ADD, terms, slab.depth,
                    place(panel, 0), 0, q - p, vectors,
                )  # fmt: skip
