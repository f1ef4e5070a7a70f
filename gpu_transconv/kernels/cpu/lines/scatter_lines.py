"""Scatter along lines of memory: few inputs meet many weights, which stay as they are.

A row of weights, one input channel, has the taps of all output channels behind each other: the stamp of an input is a
combination of such rows. So the tile's rows are inputs and its columns weights, of some output channels at a time.
Nothing is packed, nothing is multiplied by the zeros around the input, and a map need not fill vectors. The stamps of
all inputs then are added into the results, which one task owns.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import unpack
from ..emit.intrinsics import add_block, copy_rows, fetch, turn_rows
from ..emit.numbers import activate, narrow, widen
from ..emit.pointers import address, address_as, offset, place
from ..emit.registers import VECTOR_BYTES
from ..partition import block_of
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import TILE_ROWS, tile, tile_vectors
from ..tiles.tile_frame import ADD
from .stamp_lines import ScatterLines

#: Bytes of memory that can all be read or not at all: a page, or a part of one.
_PAGE = 4096


class Some(NamedTuple):
    """Some output channels of a group."""

    group: int
    first: int  # within the group
    channels: int


@kernel
def scatter_lines(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is some output channels of a group, which it owns.

    Reads all inputs of the group, and `weight` as the caller has it. ``work[thread]`` holds the inputs, the stamps, and
    weights where whole vectors of them would reach beyond the last.
    """
    job = unpack(ScatterLines, table)
    cut, g = job.lines, job.geometry
    tasks, threads = g.groups * cut.blocks, job.part.threads
    panel, sums = work[thread, : cut.panel], work[thread, cut.panel : cut.panel + cut.sums]
    rest = work[thread, cut.panel + cut.sums :]
    copied = -1
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        group, block = task // cut.blocks, task % cut.blocks
        if group != copied:
            _copy_inputs(x, panel, job, group)
            copied = group
        first, past = _channel(job, block), _channel(job, block + 1)
        soon = place(weight, (group * g.cin * g.cout + _channel(job, block + 1)) * g.volume)
        some = Some(group, first, past - first)
        _multiply(weight, panel, sums, rest, job, some, soon)
        if g.last:
            _store_pixels(out, sums, bias, job, some)
        else:
            _add_stamps(out, sums, bias, job, some)
    return 0


