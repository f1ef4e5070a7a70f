"""Bringing weights into the order in which the tiles read them."""

from __future__ import annotations

from typing import NamedTuple

from numba.extending import register_jitable

from ..arguments import unpack
from ..emit.intrinsics import add_block, copy_block, copy_checked, couple_block, transpose, turn_rows
from ..emit.numbers import COUPLED
from ..emit.pointers import address
from ..geometry import Geometry
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import tile_range
from . import layout as at
from .layout import Layout

#: Weights in work at a time: as they come and transposed they stay in a second-level cache, 2 times 128 KiB of floats.
#: Chosen, not measured.
_CLOSE = 1 << 15
#: Taps in all output channels of a chunk from which fewer channels are in work at a time. Chosen, not measured.
_MOST = 1 << 16
#: Elements that rows of them are further apart than they are long, lest they share their places in a cache. Measured:
#: kernels of 4 x 4 with 64 channels take 0.58 ns a weight, and 0.84 without.
_APART = 16
#: Input channels that are in work at a time at least, unless their weights are more than so many: each place of a tile
#: is filled by a loop over them. Measured: fcn32s_up32, 64 x 64 taps, takes 1.2 ns a weight with 8 and 4.2 with 1.
_SOME, _LONG = 8, 1 << 18
#: Elements that may be read past the last weight, by `transpose` in whole vectors: more than its widest square.
_PAST = 256


class Weights(NamedTuple):
    """What the kernel `pack_weight` unpacks."""

    geometry: Geometry
    layout: Layout
    swapped: int  # whether output channels are the outer axis of the weights
    unit: int  # input channels in one word: 2 where they come in couples


class Piece(NamedTuple):
    """Weights in work at a time: from some input channels of a group to some output channels of a chunk."""

    group: int
    ci: int  # first input channel, within the group
    inputs: int  # input channels
    first: int  # output channel of the chunk, within the group
    channel: int  # first output channel of the piece, within the group
    channels: int  # output channels


