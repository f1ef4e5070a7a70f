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

import numpy as np

from ..arguments import unpack
from ..emit.gemm_tile import ADD, PER_COLUMN, PER_ROW, TILE_ROWS, tile, tile_count, tile_range, tile_vectors
from ..emit.pointers import address, fence, place
from ..emit.registers import VECTOR_BYTES
from ..emit.sums import combine_pairs
from ..partition import Memory
from ..runtime.compiled import inner, kernel
from . import layout as at
from .in_place import Piece, is_direct, list_inputs, multiply_in_place
from .later import LEFT, SECOND, pending_of, place_of_sums, store_later, store_some
from .pack_input import pack_input
from .partitions import Gather
from .store import store_chunk
from .zones import START, zone_of


class RunSlab(NamedTuple):
    """Some input channels of a group, and a run of blocks: the panel that they make is one piece of the product."""

    group: int
    k0: int  # first input channel, within the group
    depth: int  # input channels
    first: int  # number of a block, see `zones`
    blocks: int
    zone: int  # of the first block
    end_zone: int  # the one after that of the last


@kernel
def gather(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; return how many runs of blocks in pairs are not all finite.

    A task is a run of blocks of one group, times a part of the chunks. It reads the inputs that its blocks reach and
    the weights of its chunks, and owns the outputs of both; ``work[thread]`` is the thread's alone.
    """
    job = unpack(Gather, table)
    runs, splits = job.runs.runs, job.runs.splits
    wrong, line = 0, work[thread][: job.runs.line]
    pending = pending_of(line)
    pending[SECOND] = pending[LEFT] = 0
    for task in range(job.runs.shares[thread], job.runs.shares[thread + 1]):
        run, rest = task % runs, task // runs
        wrong += _gather_run(x, weight, bias, out, job, work[thread], run, rest % splits, rest // splits)
    if job.places.later:
        rest = pending[LEFT] * job.runs.pixels * 65536
        store_some(out, work[thread][job.runs.line + job.runs.panel :], pending, job, rest)
    fence()
    return wrong


@inner
def _gather_run(x, weight, bias, out, job, work, run, split, group):
    """Compute one task: the chunks of part `split` for the blocks of `run`; return as `gather` does.

    Reads x, weight and bias; writes the outputs of those blocks and channels. `work` holds a line, a panel of input,
    and the sums of one chunk, or of all where the input channels come in several panels.
    """
    g, lay, cut = job.geometry, job.layout, job.runs
    first = run * cut.pixels
    zones = job.zones.boxes
    count = min(cut.pixels, zones[zones.shape[0] - 1, START] - first)
    zone = zone_of(job.zones, first, 0)
    end_zone = zone_of(job.zones, first + count - 1, zone) + 1
    line, panel, sums = work[: cut.line], work[cut.line : cut.line + cut.panel], work[cut.line + cut.panel :]
    chunks, used = lay.chunks.shape[0], job.places.used
    chunk0, chunk1 = cut.bounds[split], cut.bounds[split + 1]
    wrong = 0
    for k0 in range(0, g.cin, cut.depth):
        slab = RunSlab(group, k0, min(cut.depth, g.cin - k0), first, count, zone, end_zone)
        if not used:
            pack_input(x, panel, job, slab)
        elif k0 == 0:
            list_inputs(panel.view(np.int64), job, slab)
        for c in range(chunk0, chunk1):
            chunk = lay.chunks[c]
            row = chunk[at.FIRST_ROW]
            # With the channels in parts, all chunks keep their sums; else one place serves them in turn.
            base = (row - lay.chunks[chunk0, at.FIRST_ROW]) * cut.pixels if cut.depth < g.cin else 0
            width = (lay.row_channels.size if c + 1 == chunks else lay.chunks[c + 1, at.FIRST_ROW]) - row
            if job.places.later:
                base = place_of_sums(pending_of(line), job, width)
            phase = 0
            for s in range(chunk[at.FIRST_SET], chunk[at.END_SET]):
                start = group * lay.row_channels.size + row
                if used:
                    piece = Piece(chunk, s, phase, base, start, width)
                    memory = Memory(x, weight, bias, out)
                    multiply_in_place(memory, sums, panel.view(np.int64), line, job, slab, piece)
                    phase += lay.sets[s, at.ROWS] // chunk[at.CHANNELS]
                elif g.last:
                    _multiply_last(sums[base:], panel, weight, bias, job, slab, s, start, width)
                else:
                    _multiply_first(sums[base:], panel, weight, bias, job, slab, s, start)
            if job.places.later:
                store_some(out, sums, pending_of(line), job, count * 65536)
                store_later(out, sums, pending_of(line), job, slab, chunk, base, width)
            elif k0 + slab.depth == g.cin and not is_direct(job):
                if lay.paired_h + lay.paired_w > 2:
                    wrong += _transform_output(sums, base, job, chunk, count)
                store_chunk(out, sums[base:], line, job, slab, chunk, width)
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
def _multiply_first(sums, panel, weight, bias, job, slab, s, start):
    """Channels first: add set `s` of the slab to its rows of `sums`, which have the columns behind each other.

    Reads the panel, the set's weights, and the bias of the rows from `start` on where this is their first slab.
    """
    g, lay, cut = job.geometry, job.layout, job.runs
    row0, rows, taps = lay.sets[s, at.ROW], lay.sets[s, at.ROWS], lay.sets[s, at.TAPS]
    first = lay.sets[s, at.WEIGHT]
    lane = VECTOR_BYTES // sums.itemsize
    for t in range(tile_count(rows, 1)):
        low, high = tile_range(rows, 1, t)
        m = high - low
        a = address(weight, (slab.group * lay.weights + first + low * taps) * g.cin + slab.k0 * m)
        for zone in range(slab.zone, slab.end_zone):
            v, end = _blocks_of(job, slab, zone)
            vectors = (end + lane - 1) // lane
            v //= lane
            own, slots, terms = _taps_of(job, s, zone)
            depth = slab.depth
            if cut.joined:
                terms, depth = 1, terms * depth
            while v < vectors:
                step = tile_vectors(m, vectors - v)
                tile(
                    cut.tile,
                    address(sums, (row0 + low) * cut.pixels + v * lane), address(cut.iota, 0), cut.pixels,
                    a, 1, m, own, g.cin * m,
                    address(panel, v * lane), cut.pixels, slots, cut.depth * cut.pixels,
                    address(bias, start + row0 + low), PER_ROW if slab.k0 == 0 else ADD, terms, depth,
                    place(panel, 0), 0, m, step,
                )  # fmt: skip
                v += step


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
            begin, end = _blocks_of(job, slab, zone)
            own, slots, terms = _taps_of(job, s, zone)
            parts = (end - begin + TILE_ROWS - 1) // TILE_ROWS
            for part in range(parts):
                p, q = begin + part * (end - begin) // parts, begin + (part + 1) * (end - begin) // parts
                tile(
                    cut.tile,
                    address(sums, p * width + row0 + low), address(cut.iota, 0), width,
                    address(panel, p * cut.pitch), cut.pitch, 1, slots, cut.pixels * cut.pitch,
                    address(weight, a), high - low, own, g.cin * (high - low),
                    address(bias, start + row0 + low), PER_COLUMN if slab.k0 == 0 else ADD, terms, slab.depth,
                    place(panel, 0), 0, q - p, vectors,
                )  # fmt: skip


@inner
def _blocks_of(job, slab, zone):
    """The slab's blocks that lie in a zone, as the first and the one after the last, counted from the slab's first."""
    zones = job.zones.boxes
    return max(0, zones[zone, START] - slab.first), min(slab.blocks, zones[zone + 1, START] - slab.first)


@inner
def _taps_of(job, s, zone):
    """Of the taps of set `s` that a zone needs, the addresses of their numbers and of their slots; and how many."""
    lay, zones = job.layout, job.zones
    tap, taps = lay.sets[s, at.TAP], lay.sets[s, at.TAPS]
    if zones.boxes.shape[0] == 2:
        return address(job.runs.iota, 0), address(lay.tap_slots, tap), taps
    start = zones.starts[zone, tap]
    return address(zones.taps, start), address(zones.slots, start), zones.starts[zone, tap + taps] - start
