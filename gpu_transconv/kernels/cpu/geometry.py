"""A plan as numbers and small tables: what compiled kernels read, so that a new shape compiles nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...plan import Axis, Plan
from .activation import CODES
from .compiled import inner
from .halves import CODES as HALVES
from .tables import Table

#: Results above this many bytes are written past the caches, which saves reading the lines first.
_STREAMED = 16 << 20


#: Inputs above this many bytes do not stay in a cache.
_FAR = 8 << 20


#: Inputs that reach a block, those between dilated taps included, beyond which boxes leave the caches.
_MOST_SPAN = 1 << 14
#: With more phases than this the tables, some words each, cost more than they save.
MOST_PHASES = 1 << 16


class Geometry(NamedTuple):
    """Sizes, and per axis (d, h, w) the tables of `gpu_transconv.plan` by tap.

    Strides count elements of flat arrays.
    """

    batch: int
    cin: int  # per group
    cout: int  # per group
    groups: int
    in_d: int
    in_h: int
    in_w: int
    out_d: int
    out_h: int
    out_w: int
    kernel_d: int
    kernel_h: int
    kernel_w: int
    volume: int  # of the kernel
    stride_d: int
    stride_h: int
    stride_w: int
    x_batch: int
    x_channel: int
    x_pixel: int
    y_batch: int
    y_channel: int
    y_pixel: int
    last: int  # channels are the last axis
    activation: int
    slope: float
    half: int  # see halves.CODES
    stream: int  # whether the output is too large for the caches
    far: int  # whether the input comes from memory, so that it pays to ask for it early
    phase_d: Table  # by tap: phase it belongs to
    phase_h: Table
    phase_w: Table
    shift_d: Table  # by tap: input index minus output block
    shift_h: Table
    shift_w: Table
    offsets_w: Table  # the phases that have taps, in order
    rank_w: Table  # by tap: position of its phase in offsets_w


@lru_cache(maxsize=256)
def kernel_axes(plan: Plan) -> tuple[Axis, Axis, Axis]:
    """The axes as the kernels see them.

    With a single input on an axis the stride means nothing, so it is made so long that every output is a phase of
    its own: then no tap is multiplied by the zeros around that input, and the batch fills the vectors.
    """
    single = [
        replace(axis, stride=max(axis.stride, axis.output_size)) if axis.size == 1 and axis.kernel > 1 else axis
        for axis in plan.axes
    ]
    axes = single if math.prod(axis.stride for axis in single) <= MOST_PHASES else plan.axes
    return axes[0], axes[1], axes[2]


@lru_cache(maxsize=256)
def fits_boxes(axes: tuple[Axis, Axis, Axis]) -> bool:
    """Whether a box of blocks, with the inputs around it, stays small: between dilated taps there may be many."""
    ends = ((axis.shift_of(0), axis.shift_of(axis.kernel - 1)) for axis in axes)
    return math.prod(1 + abs(last - first) for first, last in ends) <= _MOST_SPAN


@lru_cache(maxsize=256)
def make_geometry(plan: Plan) -> Geometry:
    """Lay the plan out for the kernels; cached, like the plan."""
    inputs, outputs = int(np.prod(plan.in_spatial)), int(np.prod(plan.out_spatial))
    cin, cout = plan.in_channels, plan.out_channels
    axes = kernel_axes(plan)
    taps = [_tap_tables(axis.kernel, axis.stride, axis.dilation, axis.pad_low) for axis in axes]
    sizes: dict[str, Any] = {
        "in": plan.in_spatial,
        "out": plan.out_spatial,
        "kernel": plan.kernel,
        "stride": [axis.stride for axis in axes],
        "phase": [tables.phase for tables in taps],
        "shift": [tables.shift for tables in taps],
    }
    per_axis = {
        f"{name}_{letter}": v for name, values in sizes.items() for letter, v in zip("dhw", values, strict=True)
    }
    last = plan.channels_last
    return Geometry(
        **per_axis,
        batch=plan.batch, cin=cin // plan.groups, cout=cout // plan.groups, groups=plan.groups,
        volume=math.prod(plan.kernel), last=int(last),
        x_batch=cin * inputs, x_channel=1 if last else inputs, x_pixel=cin if last else 1,
        y_batch=cout * outputs, y_channel=1 if last else outputs, y_pixel=cout if last else 1,
        activation=CODES[plan.activation], slope=plan.slope, half=HALVES.get(plan.dtype, 0),
        stream=int(plan.output_bytes > _STREAMED), far=int(plan.input_bytes > _FAR),
        offsets_w=taps[2].offsets, rank_w=taps[2].rank,
    )  # fmt: skip


@inner
def input_row(g, k_d, k_h, o_d, o_h):
    """Number, within an image, of the input row that a tap of the outer axes brings to an output row, or -1."""
    i_d, i_h = o_d // g.stride_d + g.shift_d[k_d], o_h // g.stride_h + g.shift_h[k_h]
    same_phase = g.phase_d[k_d] == o_d % g.stride_d and g.phase_h[k_h] == o_h % g.stride_h
    return i_d * g.in_h + i_h if same_phase and 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else -1


class _TapTables(NamedTuple):
    """Of an axis, by tap: its phase, its shift, and the place of its phase among those that have taps."""

    phase: Table
    shift: Table
    offsets: Table  # the phases that have taps
    rank: Table


@lru_cache(maxsize=64)
def _tap_tables(kernel: int, stride: int, dilation: int, pad_low: int) -> _TapTables:
    """`Axis.phase_of` and `Axis.shift_of` for all taps at once; the sizes do not matter."""
    blocks, phase = np.divmod(np.arange(kernel, dtype=np.int64) * dilation - pad_low, stride)
    offsets, rank = np.unique(phase, return_inverse=True)
    return _TapTables(phase, -blocks, offsets, rank.reshape(-1))
