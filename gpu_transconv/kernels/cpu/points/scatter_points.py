"""Scatter on small maps: tap by tap, weights turned strip by strip as they are needed.

What `gather_points` computes, for weights in the caller's order: those of some input channels and one strip of output
channels are turned, channel by channel, into rows of output channels for each tap, which stay in the second-level cache
and are multiplied at once. So nothing is packed, and what is fetched ahead are the weights as they lie.

Where a filter of one output channel has whole strides of taps, the phases are channels, and the weights of a tap lie in
rows of them, which are copied.
"""

from __future__ import annotations

from ..arguments import unpack
from ..emit.intrinsics import copy_row, copy_rows, fetch, transpose, turn_rows
from ..emit.pointers import address, offset, place
from ..emit.registers import VECTOR_BYTES
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import TILE_ROWS, end_vectors, tile
from ..tiles.tile_frame import ADD, PER_COLUMN
from .gather_points import begin_sums, copy_inputs, some_of, store_sums
from .point_strips import ScatterPoints


@kernel
def scatter_points(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is some output channels of a part of the outputs.

    Reads the inputs of the group, and `weight` as the caller has it; ``work[thread]`` holds all inputs of the group,
    those of the taps, the turned weights of a slab, and the sums of a strip behind a row of its bias.
    """
    job = unpack(ScatterPoints, table)
    cut, g, size = job.points, job.geometry, job.strips.size
    panel, rest = work[thread, : cut.panel], work[thread, cut.panel :]
    rows, turned, sums = rest[: cut.rows], rest[cut.rows : cut.rows + size], rest[cut.rows + size :]
    lane = VECTOR_BYTES // work.itemsize
    shares, threads, copied = cut.shares.size - 1, job.part.threads, -1
    for number in range(thread * g.groups * shares // threads, (thread + 1) * g.groups * shares // threads):
        group, share = number // shares, number % shares
        if group != copied:
            copy_inputs(x, panel, job, group)
            if job.strips.listed:
                for meeting in range(cut.inputs.size):
                    source = address(panel, cut.inputs[meeting] * cut.pitch)
                    copy_row(address(rows, meeting * cut.pitch), source, 0, g.cin, g.cin, 0)
            copied = group
        for task in cut.tasks[cut.shares[share] : cut.shares[share + 1]]:
            for v in range(task[0], task[1], 2):
                some = some_of(group, v, min(task[1], v + 2), task[2], task[3], lane)
                begin_sums(sums, bias, job, some)
                for k0 in range(0, g.cin, cut.depth):
                    _multiply_slab(sums, panel, rows, turned, weight, job, some, k0)
                store_sums(out, sums, job, some)
    return 0


@inner
def _multiply_slab(sums, panel, rows, turned, weight, job, some, k0):
    """Add to the sums of a strip what a slab of input channels brings; the weights after these come to the caches."""
    g, cut, strips = job.geometry, job.points, job.strips
    lane = VECTOR_BYTES // sums.itemsize
    depth, width = min(cut.depth, g.cin - k0), (some.past - some.first) * lane
    channels = min(g.cout - some.first * lane, width)
    row = g.cout * g.volume
    begin = (some.group * g.cin + k0) * row + some.first * lane * strips.channel
    ahead = place(weight, begin + depth * row)
    if k0 + depth == g.cin:
        ahead = place(weight, some.group * g.cin * row + some.past * lane * strips.channel)
    _turn(turned, weight, job, begin, depth, channels, width)
    for tap in range(g.volume):
        start = cut.starts[tap, some.low]
        count = cut.starts[tap, some.high] - start
        tiles = (count + TILE_ROWS - 1) // TILE_ROWS
        soon = ahead + tap * (strips.tap * weight.itemsize if strips.tap else 2 * VECTOR_BYTES)
        if tiles < 2:  # each tile asks for a line of a row
            for k in range(depth):
                fetch(soon + k * row * weight.itemsize + tiles * VECTOR_BYTES, 2 - tiles)
        if count > 0:
            a = address(panel, cut.inputs[start] * cut.pitch + k0)
            if strips.listed:
                a = address(rows, start * cut.pitch + k0)
            elif cut.inputs[start + count - 1] - cut.inputs[start] >= count:
                for j in range(count):
                    source = address(panel, cut.inputs[start + j] * cut.pitch + k0)
                    copy_row(address(rows, j * cut.pitch), source, 0, depth, depth, 0)
                a = address(rows, 0)
        mode = PER_COLUMN if k0 == 0 and cut.fresh[tap] else ADD
        v, past = 0, some.past - some.first if count > 0 else 0
        while v < past:
            few = end_vectors(past - v, channels - v * lane, lane)
            to = v * lane + (1 - cut.bounds[some.low]) * some.width
            for t in range(tiles):
                p, q = t * count // tiles, (t + 1) * count // tiles
                tile(
                    cut.tile,
                    address(sums, to), address(cut.outputs, start + p), some.width,
                    offset(a, p * cut.pitch), cut.pitch, 1, address(cut.iota, 0), 0,
                    address(turned, tap * strips.apart + v * lane), width, address(cut.iota, 0), 0,
                    address(sums, v * lane), mode, 1, depth,
                    soon + t % 2 * VECTOR_BYTES, row * weight.itemsize, q - p, few,
                )  # fmt: skip
            v += max(few, 1)


@inner
def _turn(turned, weight, job, begin, depth, channels, width):
    """Turn the weights of a slab that begin there into rows of output channels for each tap."""
    g, strips = job.geometry, job.strips
    lane, row = VECTOR_BYTES // turned.itemsize, g.cout * g.volume
    for tap in range(g.volume if strips.tap else 0):
        to, source = address(turned, tap * strips.apart), address(weight, begin + tap * strips.tap)
        copy_rows(to, width, source, row, depth, 0, channels, channels, 0)
    for k in range(0 if strips.tap else depth):
        to, source = address(turned, k * width), begin + k * row
        if source + width * g.volume + lane <= weight.size:
            transpose(to, strips.apart, address(weight, source), channels, g.volume)
        else:
            turn_rows(to, strips.apart, address(weight, source), g.volume, g.volume, 0, channels, channels, 0)
