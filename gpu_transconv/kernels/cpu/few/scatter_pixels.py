"""Scatter for few output channels with the channels last: the stamps of some pixels of a row, added to rows of outputs.

Columns of a product are all taps of all output channels, rows are pixels as they lie: nothing is turned, and no lanes
are added up. Of a stamp each row of taps lies in the results as it does in the product. A task owns a band of rows of
blocks and goes down the rows of input; the rows of outputs that more of them will reach are kept in a ring.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....arrays.views import Array
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..arguments import Table, unpack
from ..emit.intrinsics import add_block, copy_block, interleave_rows
from ..emit.numbers import activate_run
from ..emit.pointers import address, address_as, fence, place
from ..emit.registers import VECTOR_BYTES, has_masks
from ..geometry import Geometry, make_geometry
from ..partition import Partition, box_count, box_of, even, make_partition, reach_of
from ..runtime.compiled import inner, kernel
from ..tiles.gemm_tile import TILE_ROWS
from ..tiles.pixel_tile import pixel_table, pixel_tile
from ..tiles.tile_frame import PER_COLUMN

#: Columns of a product at most, and elements of the stamps of some pixels: 16 KiB of floats. Chosen, not measured.
_COLUMNS, _STAMPS = 128, 4096
#: Rows of blocks, pixels of a row and input channels at least. Chosen, not measured.
_ROWS, _PIXELS, _CHANNELS = 8, 16, 16
#: Products that take as long as adding a vector of a stamp, and storing one of results. The former fitted to four
#: layers, 10 to 15 cycles; the latter chosen, not measured.
_ADD, _STORE = 160.0, 48.0


class ScatterPixels(NamedTuple):
    """What the kernel `scatter_pixels` unpacks; a box is a band of rows of blocks."""

    geometry: Geometry
    part: Partition
    pixels: int  # at once
    columns: int  # of the product, filled up to whole vectors
    turns: int  # every so many-th stamp of a row is in vectors of its own, else each would wait for the one before
    begin: int  # elements of a row of the ring before the first result
    first: int  # and before the first stamp
    pitch: int  # of a row of the ring
    ring: int  # rows in it
    places: Table  # by pixel where it lies
    numbers: Table  # by pixel its number
    tile: int  # address of the compiled tiles


def takes_pixels(plan: Plan) -> bool:
    """Whether the kernel is for this plan."""
    d, h, w = by_phase(plan).axes
    return (
        plan.channels_last
        and plan.groups == 1
        and not plan.fixed_order
        and plan.dtype == plan.accumulate
        and has_masks(DTYPES[plan.accumulate].size)
        and d.size == d.kernel == d.stride == d.output_size == 1
        and h.step == w.step == w.dilation == 1
        and h.dilation > 0
        and math.prod(plan.kernel) * plan.out_channels <= _COLUMNS
        and h.blocks >= _ROWS
        and w.size >= _PIXELS
        and plan.in_channels >= _CHANNELS
    )


def cost_of_pixels(plan: Plan) -> float:
    """Cost in the unit of `cost`."""
    _, h, w = by_phase(plan).axes
    lanes = VECTOR_BYTES // DTYPES[plan.accumulate].size
    products = _columns(plan, lanes) * plan.in_channels
    stored = h.stride * w.stride * plan.out_channels / lanes
    return float(products + _ADD * h.kernel * math.ceil(w.kernel * plan.out_channels / lanes) + _STORE * stored)


def _columns(plan: Plan, lanes: int) -> int:
    return -(-math.prod(plan.kernel) * plan.out_channels // lanes) * lanes


def cut_pixels(plan: Plan, threads: int) -> ScatterPixels:
    """Cut images into bands of rows; the order of every sum does not depend on it."""
    axes, item, cout = by_phase(plan).axes, DTYPES[plan.accumulate].size, plan.out_channels
    (_, h, w), lanes, reach = axes, VECTOR_BYTES // item, reach_of(axes)
    columns = _columns(plan, lanes)
    pixels = even(w.size, max(TILE_ROWS, _STAMPS // columns // TILE_ROWS * TILE_ROWS))
    begin = max(0, w.pad_low) * cout
    past = max(0, (w.size - 1) * w.stride - w.pad_low + w.kernel - w.output_size) * cout
    pitch = -(-(begin + w.output_size * cout + past) // lanes) * lanes + lanes
    ring = (reach[1][1] + 1) * h.stride
    turns = -(-(-(-w.kernel * cout // lanes) * lanes) // (w.stride * cout))
    bands = next(count for count in range(1, threads + 1) if plan.batch * count % threads == 0)
    part = make_partition(
        [1, h.blocks, 1], (1, -(-h.blocks // bands), 1), reach, threads, pixels * columns + ring * pitch + 2 * lanes
    )
    numbers = np.arange(pixels)
    return ScatterPixels(
        make_geometry(plan), part, pixels, columns, turns, begin, begin - w.pad_low * cout, pitch, ring,
        numbers * plan.in_channels, numbers, pixel_table(plan.accumulate),
    )  # fmt: skip


def pack(weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights by tile of columns, input channel and column, which are taps, and then output channels; and the bias.

    The bias begins with zeros, with which stamps start, and is repeated for whole vectors.
    """
    lanes, cin, cout = VECTOR_BYTES // values.dtype.itemsize, weight.shape[0], values.size
    taps = weight.reshape(cin, cout, -1).transpose(0, 2, 1).reshape(cin, -1)
    columns = np.zeros((cin, -(-taps.shape[1] // lanes) * lanes), values.dtype)
    columns[:, : taps.shape[1]] = taps
    tiles = [columns[:, first : first + 2 * lanes].reshape(-1) for first in range(0, columns.shape[1], 2 * lanes)]
    return np.concatenate(tiles), np.concatenate([np.zeros(2 * lanes, values.dtype), np.tile(values, lanes)])


@kernel
def scatter_pixels(x, weight, bias, out, table, work, thread):
    """Fill the share of one thread of the flat `out`; a task is a band of an image, whose outputs it owns.

    Reads the inputs whose stamps reach it, weight and bias; ``work[thread]`` holds some stamps and rows of outputs.
    """
    job = unpack(ScatterPixels, table)
    g, boxes, threads = job.geometry, box_count(job.part), job.part.threads
    stamps, ring = work[thread][: job.pixels * job.columns], work[thread][job.pixels * job.columns :]
    tasks = g.batch * boxes
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        band, n = box_of(job.part, task % boxes), task // boxes
        low, high = band.h * g.stride_h, min(g.out_h, (band.h + band.height) * g.stride_h)
        for slot in range(job.ring):
            _begin_row(ring, bias, job, slot)
        first = band.h + job.part.low_h
        for i in range(first, first + band.height + job.part.span_h):
            if 0 <= i < g.in_h:
                _add_row(x, weight, bias, stamps, ring, job, n, i, (low, high))
            begin = (i - job.part.low_h - job.part.span_h) * g.stride_h
            for o in range(max(low, begin), min(high, begin + g.stride_h)):
                first_sum, size = o % job.ring * job.pitch + job.begin, g.out_w * g.cout
                activate_run(ring, first_sum, size, g.activation, g.slope)
                to = address(out, (n * g.out_h + o) * size)
                interleave_rows(to, address(ring, first_sum), 0, 1, size, g.half, g.stream)
                _begin_row(ring, bias, job, o % job.ring)
    fence()
    return 0


@inner
def _begin_row(ring, bias, job, slot):
    """Fill a row of the ring with the bias."""
    g, lanes = job.geometry, VECTOR_BYTES // ring.itemsize
    first, size, length = slot * job.pitch + job.begin, job.geometry.out_w * g.cout, lanes * g.cout
    copy_block(address(ring, first), length, address(bias, 2 * lanes), 0, length, size // length)
    done = size // length * length
    copy_block(address(ring, first + done), 0, address(bias, 2 * lanes), 0, size - done, 1)


@inner
def _add_row(x, weight, bias, stamps, ring, job, n, i, rows):
    """Add the stamps of row `i` of the input of image `n` to the rows of outputs of a band, which are in the ring."""
    g, turn, (low, high) = job.geometry, job.turns, rows
    length, j = g.kernel_w * g.cout, 0
    while j < g.in_w:
        count = min(job.pixels, g.in_w - j)
        _stamp(x, weight, bias, stamps, job, (n * g.in_h + i) * g.in_w + j, count)
        for k in range(g.kernel_h):
            o = (i - g.shift_h[k]) * g.stride_h + g.phase_h[k]
            if low <= o < high:
                to = o % job.ring * job.pitch + job.first + j * g.stride_w * g.cout
                for q in range(min(turn, count)):
                    add_block(
                        address(ring, to + q * g.stride_w * g.cout), turn * g.stride_w * g.cout,
                        address(stamps, q * job.columns + k * length), turn * job.columns,
                        length, (count - q + turn - 1) // turn,
                    )  # fmt: skip
        j += count


@inner
def _stamp(x, weight, bias, stamps, job, pixel, count):
    """Compute the stamps of so many pixels, which follow each other."""
    g, lanes = job.geometry, VECTOR_BYTES // stamps.itemsize
    first, parts = pixel * g.cin, (count + TILE_ROWS - 1) // TILE_ROWS
    for part in range(parts):
        p, q = part * count // parts, (part + 1) * count // parts
        for column in range(0, job.columns, 2 * lanes):
            pixel_tile(
                job.tile, address(stamps, column), address(job.numbers, p), job.columns,
                address_as(stamps, x, first), address(job.places, p), address(job.numbers, 0),
                address(weight, column * g.cin), address(job.numbers, 0), 0, address(bias, 0), PER_COLUMN, 1, g.cin,
                place(x, first + q * g.cin), q - p, min(2, (job.columns - column) // lanes),
            )  # fmt: skip
