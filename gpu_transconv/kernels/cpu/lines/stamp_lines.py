"""How scatter cuts few inputs that meet many weights: see `scatter_lines`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import is_plain, kernel_axes
from ..arguments import Table
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry, make_geometry
from ..partition import Partition, apart, even, make_partition, reach_of
from ..tiles.gemm_tile import tile_table

#: Inputs of all images up to which weights are read as they lie: so many that reading them once for each tile of inputs
#: costs less than bringing them into another order.
_FEW = 256
#: Input channels that are summed over between two visits to the sums; and where weights come from memory, so that two
#: slabs of them, this one and the next, stay in the second-level cache.
_DEPTH, _FAR_DEPTH = 128, 64
#: Bytes of weights from which they do, and inputs up to which that takes longer than their products. Measured: with 8
#: inputs and 20 MB a call takes 1.1 ms so and 4.3 else, with 4 inputs and 6 MB 0.16 and 0.13.
_FAR, _FAR_INPUTS = 8 << 20, 28
#: Weights of a row that are in work at a time, and bytes of their sums, which stay in the second-level cache.
_COLUMNS, _SUMS = 1024, 1 << 17
#: Output channels, which threads have to share, below which there is little to compute. Chosen, not measured.
_CHANNELS, _LARGE = 8, 1 << 23
#: Bytes of the panel of inputs of a group, at most.
_PANEL_BYTES = 2 << 20


class Lines(NamedTuple):
    """Which weights are in work at a time, and where their sums lie; distances count elements."""

    pixels: int  # inputs of all images
    unit: int  # output channels whose weights fill whole vectors
    units: int  # of a group
    blocks: int  # of a group, some units each
    depth: int  # input channels of a slab
    row: int  # weights of an input channel
    pitch: int  # of the sums of an input
    panel: int  # elements of the inputs of a group
    sums: int
    far: int  # whether weights come from memory, and every line of them is asked for early
    spread: int  # from one tap to the next on the innermost axis
    iota: Table
    tile: int  # address of the compiled tiles


class ScatterLines(NamedTuple):
    """What the kernel `scatter_lines` unpacks; a block of its partition is one input."""

    geometry: Geometry
    part: Partition
    lines: Lines


def takes(plan: Plan) -> bool:
    """Whether few inputs meet many weights."""
    pixels = plan.batch * math.prod(plan.in_spatial)
    axes, cin, item = kernel_axes(plan), plan.in_channels // plan.groups, DTYPES[plan.accumulate].size
    if not 0 < pixels <= _FEW or item * cin * pixels > _PANEL_BYTES:
        return False
    if plan.dtype not in ("float32", "float64") or plan.fixed_order or any(axis.step > 1 for axis in axes):
        return False
    if plan.channels_last and not all(is_plain(axis) for axis in axes):
        return False
    few = plan.out_channels < _CHANNELS and plan.flops > _LARGE
    return math.prod(plan.kernel) <= _COLUMNS and not few


def cut_lines(plan: Plan, threads: int) -> ScatterLines:
    """Cut the problem for `threads` threads; the order of every sum does not depend on their number."""
    axes, item = kernel_axes(plan), DTYPES[plan.accumulate].size
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    volume, pixels, lane = math.prod(plan.kernel), plan.batch * math.prod(plan.in_spatial), VECTOR_BYTES // item
    most = max(1, min(_COLUMNS, _SUMS // (item * pixels)) // volume)
    unit = lane // math.gcd(volume, lane)
    if unit > most or cout // unit < threads:
        unit = 1
    units = -(-cout // unit)
    blocks = -(-units // max(1, most // unit))
    tasks = -(-blocks * plan.groups // threads) * threads
    blocks = min(units, -(-tasks // plan.groups))
    pitch = apart(-(-units // blocks) * unit * volume, item)
    far = math.prod(plan.weight_shape) * item > _FAR and pixels <= _FAR_INPUTS
    depth = even(cin, _FAR_DEPTH if far else _DEPTH)
    panel, sums = -(-cin * pixels // lane) * lane, pixels * pitch
    part = make_partition(plan.in_spatial, plan.in_spatial, reach_of(axes), threads, panel + sums + depth * pitch)
    lines = Lines(
        pixels, unit, units, blocks, depth, cout * volume, pitch, panel, sums, int(far), axes[2].dilation,
        np.arange(16), tile_table(plan.accumulate),
    )  # fmt: skip
    return ScatterLines(make_geometry(plan), part, lines)