@inner
def _channel(job, block):
    """First output channel of a block."""
    return min(job.geometry.cout, block * job.lines.units // job.lines.blocks * job.lines.unit)


@inner
def _copy_inputs(x, panel, job, group):
    """Copy the inputs of a group into the panel, which is ordered channel, image, pixel."""
    g, pixels = job.geometry, job.lines.pixels
    size = pixels // g.batch
    first = group * g.cin * g.x_channel
    if g.last:
        turn_rows(address(panel, 0), pixels, address(x, first), g.x_pixel, g.cin, 0, pixels, pixels, g.half)
        return
    for n in range(g.batch):
        source = address(x, first + n * g.x_batch)
        copy_rows(address(panel, n * size), pixels, source, g.x_channel, g.cin, 0, size, size, g.half)


@inner
def _ends_a_page(weight):
    """Whether a vector that begins in `weight` may reach into memory that is not there."""
    end = place(weight, weight.size)
    return (end - 1) // _PAGE != (end + VECTOR_BYTES - weight.itemsize - 1) // _PAGE


@inner
def _multiply(weight, panel, sums, rest, job, some, soon):
    """Sum the stamps of all inputs on some channels; `sums` are ordered input, channel, tap.

    While a slab of weights is multiplied, those of the next come to the caches, or those at the place `soon`. Vectors
    reach into the next row of weights, and past the last one into what lies behind it in the same page.
    """
    g, cut = job.geometry, job.lines
    lane = VECTOR_BYTES // sums.itemsize
    columns = some.channels * g.volume
    vectors = (columns + lane - 1) // lane
    last = some.group + 1 == g.groups and some.first + some.channels == g.cout
    for j in range(cut.pixels * cut.pitch):
        sums[j] = 0
    parts = (cut.pixels + TILE_ROWS - 1) // TILE_ROWS
    for k0 in range(0, g.cin, cut.depth):
        depth = min(cut.depth, g.cin - k0)
        begin = ((some.group * g.cin + k0) * g.cout + some.first) * g.volume
        source, step = address(weight, begin), cut.row
        if last and k0 + depth == g.cin and columns % lane != 0 and _ends_a_page(weight):
            copy_rows(address(rest, 0), cut.pitch, source, step, depth, 0, columns, columns, 0)
            source, step = address(rest, 0), cut.pitch
        ahead = soon if k0 + depth == g.cin else place(weight, begin + depth * cut.row)
        for part in range(parts):
            p, q = part * cut.pixels // parts, (part + 1) * cut.pixels // parts
            v = 0
            while v < vectors:
                wide = tile_vectors(q - p, vectors - v)
                if cut.far and part == 0 and parts < wide:  # each tile asks for a line of a row
                    for k in range(depth):
                        fetch(ahead + (v + parts) * VECTOR_BYTES + k * cut.row * weight.itemsize, wide - parts)
                tile(
                    cut.tile,
                    address(sums, p * cut.pitch + v * lane), address(cut.iota, 0), cut.pitch,
                    address(panel, k0 * cut.pixels + p), 1, cut.pixels, address(cut.iota, 0), 0,
                    offset(source, v * lane), step, address(cut.iota, 0), 0,
                    address(sums, 0), ADD, 1, depth,
                    ahead + (v + part % wide) * VECTOR_BYTES, cut.row * weight.itemsize, q - p, wide,
                )  # fmt: skip
                v += wide


@inner
def _add_stamps(out, sums, bias, job, some):
    """Write the results of some channels: the bias and the stamps that reach them, in the order of the inputs."""
    g, cut = job.geometry, job.lines
    channel = some.group * g.cout + some.first
    size = g.out_d * g.out_h * g.out_w
    for n in range(g.batch):
        for c in range(some.channels):
            start = n * g.y_batch + (channel + c) * g.y_channel
            for j in range(start, start + size):
                out[j] = narrow(bias[channel + c], out, g.half)
    for i in range(cut.pixels):
        b = block_of(job.part, i)
        o_w = (b.w - g.shift_w[0]) * g.stride_w + g.phase_w[0]
        low = min(g.kernel_w, max(0, (cut.spread - 1 - o_w) // cut.spread))
        high = max(low, min(g.kernel_w, (g.out_w - 1 - o_w) // cut.spread + 1))
        start = b.n * g.y_batch + channel * g.y_channel + o_w
        for k_d in range(g.kernel_d if low < high else 0):
            o_d = (b.d - g.shift_d[k_d]) * g.stride_d + g.phase_d[k_d]
            for k_h in range(g.kernel_h if 0 <= o_d < g.out_d else 0):
                o_h = (b.h - g.shift_h[k_h]) * g.stride_h + g.phase_h[k_h]
                if 0 <= o_h < g.out_h:
                    target = start + (o_d * g.out_h + o_h) * g.out_w
                    source = i * cut.pitch + (k_d * g.kernel_h + k_h) * g.kernel_w
                    _add_row(out, target, sums, source, job, low, high, some.channels)
    if g.activation:
        for n in range(g.batch):
            start = n * g.y_batch + channel * g.y_channel
            for j in range(start, start + some.channels * g.y_channel):
                out[j] = narrow(activate(widen(out[j], g.half), g.activation, g.slope), out, g.half)


@inner
def _add_row(out, target, sums, source, job, low, high, count):
    """Add the taps from `low` to `high` of a row of the filters of `count` channels."""
    g, spread = job.geometry, job.lines.spread
    if spread == 1:
        to, row = address_as(sums, out, target + low), address(sums, source + low)
        add_block(to, g.y_channel, row, g.volume, high - low, count)
        return
    for k in range(low, high):
        to, row = address_as(sums, out, target + k * spread), address(sums, source + k)
        add_block(to, g.y_channel, row, g.volume, 1, count)


@inner
def _store_pixels(out, sums, bias, job, some):
    """Channels last: write the results of some channels, of which each is one sum and the bias."""
    g, cut = job.geometry, job.lines
    channel = some.group * g.cout + some.first
    for i in range(cut.pixels):
        target, source = i * g.y_pixel + channel, i * cut.pitch
        for c in range(some.channels):
            value = sums[source + c] + bias[channel + c]
            if g.activation:
                value = activate(value, g.activation, g.slope)
            out[target + c] = narrow(value, out, g.half)
