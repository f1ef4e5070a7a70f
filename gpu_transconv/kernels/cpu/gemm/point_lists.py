"""Which inputs and outputs meet through each tap, as lists, and how they are shared out: see `gather_points`."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ....problem.rewrites import kernel_axes
from ..arguments import Rows, Table
from ..emit.gemm_tile import tile_shapes, tile_table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, apart, even, make_partition, reach_of
from .cost import useful_products
from .layout import Layout

#: Inputs, outputs and meetings of all images up to which there are lists of them. Chosen, not measured.
_INPUTS, _OUTPUTS, _MEETINGS = 1024, 1 << 13, 1 << 15
#: Taps up to which there are: each has a loop of its own. Chosen, not measured.
_TAPS = 1024
#: Input channels that are summed over between two visits to the sums; and with few inputs, which then read weights in
#: longer lines: 1.03 to 1.06 times as fast where these come from memory.
_DEPTH, _THIN_DEPTH = 512, 1024
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
#: Vector operations for a vector of sums that is visited, and for a vector of inputs that is copied.
_VISIT, _COPY = 4.0, 2.0
#: How much less a product takes than in the other kernels of gather. Fitted to 40 small maps.
_PRODUCT = 0.9


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
    """By tap, in the order of the flat kernel: inputs and outputs of all images that it brings together."""

    inputs: tuple[Table, ...]
    outputs: tuple[Table, ...]


def takes(plan: Plan) -> bool:
    """Whether inputs are few enough for lists."""
    axes, cin = kernel_axes(plan), plan.in_channels // plan.groups
    inputs, outputs = (plan.batch * math.prod(sizes) for sizes in (plan.in_spatial, plan.out_spatial))
    plain = plan.dtype in ("float32", "float64") and not plan.fixed_order and all(axis.step == 1 for axis in axes)
    return (
        plain
        and 0 < inputs <= _INPUTS
        and outputs <= _OUTPUTS
        and math.prod(plan.kernel) <= _TAPS
        and count_meetings(plan) <= _MEETINGS
        and cin * inputs * DTYPES[plan.accumulate].size <= _PANEL
    )


@lru_cache(maxsize=1024)
def cost_of_points(plan: Plan) -> float:
    """Cost of gather by lists, infinite where it does not take the plan."""
    if not takes(plan):
        return math.inf
    axes, cin, cout = kernel_axes(plan), plan.in_channels // plan.groups, plan.out_channels // plan.groups
    lanes = _lanes(plan)
    counts = [math.prod(sizes) * plan.batch for sizes in product(*([len(r) for r in _ranges(axis)] for axis in axes))]
    columns = -(-cout // lanes) * lanes
    products = sum(counts) * (_PRODUCT * columns * cin + _VISIT * columns + _COPY * cin)
    blocks = plan.batch * math.prod(axis.blocks for axis in by_phase(plan).axes)
    return useful_products(plan) * products / (math.prod(plan.kernel) * cin * cout * blocks)


def cut_points(plan: Plan, threads: int) -> GatherPoints:
    """Share the problem out to `threads` threads; the order of every sum does not depend on their number."""
    axes, item, lanes = kernel_axes(plan), DTYPES[plan.accumulate].size, _lanes(plan)
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    pixels, outputs = (plan.batch * math.prod(sizes) for sizes in (plan.in_spatial, plan.out_spatial))
    vectors, half = -(-cout // lanes), half_strip(plan)
    depth = even(cin, _DEPTH if half == lanes else _THIN_DEPTH)
    blocks, parts = min(vectors, -(-outputs * vectors * VECTOR_BYTES // _SUMS)), 1
    share = threads // math.gcd(threads, plan.groups)
    together = pixels <= _FEW and cin * cout * math.prod(plan.kernel) > _MANY
    if -(-vectors // share) * share <= (_UNEVEN if not together else 2) * vectors:
        blocks = min(vectors, -(-blocks // share) * share)
    else:
        parts = min(outputs, share)
    width = -(-vectors // blocks) * lanes
    parts = max(parts, min(outputs, -(-outputs * width * item // _SUMS)))
    bounds = np.arange(parts + 1) * outputs // parts
    inputs, places = _meetings(axes, plan.batch)
    before = np.cumsum([0, *map(len, inputs)])
    starts = np.stack([before[:-1], before[1:]], axis=1)
    if parts > 1:
        starts = np.stack([start + each.searchsorted(bounds) for start, each in zip(before, places, strict=False)])
    every = np.concatenate(inputs)
    pitch, width = apart(cin, item), apart(width, item)
    most, rows = int(np.diff(bounds).max()), max(1, int(np.diff(starts, axis=1).max())) * pitch
    one = pixels == 1 or (plan.batch == 1 and not plan.channels_last and pixels * item <= _STEP)
    begin, end = (starts[:, side][starts[:, 1:] > starts[:, :-1]] for side in (slice(-1), slice(1, None)))
    direct = one and bool((every[end - 1] - every[begin] == end - begin - 1).all())  # neighbours in memory
    panel = pixels * pitch
    part = make_partition(
        plan.out_spatial, plan.out_spatial, reach_of(axes), threads, panel + rows + most * width + 4 * lanes
    )
    points = Points(
        every, np.concatenate(places), starts, bounds, vectors, -(-cout // half) * half // lanes, 2 * half // lanes,
        blocks, parts, depth, pixels, pitch, int(direct), panel, rows, width,
        np.arange(16), tile_table(plan.accumulate),
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
    most = plan.batch * math.prod(max(map(len, _ranges(axis))) for axis in kernel_axes(plan))
    for vectors in (8, 4) if most <= _THIN else ():
        half = vectors // 2 * lanes
        fits = -(-cout // half) * half <= (1 + _PADDED) * -(-cout // lanes) * lanes
        if most <= tile_shapes().get(vectors, 0) and fits:
            return half
    return lanes


def _lanes(plan: Plan) -> int:
    return VECTOR_BYTES // DTYPES[plan.accumulate].size


def _ranges(axis: Axis) -> list[range]:
    """By tap, the inputs that it brings to an output."""
    return [axis.inputs_of(tap) for tap in range(axis.kernel)]


def count_meetings(plan: Plan) -> int:
    """Pairs of an input and an output of all images that some tap brings together: the length of the lists."""
    return plan.batch * math.prod(sum(map(len, _ranges(axis))) for axis in kernel_axes(plan))


def _meetings(axes: tuple[Axis, Axis, Axis], batch: int) -> Meetings:
    """What the taps bring together: of each axis first, and then all combinations."""
    of_axes: list[list[tuple[Table, Table]]] = []
    for axis in axes:
        inputs = [np.array(reached, np.int64) for reached in _ranges(axis)]
        taps = np.arange(axis.kernel, dtype=np.int64)[:, None]
        of_axes.append([(i, axis.output_of(i, taps[tap])) for tap, i in enumerate(inputs)])
    sizes, output_sizes = [axis.size for axis in axes], [axis.output_size for axis in axes]
    every = list(product(*of_axes))
    found = [
        [_flat([pair[end] for pair in pairs], each) for pairs in every]
        for end, each in enumerate((sizes, output_sizes))
    ]
    if batch > 1:
        found = [
            [(np.arange(batch)[:, None] * math.prod(each) + one).reshape(-1) for one in some]
            for some, each in zip(found, (sizes, output_sizes), strict=True)
        ]
    return Meetings(*map(tuple, found))


def _flat(places: list[Table], sizes: list[int]) -> Table:
    """Numbers of the elements at all combinations of places, in the order of memory."""
    d, h, w = places
    flat: Table = ((d[:, None, None] * sizes[1] + h[:, None]) * sizes[2] + w).reshape(-1)
    return flat
