"""Gather on small maps: tap by tap, a matrix product of the inputs that exist and of no others.

Around a small map there are as many zeros as inputs, and its blocks do not fill vectors. So the rows of the tile are
the inputs that a tap brings to some output, its columns output channels, and every product is added to the sums of the
outputs that a list names. Weights are read once, in the order in which they lie.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import unpack
from ..emit.gemm_tile import TILE_ROWS, end_vectors, tile, tile_vectors
from ..emit.intrinsics import copy_row, copy_rows, turn_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, offset, place
from ..emit.registers import VECTOR_BYTES
from ..emit.tile_frame import ADD, PER_COLUMN
from ..runtime.compiled import inner, kernel
from .point_lists import GatherPoints


class Some(NamedTuple):
    """Some output channels of a group, as vectors of them."""

    group: int
    first: int
    past: int


@kernel
def gather_points(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is some output channels of a part of the outputs.

    Reads the inputs of the group and the weights of its channels; ``work[thread]`` holds all inputs of the group, if
    they are not read where they are, those of one tap, the bias, and the task's sums.
    """
    job = unpack(GatherPoints, table)
    cut, g = job.points, job.geometry
    tasks, threads = g.groups * cut.blocks * cut.parts, job.part.threads
    panel, rest = work[thread, : cut.panel], work[thread, cut.panel :]
    rows, start, sums = rest[: cut.rows], rest[cut.rows : cut.rows + cut.width], rest[cut.rows + cut.width :]
    copied = -1
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        part, number = task % cut.parts, task // cut.parts
        block, group = number % cut.blocks, number // cut.blocks
        if group != copied and not cut.direct:
            copy_inputs(x, panel, job, group)
            copied = group
        some = Some(group, block * cut.vectors // cut.blocks, (block + 1) * cut.vectors // cut.blocks)
        begin_sums(sums, start, bias, job, some, part)
        for k0 in range(0, g.cin, cut.depth):
            for tap in range(cut.starts.shape[0]):
                _multiply(sums, start, x, panel, rows, weight, job, some, part, tap, k0)
        store_sums(out, sums, job, some, part)
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
def begin_sums(sums, start, bias, job, some, part):
    """Write the bias of some channels to `start`, and to the sums of the outputs that no tap is the first to reach."""
    g, cut = job.geometry, job.points
    lane = VECTOR_BYTES // sums.itemsize
    width, known = (some.past - some.first) * lane, g.cout - some.first * lane
    for c in range(width):
        start[c] = bias[some.group * g.cout + some.first * lane + c] if c < known else 0.0
    for o in cut.begun[cut.begun_starts[part] : cut.begun_starts[part + 1]]:
        copy_row(address(sums, (o - cut.bounds[part]) * cut.width), address(start, 0), 0, width, width, 0)


@inner
def _multiply(sums, first, x, panel, rows, weight, job, some, part, tap, k0):
    """Add to the sums what a tap brings of a slab of input channels, where they are or from the panel.

    Sums that no tap has reached before begin with those of `first`.

    While a strip of weights is multiplied, the next one comes to the caches: some lines of it with each tile.
    """
    g, cut = job.geometry, job.points
    start, count = cut.starts[tap, part], cut.starts[tap, part + 1] - cut.starts[tap, part]
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
            to = (v - some.first) * lane - cut.bounds[part] * cut.width
            for t in range(tiles):
                p, q = t * count // tiles, (t + 1) * count // tiles
                tile(
                    cut.tile,
                    address(sums, to), address(cut.outputs, start + p), cut.width,
                    offset(a, p * row), row, step, address(cut.iota, 0), 0,
                    address(weight, b), wide, address(cut.iota, 0), 0,
                    address(first, (v - some.first) * lane), mode, 1, depth,
                    ahead + t * depth * line, line, q - p, few,
                )  # fmt: skip
            v += max(few, 1)


@inner
def store_sums(out, sums, job, some, part):
    """Write the results of some channels, activated in place."""
    g, cut = job.geometry, job.points
    lane = VECTOR_BYTES // sums.itemsize
    channel = some.group * g.cout + some.first * lane
    channels = min(g.cout, some.past * lane) - some.first * lane
    start, end = cut.bounds[part], cut.bounds[part + 1]
    if g.activation:
        for o in range(end - start):
            activate_run(sums, o * cut.width, channels, g.activation, g.slope)
    image = g.out_d * g.out_h * g.out_w
    o = start
    while o < end:
        n, pixel = o // image, o % image
        length = min(image - pixel, end - o)
        target = address(out, n * g.y_batch + channel * g.y_channel + pixel * g.y_pixel)
        source = address(sums, (o - start) * cut.width)
        if g.last:
            copy_rows(target, g.y_pixel, source, cut.width, length, 0, channels, channels, g.half)
        else:
            turn_rows(target, g.y_channel, source, cut.width, channels, 0, length, length, g.half)
        o += length
