"""Bringing weights into the order in which the tiles read them."""

from __future__ import annotations

from numba.extending import register_jitable

from .compiled import inner, kernel
from .geometry import Geometry
from .layout import LAYOUT, Layout
from .packing import tile_range
from .tables import unpack
from .vectors import add_block, address, copy_block, copy_row, transpose

#: Weights in work at a time stay in the first-level cache, as they come and transposed.
_CLOSE = 1 << 15
#: With so many taps in all output channels of a chunk, fewer channels are in work at a time.
_MOST = 1 << 16
#: Whole vectors are read past the last weight.
_PAST = 256


def scratch_size(layout: Layout, volume: int) -> int:
    """Elements of scratch memory with which a thread packs kernels of `volume` taps."""
    most = int(layout.chunks[:, 3].max())
    return 2 * max(_CLOSE, int(_channels(most, volume)) * volume) + _PAST


@register_jitable
def _channels(most, volume):
    return min(most, max(1, _MOST // volume))


@kernel
def pack_weight(weight, packed, _bias, _out, table, work, thread):
    """Pack the share of one thread, some of the input channels; return 0 if all it met are finite.

    The order is group, set, tile, tap, input channel, row.
    """
    g, lay = unpack(Geometry, table, 0), unpack(Layout, table, LAYOUT)
    start, end = thread * g.cin // work.shape[0], (thread + 1) * g.cin // work.shape[0]
    wrong = 0
    for group in range(g.groups):
        for c in range(lay.chunks.shape[0]):
            if c > 0 and lay.chunks[c, 2] == 0:
                break  # the chunks that follow are other phases of the same channels
            first, past = lay.chunks[c, 2], lay.chunks[c, 2] + lay.chunks[c, 3]
            step = _channels(lay.chunks[c, 3], g.volume)
            for channel in range(first, past, step):
                channels = min(step, past - channel)
                most = max(1, _CLOSE // (channels * g.volume))
                for ci in range(start, end, most):
                    count = min(most, end - ci)
                    wrong |= _pack_some(
                        weight, packed, work[thread], g, lay, group, ci, count, first, channel, channels
                    )
    return wrong


@inner
def _pack_some(weight, packed, scratch, g, lay, group, ci, count, first, channel, channels):
    """Pack the weights from `count` input channels to `channels` output channels, part of the chunks from `first`."""
    pitch = channels * g.volume
    for i in range(count):
        source = ((group * g.cin + ci + i) * g.cout + channel) * g.volume
        copy_row(address(scratch, i * pitch), address(weight, source), 0, pitch, pitch, g.half)
    wrong = 0
    for j in range(count * pitch):
        wrong |= scratch[j] - scratch[j] != 0
    line = scratch
    if channels > 1 and g.volume > 1:  # transposed: tap, output channel
        line = scratch[(scratch.size - _PAST) // 2 :]
        for i in range(count):
            transpose(address(line, i * pitch), address(scratch, i * pitch), channels, g.volume)
    for c in range(lay.chunks.shape[0]):
        if lay.chunks[c, 2] == first:
            for s in range(lay.chunks[c, 4], lay.chunks[c, 5]):
                _pack_set(packed, line, g, lay, group, ci, count, lay.chunks[c, 3], channel - first, channels, s)
    return wrong


@inner
def _pack_set(packed, line, g, lay, group, ci, count, chunk, channel, channels, s):
    """Pack what belongs to one set: as long pieces as lie together in `line` and in a tile."""
    rows, taps, first, source = lay.sets[s, 1], lay.sets[s, 3], lay.sets[s, 4], lay.sets[s, 5]
    phases, pitch = rows // chunk, channels * g.volume
    sums = lay.paired_h + lay.paired_w > 2
    for tap in range(taps):
        at_tap, phase = source + tap * phases, 0
        t, low, high = -1, 0, 0
        while phase < phases:
            place = lay.sources[at_tap + phase, 0]
            others = lay.sources[at_tap + phase, 1:]
            at, row = place * channels, phase * chunk + channel
            past = row + channels
            phase += 1
            while not sums and channels == chunk and phase < phases and lay.sources[at_tap + phase, 0] == place + 1:
                past, place, phase = past + chunk, place + 1, phase + 1
            while row < past:
                while row >= high:
                    t += 1
                    low, high = tile_range(rows, lay.lane, t)
                length, width = min(past, high) - row, high - low
                start = (group * lay.weights + first + low * taps) * g.cin + (tap * g.cin + ci) * width
                target = address(packed, start + row - low)
                copy_block(target, width, address(line, at), pitch, length, count)
                if sums:
                    for other in others:
                        if other >= 0:
                            add_block(
                                target, width, address(line, at + (other - place) * channels), pitch, length, count
                            )
                at, row = at + length, row + length
        if high > rows:  # whole vectors of rows
            for i in range(count):
                for j in range(rows, high):
                    packed[start + i * width + j - low] = 0
