"""How the gradient by the input is cut into sums along lines of memory: see `gather_lines`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, PerAxis, even, make_partition, reach_of
from ..runtime.caches import fitted
from ..tiles.dot_tile import dot_shapes, dot_table

#: Products that are added between two visits to the sums. Measured: splice_k10000 takes 26.8 ms with 2,048, 24.9 with
#: 4,096 and 25.6 with 8,192; the others of its kind do not care.
_DEPTH = 4096
#: Bytes of the panel of grad_output that is multiplied at a time, half of Zen 4's second-level cache.
_PANEL_BYTES = 512 * 1024
#: Results of a row up to which they are one block where grad_output is read as it lies, so that weights are read once.
_COLUMNS = 128
#: Bytes of a page: results of which each reads a multiple of it further on share their places in the caches.
_PAGE = 4096
#: Images up to which that does no harm: the ways of a first-level cache.
_IMAGES = 8
#: Elements of a line from which it is read as it lies: below four vectors its ends cost more than copying it.
_LINE = 64
#: Results of a row up to which weights are not worth packing where grad_output is read in long lines; and where it is
#: copied. Measured: with 128 results nnunet3d_b takes 2.9 ms so and 2.7 with weights packed; with 27 swinunetr_b takes
#: 1.7 and 4.6.
_FEW, _FEW_COPIED = 256, 112
#: Products of a result from which sums of lanes are few.
_DEEP = 1024
#: Weights of a pair of channels up to which there is room for lines of them.
_VOLUME = 1 << 16

# Columns of `Lines.chunks`: first weight in a row, where in a line, first line, lines, elements of each, first channel,
# channels.
FROM, START, LINE, LINES, LENGTH, CHANNEL, CHANNELS = range(7)


class Lines(NamedTuple):
    """Which lines are summed over at a time, by whom, and where they lie."""

    rows: int  # of a tile
    most: int  # columns of a tile
    columns: int  # results of a block
    blocks: int
    splits: int  # parts of the rows that run as tasks of their own
    depth: int  # weights of a row
    direct: int  # whether grad_output is read as it lies, and not from a panel
    pitch: int  # of a column of the panel
    first: PerAxis  # what the first tap of result 0 reads
    step: PerAxis  # from one result to the next
    spread: PerAxis  # from one tap to the next
    chunks: Rows  # columns FROM ... CHANNELS
    weight_lines: Table  # by line of a chunk: place after its first weight
    grad_lines: Table  # by line: place in grad_output or in a column of the panel
    tile: int  # address of the compiled tiles


class GatherLines(NamedTuple):
    """What the kernel `gather_lines` unpacks; a block of its partition is one result."""

    geometry: Geometry
    part: Partition
    lines: Lines


def takes(plan: Plan) -> bool:
    """Whether few results meet many weights in this correlation: then weights are not worth packing."""
    axes = kernel_axes(plan)
    volume = math.prod(plan.kernel)
    most = _FEW if _line_length(axes, plan.in_channels // plan.groups) >= _LINE else _FEW_COPIED
    few = plan.batch * math.prod(axis.output_size for axis in axes) <= most
    deep = plan.in_channels // plan.groups * volume >= _DEEP and volume <= _VOLUME
    plain = plan.dtype in ("float32", "float64") and not plan.channels_last
    return (
        few and deep and plain and all(axis.stride == 1 and (axis.dilation == 1 or axis.kernel == 1) for axis in axes)
    )


def cut_lines(plan: Plan, threads: int) -> GatherLines:
    """Cut the problem for `threads` threads; the order of every sum does not depend on their number."""
    axes, item = kernel_axes(plan), DTYPES[plan.accumulate].size
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    volume = math.prod(plan.kernel)
    length = _line_length(axes, cin)
    crowded = plan.batch > _IMAGES and item * cin * math.prod(plan.in_spatial) % _PAGE == 0
    direct = length >= _LINE and all(_is_inside(axis) for axis in axes) and not crowded
    chunks = _chunks(length, cin * volume // length) if direct else _panel_chunks(volume, cin)
    # Columns a vector more apart, lest those of long chunks share the places of a cache.
    pitch = 0 if direct else max(chunk[LENGTH] for chunk in chunks) + VECTOR_BYTES // item
    total = max(plan.batch, 1) * math.prod(axis.output_size for axis in axes)
    columns = even(total, _COLUMNS if direct else max(6, fitted(_PANEL_BYTES) // (item * pitch)))
    blocks = -(-total // columns)
    if 1 < blocks < total:  # as many for every thread
        columns = even(total, -(-total // (-(-blocks // threads) * threads)))
        blocks = -(-total // columns)
    rows = min(dot_shapes(), key=lambda rows: _cost(rows, cout, columns))
    splits = min(threads // math.gcd(threads, blocks * plan.groups), -(-cout // rows))
    places = _places(axes, cin)[::length] if direct else np.zeros(1, np.int64)
    outputs = [axis.output_size for axis in axes]
    part = make_partition(outputs, outputs, reach_of(axes), threads, columns * pitch + 64)
    lines = Lines(
        rows, dot_shapes()[rows], columns, blocks, splits, cin * volume, int(direct), pitch,
        PerAxis(*(axis.shift_of(axis.kernel - 1) for axis in axes)), PerAxis(*(axis.step for axis in axes)),
        PerAxis(*(axis.dilation for axis in axes)), np.array(chunks, np.int64),
        np.arange(max(chunk[LINES] for chunk in chunks)) * length,
        places, dot_table(plan.accumulate),
    )  # fmt: skip
    return GatherLines(make_geometry(plan), part, lines)


def _line_length(axes: tuple[Axis, Axis, Axis], channels: int) -> int:
    """Weights of a row that follow each other as the elements of grad_output do that they meet."""
    length = 1
    for axis in reversed(axes):
        if axis.dilation > 1 and axis.kernel > 1:
            return length
        length *= axis.kernel
        if axis.kernel < axis.size:
            return length
    return length * channels


def _is_inside(axis: Axis) -> bool:
    """Whether every tap of every result reads what is there."""
    last = axis.shift_of(0) + (axis.output_size - 1) * axis.step
    return axis.shift_of(axis.kernel - 1) >= 0 and last < axis.size


def _chunks(length: int, lines: int) -> list[tuple[int, ...]]:
    """Parts of a line each, or some lines."""
    part = even(length, fitted(_DEPTH))
    if part < length:
        parts = [(start, min(part, length - start)) for start in range(0, length, part)]
        return [(line * length + start, start, line, 1, size, 0, 0) for line in range(lines) for start, size in parts]
    some = even(lines, max(1, fitted(_DEPTH) // length))
    return [(line * length, 0, line, min(some, lines - line), length, 0, 0) for line in range(0, lines, some)]


def _panel_chunks(volume: int, channels: int) -> list[tuple[int, ...]]:
    """Some channels each, whose taps make one line."""
    some = even(channels, max(1, fitted(_DEPTH) // volume))
    counts = [(first, min(some, channels - first)) for first in range(0, channels, some)]
    return [(first * volume, 0, 0, 1, count * volume, first, count) for first, count in counts]


def _places(axes: tuple[Axis, Axis, Axis], channels: int) -> Table:
    """Of every weight of a row, in its order, the place of what it meets, from that of the first one on."""
    sizes = [axis.size for axis in axes]
    places = np.arange(channels, dtype=np.int64)[:, None] * math.prod(sizes)
    for i, axis in enumerate(axes):
        taps = np.arange(axis.kernel, dtype=np.int64) * axis.dilation * math.prod(sizes[i + 1 :])
        places = (places[:, :, None] + taps).reshape(channels, -1)
    return places.reshape(-1)


def _cost(height: int, rows: int, columns: int) -> int:
    """Operations of all tiles of so many rows for a vector of each line: products, or where those are less, reads."""
    most = dot_shapes()[height]
    parts = -(-columns // most)
    widths = [(part + 1) * columns // parts - part * columns // parts for part in range(parts)]
    whole, rest = divmod(rows, height)
    heights = [(height, whole), (rest, 1 if rest else 0)]
    return sum(count * max(high * wide, high + wide) for high, count in heights for wide in widths)
