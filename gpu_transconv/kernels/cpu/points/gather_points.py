"""Gather on small maps: tap by tap, a matrix product of the inputs that exist and of no others.

Around a small map there are as many zeros as inputs, and its blocks do not fill vectors. So the rows of the tile are
the inputs that a tap brings to some output, its columns output channels, and every product is added to the sums of the
outputs that a list names. Weights are read once, in the order in which they lie.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import unpack
from ..emit.intrinsics import copy_row, copy_rows, turn_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, offset, place
from ..emit.registers import VECTOR_BYTES
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import TILE_ROWS, end_vectors, tile, tile_vectors
from ..tiles.tile_frame import ADD, PER_COLUMN
from .point_lists import GatherPoints


class Some(NamedTuple):
    """Some output channels of a group, as vectors of them, of some parts of the outputs."""

    group: int
    first: int
    past: int
    low: int  # first part
    high: int  # the one after the last
    width: int  # elements from the sums of an output to those of the next: an odd number of vectors


@inner
def some_of(group, first, past, low, high, lane):
    """These channels and parts."""
    return Some(group, first, past, low, high, ((past - first) | 1) * lane)


@kernel
def gather_points(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is some output channels of a part of the outputs.

    Reads the inputs of the group and the weights of its channels; ``work[thread]`` holds all inputs of the group, if
    they are not read where they are, those of one tap, and the task's sums behind a row of its bias.
    """
    job = unpack(GatherPoints, table)
    cut, g = job.points, job.geometry
    panel, rest = work[thread, : cut.panel], work[thread, cut.panel :]
    rows, sums, lane = rest[: cut.rows], rest[cut.rows :], VECTOR_BYTES // work.itemsize
    shares, threads, copied = cut.shares.size - 1, job.part.threads, -1
    for number in range(thread * g.groups * shares // threads, (thread + 1) * g.groups * shares // threads):
        group, share = number // shares, number % shares
        if group != copied and not cut.direct:
            copy_inputs(x, panel, job, group)
            copied = group
        for task in cut.tasks[cut.shares[share] : cut.shares[share + 1]]:
            some = some_of(group, task[0], task[1], task[2], task[3], lane)
            begin_sums(sums, bias, job, some)
            for k0 in range(0, g.cin, cut.depth):
                for tap in range(cut.starts.shape[0]):
                    _multiply(sums, x, panel, rows, weight, job, some, tap, k0)
            store_sums(out, sums, job, some)
    return 0


@inner
def copy_inputs(x, panel, job, group):
    """Copy the inputs of a group into the panel, the channels of each behind each other."""
    g, cut = job.geometry, job.points
    size = cut.pixels // g.batch
    for n in range(g.batch):
        source, target = address(x, n * g.x_batch + group * g.cin * g.x_channel), address(panel, n * size * cut.pitch)
        if g.x_channel == 1:
            copy_rows(target, cut.pitch, source, g.x_pixel, size, 0, g.cin, g.cin, g.half)
        else:
            turn_rows(target, cut.pitch, source, g.x_channel, size, 0, g.cin, g.cin, g.half)


@inner
def begin_sums(sums, bias, job, some):
    """Write a row of the bias of some channels, and behind it the sums of outputs that no tap is the first to reach."""
    g, cut = job.geometry, job.points
    lane = VECTOR_BYTES // sums.itemsize
    width, known = (some.past - some.first) * lane, g.cout - some.first * lane
    for c in range(width):
        sums[c] = bias[some.group * g.cout + some.first * lane + c] if c < known else 0.0
    for o in cut.begun[cut.begun_starts[some.low] : cut.begun_starts[some.high]]:
        to = address(sums, (1 + o - cut.bounds[some.low]) * some.width)
        copy_row(to, address(sums, 0), 0, width, width, 0)


@inner
def _multiply(sums, x, panel, rows, weight, job, some, tap, k0):
    """Add to the sums what a tap brings of a slab of input channels, where they are or from the panel.

    The first to reach an output begins with the bias.

    While a strip of weights is multiplied, the next one comes to the caches: some lines of it with each tile.
    """
    g, cut = job.geometry, job.points
    start = cut.starts[tap, some.low]
    count = cut.starts[tap, some.high] - start
    if count == 0:
        return
    lane = VECTOR_BYTES // sums.itemsize
    depth = min(cut.depth, g.cin - k0)
    a, row, step = address(panel, cut.inputs[start] * cut.pitch + k0), cut.pitch, 1
    if cut.direct:
        a = address(x, cut.inputs[start] + (some.group * g.cin + k0) * g.x_channel)
        row, step = 1, g.x_channel
    elif cut.inputs[start + count - 1] - cut.inputs[start] >= count:
        for j in range(count):
            source = address(panel, cut.inputs[start + j] * cut.pitch + k0)
            copy_row(address(rows, j * cut.pitch), source, 0, depth, depth, 0)
        a = address(rows, 0)
    tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    mode = PER_COLUMN if k0 == 0 and cut.fresh[tap] else ADD
    before = (some.group * cut.starts.shape[0] + tap) * cut.padded
    v = some.first
    while v < some.past:
        strip = v // cut.strip * cut.strip
        wide, end = min(cut.strip, cut.padded - strip) * lane, min(some.past, strip + cut.strip)
        soon = strip + cut.strip if end < some.past else cut.padded + some.first // cut.strip * cut.strip
        ahead = place(weight, (before + soon) * lane * g.cin + k0 * wide)
        line = (wide * weight.itemsize + tiles - 1) // tiles
        while v < end:
            few = end_vectors(tile_vectors(count, end - v), g.cout - v * lane, lane)
            b = (before + strip) * lane * g.cin + k0 * wide + (v - strip) * lane
            to = (v - some.first) * lane + (1 - cut.bounds[some.low]) * some.width
            for t in range(tiles):
                p, q = t * count // tiles, (t + 1) * count // tiles
                tile(
                    cut.tile,
                    address(sums, to), address(cut.outputs, start + p), some.width,
                    offset(a, p * row), row, step, address(cut.iota, 0), 0,
                    address(weight, b), wide, address(cut.iota, 0), 0,
                    address(sums, (v - some.first) * lane), mode, 1, depth,
                    ahead + t * depth * line, line, q - p, few,
                )  # fmt: skip
            v += max(few, 1)


@inner
def store_sums(out, sums, job, some):
    """Write the results of some channels, activated in place."""
    g, cut = job.geometry, job.points
    lane = VECTOR_BYTES // sums.itemsize
    channel = some.group * g.cout + some.first * lane
    channels = min(g.cout, some.past * lane) - some.first * lane
    start, end = cut.bounds[some.low], cut.bounds[some.high]
    if g.activation:
        for o in range(end - start):
            activate_run(sums, (1 + o) * some.width, channels, g.activation, g.slope)
    image = g.out_d * g.out_h * g.out_w
    o = start
    while o < end:
        n, pixel = o // image, o % image
        length = min(image - pixel, end - o)
        target = address(out, n * g.y_batch + channel * g.y_channel + pixel * g.y_pixel)
        source = address(sums, (1 + o - start) * some.width)
        if g.last:
            copy_rows(target, g.y_pixel, source, some.width, length, 0, channels, channels, g.half)
        else:
            turn_rows(target, g.y_channel, source, some.width, channels, 0, length, length, g.half)
        o += length