def scratch_size(layout: Layout, volume: int) -> int:
    """Elements of scratch memory with which a thread packs kernels of `volume` taps."""
    channels = int(_channels(int(layout.chunks[:, at.CHANNELS].max()), volume))
    size = channels * volume + _APART
    room = max(_CLOSE, 2 * size, min(_SOME * size, _LONG)) + _APART * channels
    return 2 * (room + room // 8) + _PAST


@register_jitable
def _channels(most, volume):
    return min(most, max(1, _MOST // volume))


@kernel
def pack_weight(weight, packed, _bias, _out, table, work, thread):
    """Pack the share of one thread, some of the input channels; return 0 if all it met are finite.

    Reads the flat `weight` and owns what `packed` has of its input channels; ``work[thread]`` is scratch memory. The
    order is group, set, tile, tap, input channel, row.
    """
    job = unpack(Weights, table)
    g, lay = job.geometry, job.layout
    words, threads, unit = g.cin // job.unit, work.shape[0], job.unit
    start, end = thread * words // threads * unit, (thread + 1) * words // threads * unit
    wrong = 0
    for group in range(g.groups):
        for c in range(lay.chunks.shape[0]):
            first = lay.chunks[c, at.CHANNEL]
            if c > 0 and first == lay.chunks[c - 1, at.CHANNEL]:
                continue  # other phases of the same channels
            past = first + lay.chunks[c, at.CHANNELS]
            step = _channels(lay.chunks[c, at.CHANNELS], g.volume)
            for channel in range(first, past, step):
                channels = min(step, past - channel)
                size = channels * g.volume + _APART
                most = max(1, max(_CLOSE // size, min(_SOME, _LONG // size)) // unit) * unit
                for ci in range(start, end, most):
                    piece = Piece(group, ci, min(most, end - ci), first, channel, channels)
                    wrong |= _pack_piece(weight, packed, work[thread], job, piece)
    return wrong


@inner
def _pack_piece(weight, packed, scratch, job, piece):
    """Pack a piece, for all chunks of its output channels; return whether a weight is not finite.

    Reads `weight`, owns its places in `packed`; `scratch` gets the weights as they come, or couples, and transposed.
    """
    g, lay, channels, inputs = job.geometry, job.layout, piece.channels, piece.inputs
    size, step = channels * g.volume, channels
    pitch = size + _APART
    start, line = address(scratch, 0), scratch
    turned = scratch[(scratch.size - _PAST) // 2 :]
    if job.swapped:
        length = inputs * g.volume
        source = address(weight, ((piece.group * g.cout + piece.channel) * g.cin + piece.ci) * g.volume)
        wrong = copy_checked(start, length + _APART, source, g.cin * g.volume, length, channels, g.half)
        step = channels + channels // 64 * 8
        pitch = step * g.volume
        if channels > 1:
            line = turned
            turn_rows(address(line, 0), step, start, length + _APART, length, 0, channels, channels, g.half)
    else:
        source = address(weight, ((piece.group * g.cin + piece.ci) * g.cout + piece.channel) * g.volume)
        words, half = inputs // job.unit, COUPLED if job.unit > 1 else g.half
        wrong = copy_checked(start, pitch, source, g.cout * g.volume * job.unit, size, words, half)
        if channels > 1 and g.volume > 1:  # transposed: tap, output channel
            line = turned
            for i in range(words):
                transpose(address(line, i * pitch), channels, address(scratch, i * pitch), channels, g.volume)
    for c in range(lay.chunks.shape[0]):
        if lay.chunks[c, at.CHANNEL] == piece.first:
            for s in range(lay.chunks[c, at.FIRST_SET], lay.chunks[c, at.END_SET]):
                _pack_set(weight, packed, (line, step, pitch), job, piece, lay.chunks[c, at.CHANNELS], s)
    return wrong


@inner
def _pack_set(weight, packed, lines, job, piece, chunk, s):
    """Pack what belongs to set `s`, of a chunk of `chunk` channels: in as long parts as lie together in line and tile.

    Reads `lines`, an array ordered input channel, tap, output channel, and the distances of two taps and two input
    channels in it; writes the piece's places in `packed`, and with the last of them the zeros of rows that fill up a
    vector. The weight transform of `winograd`, sums of taps, is done here.
    """
    g, lay, channels = job.geometry, job.layout, piece.channels
    count, words = piece.inputs // job.unit, g.cin // job.unit
    line, step, pitch = lines
    rows, taps = lay.sets[s, at.ROWS], lay.sets[s, at.TAPS]
    first, source = lay.sets[s, at.WEIGHT], lay.sets[s, at.SOURCE]
    phases = rows // chunk
    sums = lay.paired_h + lay.paired_w > 2
    joined = not sums and step == channels and channels == chunk  # whether the rows of neighbouring taps are too
    for tap in range(taps):
        at_tap, phase = source + tap * phases, 0
        t, low, high = -1, 0, 0
        begin, width = 0, 0  # of the tile that is being filled
        while phase < phases:
            place = lay.sources[at_tap + phase, 0]
            others = lay.sources[at_tap + phase, 1:]
            start, row = place * step, phase * chunk + piece.channel - piece.first
            past = row + channels
            phase += 1
            while joined and phase < phases and lay.sources[at_tap + phase, 0] == place + 1:
                past, place, phase = past + chunk, place + 1, phase + 1
            while row < past:
                while row >= high:
                    t += 1
                    low, high = tile_range(rows, lay.lane, t)
                length, width = min(past, high) - row, high - low
                tile = (piece.group * lay.weights + first + low * taps) * words
                begin = tile + (tap * words + piece.ci // job.unit) * width - low
                target = address(packed, begin + row)
                if job.swapped and job.unit > 1:
                    couple_block(weight, target, width, address(line, start), pitch, length, count)
                else:
                    copy_block(target, width, address(line, start), pitch, length, count)
                if sums:
                    for other in others:
                        if other >= 0:
                            added = address(line, start + (other - place) * step)
                            add_block(target, width, added, pitch, length, count)
                start, row = start + length, row + length
        if high > rows:  # whole vectors of rows
            for i in range(count):
                for j in range(rows, high):
                    packed[begin + i * width + j] = 0
