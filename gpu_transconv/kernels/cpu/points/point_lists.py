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
from ..emit.registers import VECTOR_BYTES
from ..gemm.layout import Layout
from ..geometry import Geometry, make_geometry
from ..partition import Partition, apart, even, make_partition, reach_of
from ..runtime.caches import fitted
from ..tiles.gemm_tile import has_half_vectors, tile_shapes, tile_table
from .meetings import count_meetings, counts_of, first_taps, make_meetings

#: Inputs, outputs and meetings of all images up to which there are lists of them. Chosen, not measured.
_INPUTS, _OUTPUTS, _MEETINGS = 1024, 1 << 13, 1 << 15
#: Taps up to which there are: each has a loop of its own. Chosen, not measured.
_TAPS = 1024
#: Input channels that are summed over between two visits to the sums. Measured: 512 take up to 1.05 times as long with
#: 600 to 1008 channels, 1.16 where 20 MB of weights come from memory, which are read in longer lines with more.
DEPTH = 1024
#: Bytes of the sums of a task, at most, and of all inputs.
_SUMS, _PANEL = 512 * 1024, 2 << 20
#: Inputs of a tap up to which strips of weights are as wide as the tiles that take them, and the share of the columns
#: by which that may add to these. Measured: 1 and 2 rows of 2 vectors wait for their sums, and read weights from the
#: caches at 83 and 72 GB/s; of 8 vectors at 89 and 87.
_THIN, _PADDED = 2, 0.05
#: How much longer the slowest thread may take, before what is left of the vectors is shared out by outputs. Chosen, not
#: measured.
_UNEVEN = 1.02
#: Vectors of a share from which it has its own, where inputs are more than few: with fewer, tiles are as wide as all of
#: them, and every thread reads all weights. Chosen, not measured. Bytes of weights from which few inputs wait for them:
#: then each is read by one thread alone.
_OWN, _FEW, _FAR = 4, 28, 8 << 20
#: Bytes from one channel to the next up to which inputs are read where they are. Chosen, not measured.
_STEP = 512


#: A table that is the same for all.
_IOTA = np.arange(16)


class Points(NamedTuple):
    """Lists of what meets, and how channels and outputs are shared out; distances count elements."""

    inputs: Table  # by meeting, tap after tap, in the order of memory: input of all images
    outputs: Table  # output of all images
    starts: Rows  # by tap, then part of the outputs: first meeting
    bounds: Table  # by part: first output
    fresh: Table  # by tap: whether no tap before reaches any of its outputs
    begun: Table  # outputs that no such tap reaches
    begun_starts: Table  # by part: first of these
    tasks: Rows  # by task: first vector of output channels of a group and the one after the last, and the same of parts
    shares: Table  # by share of a group: its first task
    padded: int  # vectors that there are weights for
    strip: int  # and how many are a strip of weights
    depth: int  # input channels of a slab
    pixels: int  # inputs of all images
    pitch: int  # of an input
    direct: int  # whether inputs are read where they are
    panel: int  # elements of all inputs of a group, if not
    rows: int  # elements of the inputs of a tap
    iota: Table
    tile: int  # address of the compiled tiles


