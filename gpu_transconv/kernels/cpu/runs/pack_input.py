"""Bringing the input of a run of blocks into the order in which the tiles read it: the panel."""

from __future__ import annotations

from ..emit.intrinsics import (
    copy_differences,
    copy_differences_less,
    copy_every,
    copy_every_second_less,
    copy_row,
    copy_rows,
    copy_rows_less,
)
from ..emit.numbers import BFLOAT16, COUPLED
from ..emit.pointers import address, cast, offset
from ..gemm import layout as at
from ..gemm.zones import next_stretch, stretch_of
from ..runtime.compiled import inner

#: Elements of the input that come to a core at a time where a row is read once for each of several taps, which thin it
#: out: 64 KiB of floats, so that all but the first find it in the second-level cache. Chosen, not measured.
_NEAR = 16384


@inner
def pack_input(x, panel, job, slab):
    """Copy the input pixels that the slab's blocks read, zero outside the input, into the panel, which it owns.

    The panel is ordered slot, channel, block; with channels last slot, block, channel. On an axis with pairs of blocks
    this is the input transform of `winograd`: of two neighbouring inputs one, or their difference.
    """
    g, cut = job.geometry, job.runs
    if cut.flat:
        _copy_pixels(x, panel, job, slab)
        return
    q = 0
    row = stretch_of(job.zones, g, slab.first, slab.blocks)
    while q < slab.blocks:
        few = slab.depth if g.last or cut.step.w == 1 else max(1, _NEAR // (row.length * cut.step.w))
        for first in range(0, slab.depth if row.exists else 0, few):
            _pack_row(x, panel, job, slab, row, q, (first, min(few, slab.depth - first)))
        q += row.length
        if q < slab.blocks:
            row = next_stretch(job.zones, g, row, slab.first + q, slab.blocks - q)


@inner
def _pack_row(x, panel, job, slab, row, q, channels):
    """Copy what some channels, (first, count) in the slab, bring to the blocks of a row, at `q` in the slab."""
    g, lay, cut, depth = job.geometry, job.layout, job.runs, channels[1]
    block, length, several = row.block, row.length, job.zones.boxes.shape[0] > 2
    for slot in range(lay.slots.shape[0]):
        if several and not job.zones.reads[row.zone, slot]:
            continue
        less_h, less_w = lay.slots[slot, at.LESS_H], lay.slots[slot, at.LESS_W]
        i_d = block.d * cut.step.d + lay.slots[slot, at.SHIFT_D]
        i_h = block.h * cut.step.h + lay.slots[slot, at.SHIFT_H]
        i_w = block.w * cut.step.w + lay.slots[slot, at.SHIFT_W]
        inside = 0 <= i_d < g.in_d and 0 <= i_h < g.in_h
        below = less_h and 0 <= i_d < g.in_d and 0 <= i_h + 1 < g.in_h
        wide = length * cut.step.w
        low = min(max(0, -i_w), wide)
        end = max(low, min(wide, g.in_w - i_w))
        high = end if inside else low
        pixel = (i_d * g.in_h + i_h) * g.in_w + i_w
        channel = slab.group * g.cin + slab.k0 + channels[0]
        source = block.n * g.x_batch + channel * g.x_channel + pixel * g.x_pixel
        if g.last:
            step = cut.step.w
            ends = (low + step - 1) // step, (high + step - 1) // step
            target = address(panel, (slot * cut.pixels + q) * cut.pitch)
            _copy_row_of_pixels(target, address(x, source), job, depth, ends, length)
        else:
            target = address(panel, (slot * cut.depth + channels[0]) * cut.pitch + q)
            if less_h:
                end = end if below else low
                _transform_rows_less(target, address(x, source), job, depth, low, high, length, end, less_w)
            else:
                alone = g.alone * (slab.k0 + channels[0] + depth == g.cin)
                _transform_rows(target, address(x, source), job, depth, low, high, length, less_w, alone)


@inner
def _copy_row_of_pixels(target, source, job, depth, ends, length):
    """Copy `depth` channels, or couples of them, of every so many-th pixel between `ends`, and zeros up to `length`."""
    g = job.geometry
    if g.half == COUPLED:  # couples lie as they are wanted
        _copy_every(target, cast(target, source), g.x_pixel // 2, job, depth, ends, length, 0)
    else:
        _copy_every(target, source, g.x_pixel, job, depth, ends, length, g.half)


@inner
def _copy_every(target, source, pixel, job, depth, ends, length, half):
    """The same of pixels that are `pixel` elements apart."""
    cut, (low, high) = job.runs, ends
    if cut.step.w == 1 and depth == cut.pitch == pixel:  # as they lie in memory
        copy_row(target, source, low * depth, high * depth, length * depth, half)
        return
    for j in range(length if high <= low else low):
        copy_row(offset(target, j * cut.pitch), source, 0, 0, depth, half)
    if high > low:
        step = cut.step.w * pixel
        copy_rows(
            offset(target, low * cut.pitch),
            cut.pitch,
            offset(source, low * step),
            step,
            high - low,
            0,
            depth,
            depth,
            half,
        )
        for j in range(high, length):
            copy_row(offset(target, j * cut.pitch), source, 0, 0, depth, half)


@inner
def _transform_rows(target, row, job, depth, low, high, length, less, alone):
    """Copy a row of `depth` channels, or with a step on w every so many-th element, or with pairs its differences.

    Of channels in couples the last may be `alone`.
    """
    g, pitch, step = job.geometry, job.runs.pitch, job.runs.step.w
    if step == 1:
        copy_rows(target, pitch, row, g.x_channel, depth - alone, low, high, length, g.half)
        if alone:
            first = depth - 1
            copy_row(offset(target, first * pitch), offset(row, first * g.x_channel), low, high, length, BFLOAT16)
    elif less:
        copy_differences(target, pitch, row, g.x_channel, depth, low, high, length, g.half)
    else:
        copy_every(target, pitch, row, g.x_channel, depth, low, high, length, step, g.half)


@inner
def _transform_rows_less(target, row, job, depth, low, high, length, end, less):
    """The same less the row below, which is read up to `end`."""
    g, pitch = job.geometry, job.runs.pitch
    if job.layout.paired_w == 1:
        copy_rows_less(target, pitch, row, g.x_channel, depth, low, high, length, g.in_w, end, g.half)
    elif less:
        copy_differences_less(target, pitch, row, g.x_channel, depth, low, high, length, g.in_w, end, g.half)
    else:
        copy_every_second_less(target, pitch, row, g.x_channel, depth, low, high, length, g.in_w, end, g.half)


@inner
def _copy_pixels(x, panel, job, slab):
    """The same where a block reads the one pixel that has its number: whole runs at once, whatever the rows."""
    g, cut = job.geometry, job.runs
    pixels = g.in_d * g.in_h * g.in_w
    q = 0
    while q < slab.blocks:
        p, n = (slab.first + q) % pixels, (slab.first + q) // pixels
        length = min(pixels - p, slab.blocks - q)
        source = n * g.x_batch + (slab.group * g.cin + slab.k0) * g.x_channel + p * g.x_pixel
        if g.last:
            target = address(panel, q * cut.pitch)
            _copy_row_of_pixels(target, address(x, source), job, slab.depth, (0, length), length)
        else:
            target = address(panel, q)
            alone = g.alone * (slab.k0 + slab.depth == g.cin)
            _transform_rows(target, address(x, source), job, slab.depth, 0, length, length, 0, alone)
        q += length
