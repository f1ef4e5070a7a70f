"""Gather in runs with the channels last, whose input is read where it lies, and whose results go where they belong.

Blocks of a zone need taps that read inside the input alone, if zones are many enough. So the rows of a tile, pixels of
the input, are found by their places in memory, and a tap is a distance from there; nothing is copied. A tile writes its
sums to the places of the outputs, where these are neither rounded nor activated nor written past the caches.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..arguments import Table
from ..emit.pointers import address, address_as, place
from ..gemm import layout as at
from ..gemm.layout import Layout
from ..gemm.zones import MOST_BOUNDS, Bounds, Zones, choose_zones, images, next_stretch, reached_of, stretch_of, taps_of
from ..geometry import Geometry
from ..runtime.compiled import inner
from ..tiles.gemm_tile import TILE_ROWS, tile_count, tile_range
from ..tiles.pixel_tile import pixel_table, pixel_tile
from ..tiles.tile_frame import ADD, PER_COLUMN
from .later import has_runs, pending_of, store_some
from .slabs import blocks_of

#: Bytes between pixels, multiples of which share so few places of a first-level cache that the rows of a tile and
#: weights drive each other out. Measured: unet_up1, whose pixels are 4 KiB apart, takes 46.1 ms, and moved apart 38.7.
ALIASED = 2048
#: Vector operations for a vector copied into a panel, as `cost` has them.
_COPY = 3.0


class Places(NamedTuple):
    """What of the above holds for a problem."""

    used: int  # whether the input is read where it lies
    unit: int  # its elements in a word: two where channels come in couples, which lie as they are wanted
    direct: int  # whether tiles write to the output, unless that is written past the caches
    later: int  # whether sums that are written past the caches are so while the next ones are computed
    taps: Table  # by tap of a set, or of the lists of zones: its distance in the input
    tile: int  # address of the compiled tiles


class Piece(NamedTuple):
    """A set of a chunk, as the product that it is."""

    chunk: Table  # its row of `Layout.chunks`
    s: int  # number of the set
    phase: int  # first phase_w of the set
    base: int  # where the sums of the chunk begin
    start: int  # bias of the chunk's first row
    width: int  # rows of the chunk


@lru_cache(maxsize=1024)
def bounds_in_place(plan: Plan) -> Bounds | None:
    """Bounds of the zones with which the input is read where it lies, or None where it is copied."""
    if not plan.channels_last or plan.fixed_order:
        return None
    if plan.in_channels * DTYPES[plan.accumulate].size % ALIASED == 0:
        return None
    bounds, axes = _bounds_inside(plan), by_phase(plan).axes
    if bounds is None:
        return None
    slots = 1
    for axis in axes:
        slots *= len(axis.shifts())
    cout = plan.out_channels // plan.groups
    blocks = plan.batch * axes[0].blocks * axes[1].blocks * axes[2].blocks
    products = [cout * _rows_of_tiles(plan, each) for each in (bounds, choose_zones(plan).bounds)]
    return bounds if products[0] <= products[1] + _COPY * slots * blocks else None


@lru_cache(maxsize=1024)
def _bounds_inside(plan: Plan) -> Bounds | None:
    """Bounds of zones whose taps read inside the input for each of their blocks; None where these would be many."""
    found, whole = [], True
    for axis in by_phase(plan).axes:
        reached = reached_of(axis)
        ends = {end for each in reached for end in each[:2]} - {0, axis.blocks}
        whole = whole and all(each[:2] == (0, axis.blocks) for each in reached)
        if len(ends) > MOST_BOUNDS:
            return None
        found.append((0, *sorted(ends), axis.blocks))
    if not whole and all(len(each) == 2 for each in found):  # without lists of taps, all are taken
        return None
    return tuple(found)


def _rows_of_tiles(plan: Plan, bounds: Bounds) -> int:
    """Products of an output channel with an input channel; tiles of one block take as long as those of two."""
    every = [taps_of(axis, each, reached_of(axis)) for axis, each in zip(by_phase(plan).axes, bounds, strict=True)]
    return sum(
        max(2, images(plan) * d * h * w) * taps_d * taps_h * taps_w
        for (d, taps_d), (h, taps_h), (w, taps_w) in product(*every)
    )


def make_places(plan: Plan, geometry: Geometry, layout: Layout, zones: Zones, used: bool, whole: bool) -> Places:
    """Tables of a plan; `used` says whether they are, and `whole` whether sums are complete after one panel."""
    if not used:
        return Places(0, 1, 0, 0, layout.tap_slots[:1], 0)
    g, unit = geometry, 2 if geometry.half else 1
    shifts = layout.slots[:, at.SHIFT_D : at.SHIFT_W + 1]
    where = ((shifts[:, 0] * g.in_h + shifts[:, 1]) * g.in_w + shifts[:, 2]) * (g.x_pixel // unit)
    taps = where[layout.tap_slots if len(zones.boxes) == 2 else zones.slots]
    direct = whole and not g.half and not g.activation and _is_whole(g, layout)
    later = whole and g.stream and has_runs(g, layout)
    return Places(1, unit, int(direct), int(later), taps, pixel_table(plan.accumulate, unit > 1))


def _is_whole(g: Geometry, layout: Layout) -> bool:
    """Whether every tile's columns follow each other in the output, and all or none of them are cut off."""
    for chunk in layout.chunks:
        channels = int(chunk[at.CHANNELS])
        rows = layout.sets[chunk[at.FIRST_SET] : chunk[at.END_SET], at.ROWS]
        if (rows % layout.lane).any():
            return False
        apart = channels % (2 * layout.lane) and channels != g.y_pixel
        if (rows > channels).any() and (apart or g.out_w % g.stride_w):
            return False
    return True