class GatherPoints(NamedTuple):
    """What the kernel `gather_points` unpacks."""

    geometry: Geometry
    part: Partition
    points: Points


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
    pixels, half = plan.batch * math.prod(plan.in_spatial), half_strip(plan)
    depth = even(cin, DEPTH)
    bounds, tasks, shares = _share_out(plan, threads // math.gcd(threads, plan.groups))
    inputs, places, before = make_meetings(axes, plan.batch)
    starts = np.array([before[:-1], before[1:]]).T
    if len(bounds) > 2:
        starts = np.array([start + places[start:end].searchsorted(bounds) for start, end in starts])
    fresh, begun = first_taps(axes, plan.batch)
    widths = (tasks[:, 1] - tasks[:, 0]) | 1  # as the kernel has them
    pitch, sums = apart(cin, item), int((rows_of_sums(tasks, bounds) * widths).max()) * lanes
    rows = max(1, int((starts[:, -1] - starts[:, 0]).max())) * pitch
    one = pixels == 1 or (plan.batch == 1 and not plan.channels_last and pixels * item <= _STEP)
    begin, end = starts[:, tasks[:, 2]], starts[:, tasks[:, 3]]
    begin, last = begin[end > begin], end[end > begin] - 1
    direct = one and bool((inputs[last] - inputs[begin] == last - begin).all())  # neighbours in memory
    panel = pixels * pitch
    part = make_partition(plan.out_spatial, plan.out_spatial, reach_of(axes), threads, panel + rows + sums + 4 * lanes)
    points = Points(
        inputs, places, starts, bounds, fresh, begun, begun.searchsorted(bounds), tasks, shares,
        -(-cout // half) * half // lanes, 2 * half // lanes, depth, pixels, pitch, int(direct), panel, rows,
        _IOTA, tile_table(plan.accumulate),
    )  # fmt: skip
    return GatherPoints(make_geometry(plan), part, points)


def _share_out(plan: Plan, shares: int) -> tuple[Table, Rows, Table]:
    """Parts of the outputs, tasks and shares as `Points` has them: as many vectors of output channels for each share.

    What is left of the vectors every share has for a part of the outputs. Where the sums would not stay in the cache,
    a task has fewer channels, or, where its taps have more inputs than it has channels, a piece of the outputs.
    """
    outputs, lanes, cout = plan.batch * math.prod(plan.out_spatial), _lanes(plan), plan.out_channels // plan.groups
    vectors, columns = -(-cout // lanes), columns_of(plan) / lanes
    first, rest = np.arange(shares + 1) * vectors // shares, vectors
    few = plan.batch * math.prod(plan.in_spatial) <= _FEW
    far = few and math.prod(plan.weight_shape) * DTYPES[plan.accumulate].size > _FAR
    if -(-vectors // shares) * shares > _UNEVEN * columns and outputs >= shares and not far:
        own = int(columns / shares)
        first = np.arange(shares + 1) * (own if few or own >= _OWN else 0)
        rest = int(first[-1])
    widest = int((first[1:] - first[:-1]).max()) or vectors
    if count_meetings(plan) <= widest * lanes * math.prod(plan.kernel):
        widest = min(widest, max(2, fitted(_SUMS) // (outputs * VECTOR_BYTES) // 2 * 2))
    pieces = -(-outputs * widest * VECTOR_BYTES // fitted(_SUMS))
    parts = pieces if rest == vectors else -(-pieces // shares) * shares
    tasks, starts = [], [0]
    for share in range(shares):
        v, past = int(first[share]), int(first[share + 1])
        step = even(past - v, widest) if past > v else 1
        while v < past:
            end = min(past, v + step + step % 2)
            tasks += [(v, end, p * parts // pieces, (p + 1) * parts // pieces) for p in range(pieces)]
            v = end
        if rest < vectors:
            tasks += [(rest, vectors, p, p + 1) for p in range(share * parts // shares, (share + 1) * parts // shares)]
        starts.append(len(tasks))
    return np.arange(parts + 1) * outputs // parts, np.array(tasks), np.array(starts)


def columns_of(plan: Plan) -> int:
    """Output channels of a group with those that are computed in vain."""
    lanes, cout = _lanes(plan), plan.out_channels // plan.groups
    least = lanes // 2 if has_half_vectors() else lanes
    return -(-cout // least) * least


def rows_of_sums(tasks: Rows, bounds: Table) -> Table:
    """Rows of sums of each task, that of the bias included."""
    rows: Table = 1 + bounds[tasks[:, 3]] - bounds[tasks[:, 2]]
    return rows


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
    most = plan.batch * max(counts_of(d)) * max(counts_of(h)) * max(counts_of(w))
    for vectors in (8, 4) if most <= _THIN else ():
        half = vectors // 2 * lanes
        fits = -(-cout // half) * half <= (1 + _PADDED) * -(-cout // lanes) * lanes
        if most <= tile_shapes().get(vectors, 0) and fits:
            return half
    return lanes


def _lanes(plan: Plan) -> int:
    return VECTOR_BYTES // DTYPES[plan.accumulate].size
