"""Which inputs and outputs meet through each tap, as lists, and how they are shared out: see `gather_points`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.gemm_tile import tile_shapes, tile_table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, apart, even, make_partition, reach_of
from ..runtime.caches import fitted
from .layout import Layout

#: Inputs, outputs and meetings of all images up to which there are lists of them. Chosen, not measured.
_INPUTS, _OUTPUTS, _MEETINGS = 1024, 1 << 13, 1 << 15
#: Taps up to which there are: each has a loop of its own. Chosen, not measured.
_TAPS = 1024
#: Input channels that are summed over between two visits to the sums; and with few inputs, which then read weights in
#: longer lines: 1.03 to 1.06 times as fast where these come from memory.
DEPTH, _THIN_DEPTH = 512, 1024
#: Bytes of the sums of a task, at most, and of all inputs.
_SUMS, _PANEL = 512 * 1024, 2 << 20
#: Weights from which each is to be read by one thread alone where inputs are few: they come from memory then.
_MANY, _FEW = 1 << 18, 28
#: Inputs of a tap up to which strips of weights are as wide as the tiles that take them, and the share of the columns
#: by which that may add to these. Measured: 1 and 2 rows of 2 vectors wait for their sums, and read weights from the
#: caches at 83 and 72 GB/s; of 8 vectors at 89 and 87.
_THIN, _PADDED = 2, 0.05
#: How much longer the slowest thread may take before outputs are shared out instead of channels. Chosen, not measured.
_UNEVEN = 1.1
#: Bytes from one channel to the next up to which inputs are read where they are. Chosen, not measured.
_STEP = 512


#: Tables that are the same for all.
_ZERO, _IOTA = np.zeros(1, np.int64), np.arange(16)


class Points(NamedTuple):
    """Lists of what meets, and how channels and outputs are shared out; distances count elements."""

    inputs: Table  # by meeting, tap after tap, in the order of memory: input of all images
    outputs: Table  # output of all images
    starts: Rows  # by tap, then part of the outputs: first meeting
    bounds: Table  # by part: first output
    vectors: int  # of output channels of a group
    padded: int  # those that there are weights for
    strip: int  # and how many are a strip of weights
    blocks: int  # of vectors, which are tasks of their own
    parts: int  # of the outputs, the same
    depth: int  # input channels of a slab
    pixels: int  # inputs of all images
    pitch: int  # of an input
    direct: int  # whether inputs are read where they are
    panel: int  # elements of all inputs of a group, if not
    rows: int  # elements of the inputs of a tap
    width: int  # of the sums of an output
    iota: Table
    tile: int  # address of the compiled tiles


class GatherPoints(NamedTuple):
    """What the kernel `gather_points` unpacks."""

    geometry: Geometry
    part: Partition
    points: Points


class Meetings(NamedTuple):
    """Inputs and outputs of all images that taps bring together, tap after tap in the order of the flat kernel."""

    inputs: Table
    outputs: Table
    before: Table  # by tap, how many there are of the taps before


@lru_cache(maxsize=1024)
def takes(plan: Plan) -> bool:
    """Whether inputs are few enough for lists."""
    inputs = plan.batch * math.prod(plan.in_spatial)
    cin, item = plan.in_channels // plan.groups, DTYPES[plan.accumulate].size
    if not 0 < inputs <= _INPUTS or plan.batch * math.prod(plan.out_spatial) > _OUTPUTS:
        return False
    if plan.dtype not in ("float32", "float64") or plan.fixed_order or cin * inputs * item > _PANEL:
        return False
    few = math.prod(plan.kernel) <= _TAPS and all(axis.step == 1 for axis in kernel_axes(plan))
    return few and count_meetings(plan) <= _MEETINGS


def cut_points(plan: Plan, threads: int) -> GatherPoints:
    """Share the problem out to `threads` threads; the order of every sum does not depend on their number."""
    axes, item, lanes = kernel_axes(plan), DTYPES[plan.accumulate].size, _lanes(plan)
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    pixels, outputs = (plan.batch * math.prod(sizes) for sizes in (plan.in_spatial, plan.out_spatial))
    vectors, half, most = -(-cout // lanes), half_strip(plan), fitted(_SUMS)
    depth = even(cin, DEPTH if half == lanes else _THIN_DEPTH)
    blocks, parts = min(vectors, -(-outputs * vectors * VECTOR_BYTES // most)), 1
    share = threads // math.gcd(threads, plan.groups)
    together = pixels <= _FEW and cin * cout * math.prod(plan.kernel) > _MANY
    if -(-vectors // share) * share <= (_UNEVEN if not together else 2) * vectors:
        blocks = min(vectors, -(-blocks // share) * share)
    else:
        parts = min(outputs, share)
    width = -(-vectors // blocks) * lanes
    parts = max(parts, min(outputs, -(-outputs * width * item // most)))
    bounds = np.arange(parts + 1) * outputs // parts
    inputs, places, before = _meetings(axes, plan.batch)
    starts = np.array([before[:-1], before[1:]]).T
    if parts > 1:
        starts = np.array([start + places[start:end].searchsorted(bounds) for start, end in starts])
    pitch, width = apart(cin, item), apart(width, item)
    rows = max(1, int((starts[:, 1:] - starts[:, :-1]).max())) * pitch
    one = pixels == 1 or (plan.batch == 1 and not plan.channels_last and pixels * item <= _STEP)
    begin, end = (starts[:, side][starts[:, 1:] > starts[:, :-1]] for side in (slice(-1), slice(1, None)))
    direct = one and bool((inputs[end - 1] - inputs[begin] == end - begin - 1).all())  # neighbours in memory
    panel, most = pixels * pitch, -(-outputs // parts)
    part = make_partition(
        plan.out_spatial, plan.out_spatial, reach_of(axes), threads, panel + rows + most * width + 4 * lanes
    )
    points = Points(
        inputs, places, starts, bounds, vectors, -(-cout // half) * half // lanes, 2 * half // lanes,
        blocks, parts, depth, pixels, pitch, int(direct), panel, rows, width, _IOTA, tile_table(plan.accumulate),
    )  # fmt: skip
    return GatherPoints(make_geometry(plan), part, points)


def make_points(axes: tuple[Axis, Axis, Axis], cout: int, lane: int) -> Layout:
    """Lay out the filters of a group: tap after tap, all output channels in strips of twice `lane`."""

    def table(*rows: tuple[int, ...]) -> Table:
        return np.array(rows, np.int64)

    volume, padded = math.prod(axis.kernel for axis in axes), -(-cout // lane) * lane
    sets = [(0, cout, 0, 1, tap * padded, tap) for tap in range(volume)]
    sources = [(tap, -1, -1, -1) for tap in range(volume)]
    nothing = np.zeros(1, np.int64)
    return Layout(
        table((0, 0, 0, cout, 0, volume, 0, 1)), table(*sets), table((0,) * 5), nothing, table(*sources), nothing,
        volume * padded, lane, 1, 1, nothing, 0, nothing,
    )  # fmt: skip


def half_strip(plan: Plan) -> int:
    """Output channels in half a strip of weights, which come in whole ones: a vector, or some where inputs are few."""
    lanes, cout = _lanes(plan), plan.out_channels // plan.groups
    d, h, w = kernel_axes(plan)
    most = plan.batch * max(_counts(d)) * max(_counts(h)) * max(_counts(w))
    for vectors in (8, 4) if most <= _THIN else ():
        half = vectors // 2 * lanes
        fits = -(-cout // half) * half <= (1 + _PADDED) * -(-cout // lanes) * lanes
        if most <= tile_shapes().get(vectors, 0) and fits:
            return half
    return lanes


def _lanes(plan: Plan) -> int:
    return VECTOR_BYTES // DTYPES[plan.accumulate].size


@lru_cache(maxsize=1024)
def _counts(axis: Axis) -> list[int]:
    """By tap of an axis, the inputs that it brings to an output."""
    return [len(axis.inputs_of(tap)) for tap in range(axis.kernel)]


@lru_cache(maxsize=1024)
def count_meetings(plan: Plan) -> int:
    """Pairs of an input and an output of all images that some tap brings together: the length of the lists."""
    d, h, w = kernel_axes(plan)
    return plan.batch * sum(_counts(d)) * sum(_counts(h)) * sum(_counts(w))


def _meetings(axes: tuple[Axis, Axis, Axis], batch: int) -> Meetings:
    """What the taps bring together: of each axis first, and then all combinations."""
    inside, place = np.ones((1, 1), bool), np.zeros((1, 1), np.int64)  # by tap, then input, of the axes so far
    for axis in axes:
        if axis.size == axis.kernel == axis.output_size == 1 and axis.pad_low == 0:
            continue
        outputs = axis.output_of(np.arange(axis.size, dtype=np.int64), np.arange(axis.kernel, dtype=np.int64)[:, None])
        reached = (outputs >= 0) & (outputs < axis.output_size)
        shape = inside.shape[0] * axis.kernel, inside.shape[1] * axis.size
        inside = (inside[:, None, :, None] & reached[:, None, :]).reshape(shape)
        place = (place[:, None, :, None] * axis.output_size + outputs[:, None, :]).reshape(shape)
    if batch > 1:
        images = np.arange(batch, dtype=np.int64)[:, None] * math.prod(axis.output_size for axis in axes)
        inside = np.tile(inside, batch)
        place = (images + place[:, None, :]).reshape(inside.shape)
    counts = np.count_nonzero(inside, axis=1)
    return Meetings(np.nonzero(inside)[1], place[inside], np.concatenate([_ZERO, np.cumsum(counts)]))
