"""In which order weights are packed: plans with equal orders share the packed weights, and no others do.

Packing sees an order and the weights, never a plan, so that nothing can be left out of the key.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...problem.axis import Axis
from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.rewrites import MOST_PHASES, Problem, kernel_axes, simplify
from . import channel_boxes, depthwise_last
from .cost import is_direct, paired_axes
from .geometry import fits_boxes
from .layout import Layout, Stamps, make_layout, make_stamps
from .packing import VECTOR_BYTES

#: Taps or phases of a layer that has long tables.
LONG = 1024
#: The dtypes for which there are tiles.
TILED = ("float16", "bfloat16", "float32", "float64")
#: The orders: as they are where there are no tiles; of the two depthwise kernels; of gather's tiles; of scatter's.
ELEMENTWISE, DEPTHWISE_LAST, DEPTHWISE, ROWS, STAMPS = "elementwise", "depthwise_last", "depthwise", "rows", "stamps"


class WeightOrder(NamedTuple):
    """All that the packed weights and the packed bias depend on, besides their values."""

    order: str
    dtype: str
    groups: int
    cin: int  # per group
    cout: int  # per group
    axes: tuple[Axis, Axis, Axis]  # of the kernels, without the sizes of input and output
    taps: tuple[tuple[int, int], ...] | None  # those that are used, see `Problem`
    lane: int = 1  # rows of every set are padded to a multiple of this
    paired: tuple[int, ...] = ()  # axes on which blocks are computed in pairs

    @property
    def accumulate(self) -> str:
        """The dtype of the packed weights."""
        return DTYPES[self.dtype].accumulate

    @property
    def has_long_tables(self) -> bool:
        """Whether the tables, some words per tap and per phase, are so long that only a few are kept."""
        return math.prod(max(axis.kernel, axis.stride) for axis in self.axes) > LONG

    @property
    def plan(self) -> Plan:
        """A plan of this order, of the least size."""
        channels = self.groups * self.cin, self.groups * self.cout, self.groups
        return Plan(3, 1, *channels, self.axes, False, self.dtype, self.accumulate, False, None, 0.0, False)


@lru_cache(maxsize=512)
def gather_order(plan: Plan) -> WeightOrder:
    """Order of the weights for gather."""
    problem = simplify(plan)
    if not has_tiles(problem.plan):
        return _order(ELEMENTWISE, problem)
    if depthwise_last.takes(problem.plan):
        return _order(DEPTHWISE_LAST, problem)
    if channel_boxes.takes(problem.plan):
        return _order(DEPTHWISE, problem)
    return _rows_order(problem, paired_axes(problem.plan))


@lru_cache(maxsize=64)
def unpaired(plan: Plan) -> WeightOrder:
    """Order of the weights for gather's tiles without blocks in pairs."""
    return _rows_order(simplify(plan), ())


def _rows_order(problem: Problem, paired: tuple[int, ...]) -> WeightOrder:
    plan = problem.plan
    lane = VECTOR_BYTES // np.dtype(plan.accumulate).itemsize if plan.channels_last and not is_direct(plan) else 1
    return _order(ROWS, problem)._replace(lane=lane, paired=paired)


@lru_cache(maxsize=512)
def scatter_order(plan: Plan) -> WeightOrder:
    """Order of the weights for scatter."""
    problem = simplify(plan)
    tiled = has_tiles(problem.plan) and fits_boxes(kernel_axes(problem.plan))
    return _order(STAMPS if tiled else ELEMENTWISE, problem)


def _order(order: str, problem: Problem) -> WeightOrder:
    plan = problem.plan
    d, h, w = (replace(axis, size=1, output_size=1) for axis in kernel_axes(plan))
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    return WeightOrder(order, plan.dtype, plan.groups, cin, cout, (d, h, w), problem.taps)


@lru_cache(maxsize=1024)
def has_tiles(plan: Plan) -> bool:
    """Whether the tiles take a plan."""
    return plan.dtype in TILED and math.prod(axis.stride for axis in kernel_axes(plan)) <= MOST_PHASES


def rows_layout(order: WeightOrder) -> Layout:
    """Tables of the rows of gather."""
    return (_few_rows if order.has_long_tables else _many_rows)(order.axes, order.cout, order.lane, order.paired)


def stamps_layout(order: WeightOrder) -> tuple[Layout, Stamps]:
    """Tables of the rows of scatter."""
    return (_few_stamps if order.has_long_tables else _many_stamps)(order.axes, order.cout)


_many_rows, _few_rows = lru_cache(maxsize=256)(make_layout), lru_cache(maxsize=16)(make_layout)
_many_stamps, _few_stamps = lru_cache(maxsize=256)(make_stamps), lru_cache(maxsize=16)(make_stamps)
