"""In which order weights are packed: plans with equal orders share the packed weights, and no others do.

Packing sees an order and the weights, never a plan, so that nothing can be left out of the key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from ...arrays.views import Array
from ...problem.axis import Axis
from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.rewrites import Problem, kernel_axes
from .gemm.layout import Layout, Stamps, make_layout, make_stamps
from .points.point_lists import make_points

#: Taps or phases of a layer that has long tables: 8 KiB for each word that a table has of them. Chosen, not measured.
LONG = 1024
#: The dtypes for which there are tiles.
TILED = ("float16", "bfloat16", "float32", "float64")
#: Brings finite weights, and the bias of every channel, into an order; None where some of the weights are not finite.
Packer: TypeAlias = "Callable[[WeightOrder, Array, Array], tuple[Array, Array] | None]"


class WeightOrder(NamedTuple):
    """All that the packed weights and the packed bias depend on, besides their values."""

    pack: Packer | None  # None where they stay as they are
    dtype: str
    groups: int
    cin: int  # per group
    cout: int  # per group
    axes: tuple[Axis, Axis, Axis]  # of the kernels, without the sizes of input and output
    taps: tuple[tuple[int, int], ...] | None  # those that are used, see `Problem`
    lane: int = 1  # rows of every set are padded to a multiple of this
    paired: tuple[int, ...] = ()  # axes on which blocks are computed in pairs
    coupled: bool = False  # whether input channels come in couples, see `emit.gemm_tile`
    swapped: bool = False  # of the gradient by the input: rows and columns change places, and taps run backwards

    @property
    def accumulate(self) -> str:
        """The dtype of the packed weights."""
        return DTYPES[self.dtype].accumulate

    @property
    def unit(self) -> int:
        """Input channels in one word of the packed weights."""
        return 2 if self.coupled else 1

    @property
    def has_long_tables(self) -> bool:
        """Whether the tables, some words per tap and per phase, are so long that only a few are kept."""
        return math.prod(max(axis.kernel, axis.stride) for axis in self.axes) > LONG

    @property
    def key(self) -> WeightOrder:
        """The order of the same packed weights without whole strides that are cut off: they move what is read only."""
        d, h, w = (_sizeless(axis, axis.pad_low % axis.stride) for axis in self.axes)
        return self._replace(axes=(d, h, w))

    @property
    def plan(self) -> Plan:
        """A plan of this order, of the least size."""
        channels = self.groups * self.cin, self.groups * self.cout, self.groups
        return Plan(3, 1, *channels, self.axes, False, self.dtype, self.accumulate, False, None, 0.0, False)


def _sizeless(axis: Axis, pad_low: int) -> Axis:
    """What an order needs to know of an axis; `dataclasses.replace` takes three times as long."""
    return Axis(1, axis.kernel, axis.stride, axis.dilation, pad_low, 1, axis.step)


def make_order(
    pack: Packer | None, problem: Problem, lane: int = 1, paired: tuple[int, ...] = (), coupled: bool = False
) -> WeightOrder:
    """Order of the weights of a problem for a kernel with that packer."""
    plan = problem.plan
    d, h, w = (_sizeless(axis, axis.pad_low) for axis in kernel_axes(plan))
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    return WeightOrder(pack, plan.dtype, plan.groups, cin, cout, (d, h, w), problem.taps, lane, paired, coupled)


def rows_layout(order: WeightOrder) -> Layout:
    """Tables of the rows of gather."""
    return (_few_rows if order.has_long_tables else _many_rows)(order.axes, order.cout, order.lane, order.paired)


def stamps_layout(order: WeightOrder) -> tuple[Layout, Stamps]:
    """Tables of the rows of scatter."""
    return (_few_stamps if order.has_long_tables else _many_stamps)(order.axes, order.cout)


def points_layout(order: WeightOrder) -> Layout:
    """Tables of the strips of gather by lists."""
    return _points(order.axes, order.cout, order.lane)


_points = lru_cache(maxsize=64)(make_points)
_many_rows, _few_rows = lru_cache(maxsize=256)(make_layout), lru_cache(maxsize=16)(make_layout)
_many_stamps, _few_stamps = lru_cache(maxsize=256)(make_stamps), lru_cache(maxsize=16)(make_stamps)