@inner
def is_direct(job):
    """Whether tiles write to the output."""
    return job.places.direct and not job.geometry.stream


@inner
def list_inputs(places, job, slab):
    """List where in the input the blocks of the slab lie, the first channel of the first group; in words."""
    g, step = job.geometry, job.runs.step
    size = g.x_pixel // job.places.unit
    q = 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        block, length = row.block, row.length
        pixel = (block.d * step.d * g.in_h + block.h * step.h) * g.in_w + block.w * step.w
        first, apart = (block.n * g.in_d * g.in_h * g.in_w + pixel) * size, step.w * size
        for j in range(length):
            places[q + j] = first + j * apart
        q += length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)


@inner
def _list_outputs(places, job, slab, chunk, phase, aside):
    """List where in the output the results of the blocks go, of a phase of each axis; those that are cut off, aside."""
    g = job.geometry
    q = 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        block, length = row.block, row.length
        o_d, o_h = block.d * g.stride_d + chunk[at.PHASE_D], block.h * g.stride_h + chunk[at.PHASE_H]
        o_w, present = block.w * g.stride_w + phase, 0
        if o_d < g.out_d and o_h < g.out_h:
            present = max(0, min(length, (g.out_w - o_w + g.stride_w - 1) // g.stride_w))
        first, apart = block.n * g.y_batch + ((o_d * g.out_h + o_h) * g.out_w + o_w) * g.y_pixel, g.stride_w * g.y_pixel
        for j in range(present):
            places[q + j] = first + j * apart
        for j in range(present, length):
            places[q + j] = aside
        q += length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)


@inner
def multiply_in_place(memory, sums, places, line, job, slab, piece):
    """Compute what the slab adds to the outputs of a piece.

    Reads the set's weights, and the bias of its rows where this is their first slab. Writes the sums, a line of rows
    for each block, or the output, and then what is cut off to `line`. `places` has those of the inputs, and gets those
    of the outputs behind them.
    """
    g, lay, cut, zones = job.geometry, job.layout, job.runs, job.zones
    x, weight, bias, out = memory
    chunk, s, phase, base, start, width = piece
    pending = pending_of(line)
    row0, rows, tap, taps = lay.sets[s, at.ROW], lay.sets[s, at.ROWS], lay.sets[s, at.TAP], lay.sets[s, at.TAPS]
    first, count, direct = lay.sets[s, at.WEIGHT], chunk[at.CHANNELS], is_direct(job)
    channel = slab.group * g.cout + chunk[at.CHANNEL]
    begins = s == lay.chunks[0, at.FIRST_SET]
    if direct:
        aside = (place(line, 0) - place(out, 0)) // sums.itemsize - channel
        _list_outputs(places[cut.pixels :], job, slab, chunk, phase, aside)
    for t in range(tile_count(rows, lay.lane)):
        low, high = tile_range(rows, lay.lane, t)
        b = (slab.group * lay.weights + first + low * taps) * g.cin + slab.k0 * (high - low)
        to = address_as(sums, out, channel + low // count * g.y_pixel + low % count)
        for zone in range(slab.zone, slab.end_zone):
            begin, end = blocks_of(job, slab, zone)
            own, listed, terms = address(cut.iota, 0), tap, taps
            if zones.boxes.shape[0] > 2:
                listed = zones.starts[zone, tap]
                own, terms = address(zones.taps, listed), zones.starts[zone, tap + taps] - listed
            parts = (end - begin + TILE_ROWS - 1) // TILE_ROWS
            for part in range(parts):
                p, q = begin + part * (end - begin) // parts, begin + (part + 1) * (end - begin) // parts
                lines = address(places, cut.pixels + p)
                if not direct:
                    to, lines = address(sums, base + p * width + row0 + low), address(cut.iota, 0)
                soon = places[min(q, slab.blocks - 1)] if t == 0 and begins else places[p]
                if terms:
                    soon += max(job.places.taps[listed], job.places.taps[listed + terms - 1])
                pixel_tile(
                    job.places.tile, to, lines, 1 if direct else width,
                    address_as(sums, x, (slab.group * g.cin + slab.k0) * job.places.unit), address(places, p),
                    address(job.places.taps, listed), address(weight, b), own, g.cin * (high - low),
                    address(bias, start + row0 + low), PER_COLUMN if slab.k0 == 0 else ADD, terms, slab.depth,
                    place(x, (soon + slab.k0) * job.places.unit), q - p, (high - low) // lay.lane,
                )  # fmt: skip
                if job.places.later:
                    store_some(out, sums, pending, job, (q - p) * (high - low))
