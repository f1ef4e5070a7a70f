"""A plan as numbers and small tables: what compiled kernels read, so that a new shape compiles nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ...problem.axis import Axis
from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from .arguments import Table
from .emit.numbers import ACTIVATION_CODES, COUPLED, HALF_CODES
from .runtime.compiled import inner

#: Bytes of a result above which it is written past the caches, which saves reading its lines first: about what is left
#: of a last-level cache that others use too. Chosen, not measured.
STREAMED = 16 << 20
#: Bytes of an input above which it does not stay in a cache, so that fetching it early pays. Chosen, not measured.
_FAR = 8 << 20
#: Inputs that reach a block, those between dilated taps included, beyond which boxes leave the caches: as floats an
#: eighth of a second-level cache of 512 KiB. Chosen, not measured.
_MOST_SPAN = 1 << 14


class Geometry(NamedTuple):
    """Sizes, and per axis (d, h, w) the tables of `gpu_transconv.problem.axis` by tap.

    Strides count elements of flat arrays.
    """

    batch: int
    cin: int  # per group; where channels come in couples, these, which then stand for channels in the kernels
    alone: int  # whether the last couple is one channel, in the high half of the word
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
    half: int  # see `numbers.HALF_CODES`
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
def fits_boxes(axes: tuple[Axis, Axis, Axis]) -> bool:
    """Whether a box of blocks, with the inputs around it, stays small: between dilated taps there may be many."""
    d, h, w = axes
    spans = (1 + d.reach().span) * (1 + h.reach().span) * (1 + w.reach().span)
    return spans * d.step * h.step * w.step <= _MOST_SPAN


def counted(plan: Plan, coupled: bool) -> Plan:
    """The plan as its products are counted: with couples in the place of input channels."""
    return replace(plan, in_channels=(plan.in_channels + 1) // 2) if coupled else plan


@lru_cache(maxsize=256)
def make_geometry(plan: Plan, coupled: bool = False) -> Geometry:
    """Lay the plan out for the kernels, perhaps with its channels in couples; cached, like the plan."""
    if coupled:
        single = make_geometry(plan)
        words, alone = (single.cin + 1) // 2, single.cin % 2
        return single._replace(cin=words, alone=alone, x_channel=2 * single.x_channel, half=COUPLED)
    inputs, outputs = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    cin, cout, last = plan.in_channels, plan.out_channels, plan.channels_last
    d, h, w = kernel_axes(plan)
    taps_d, taps_h, taps_w = d.tap_tables(), h.tap_tables(), w.tap_tables()
    return Geometry(
        plan.batch, cin // plan.groups, 0, cout // plan.groups, plan.groups,
        *plan.in_spatial, *plan.out_spatial, *plan.kernel, math.prod(plan.kernel), d.stride, h.stride, w.stride,
        x_batch=cin * inputs, x_channel=1 if last else inputs, x_pixel=cin if last else 1,
        y_batch=cout * outputs, y_channel=1 if last else outputs, y_pixel=cout if last else 1,
        last=int(last), activation=ACTIVATION_CODES[plan.activation], slope=plan.slope,
        half=HALF_CODES.get(plan.dtype, 0),
        stream=int(plan.output_bytes > STREAMED), far=int(plan.input_bytes > _FAR),
        phase_d=taps_d.phase, phase_h=taps_h.phase, phase_w=taps_w.phase,
        shift_d=taps_d.shift, shift_h=taps_h.shift, shift_w=taps_w.shift,
        offsets_w=taps_w.offsets, rank_w=taps_w.rank,
    )  # fmt: skip


@inner
def input_row(g, k_d, k_h, o_d, o_h):
    """Number, within an image, of the input row that a tap of the outer axes brings to an output row, or -1."""
    i_d, i_h = o_d // g.stride_d + g.shift_d[k_d], o_h // g.stride_h + g.shift_h[k_h]
    same_phase = g.phase_d[k_d] == o_d % g.stride_d and g.phase_h[k_h] == o_h % g.stride_h
    return i_d * g.in_h + i_h if same_phase and 0 <= i_d < g.in_d and 0 <= i_h < g.in_h else -1
