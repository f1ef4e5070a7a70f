"""Slabs: what gather in runs multiplies with one panel, some input channels of a run of blocks."""

from __future__ import annotations

from typing import NamedTuple

from ..emit.pointers import address
from ..gemm import layout as at
from ..gemm.zones import START, zone_of
from ..runtime.compiled import inner


class RunSlab(NamedTuple):
    """Some input channels of a group, and a run of blocks: the panel that they make is one piece of the product."""

    group: int
    split: int  # part of the chunks
    k0: int  # first input channel, within the group
    depth: int  # input channels
    first: int  # number of a block, see `zones`
    blocks: int
    zone: int  # of the first block
    end_zone: int  # the one after that of the last


@inner
def slab_of(job, number):
    """The slab of that number: all slabs of a task follow each other, and all runs of a part of a group."""
    g, cut = job.geometry, job.runs
    slabs = (g.cin + cut.depth - 1) // cut.depth
    task, k0 = number // slabs, number % slabs * cut.depth
    run, rest = task % cut.runs, task // cut.runs
    first = run * cut.pixels
    zones = job.zones.boxes
    count = min(cut.pixels, zones[zones.shape[0] - 1, START] - first)
    zone = zone_of(job.zones, first, 0)
    end_zone = zone_of(job.zones, first + count - 1, zone) + 1
    group, split = rest // cut.splits, rest % cut.splits
    return RunSlab(group, split, k0, min(cut.depth, g.cin - k0), first, count, zone, end_zone)


@inner
def products_of(job, slab, first, end):
    """Vectors of products of the sets from `first` to `end`, for an input channel."""
    lay = job.layout
    total = 0
    for zone in range(slab.zone, slab.end_zone):
        begin, last = blocks_of(job, slab, zone)
        vectors = (last + job.runs.lanes - 1) // job.runs.lanes - begin // job.runs.lanes
        for s in range(first, end):
            total += lay.sets[s, at.ROWS] * vectors * taps_of(job, s, zone)[2]
    return total


@inner
def blocks_of(job, slab, zone):
    """The slab's blocks that lie in a zone, as the first and the one after the last, counted from the slab's first."""
    zones = job.zones.boxes
    return max(0, zones[zone, START] - slab.first), min(slab.blocks, zones[zone + 1, START] - slab.first)


@inner
def taps_of(job, s, zone):
    """Of the taps of set `s` that a zone needs: addresses of the weights before them and of their places; how many."""
    lay, zones, cut = job.layout, job.zones, job.runs
    tap, taps = lay.sets[s, at.TAP], lay.sets[s, at.TAPS]
    if zones.boxes.shape[0] == 2:
        return address(cut.before, 0), address(cut.places, tap), taps
    start = zones.starts[zone, tap]
    return address(cut.zone_before, start), address(cut.zone_places, start), zones.starts[zone, tap + taps] - start
