"""A plan as the kernels read it: struct Geometry of geometry.cuh, field for field, and which view of the problem."""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ...problem.arguments import ACTIVATIONS
from ...problem.axis import Axis
from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes

#: Activation name -> its code in numbers.cuh.
ACTIVATION_CODES: dict[str | None, int] = {None: 0, **{name: code for code, name in enumerate(ACTIVATIONS, 1)}}


@dataclass(frozen=True, slots=True)
class Line:
    """One axis of a view in which all units share their inputs; the members of Axis in geometry.cuh."""

    units: int = 1
    unit_step: int = 0
    count: int = 0
    taps: int = 0
    shift: int = 0
    out: int = 0


@dataclass(frozen=True)
class View:
    """A problem as one product, or one per phase: its rows, its pixels, and the order of its rows."""

    plan: Plan
    axes: tuple[Axis, Axis, Axis]
    lines: tuple[Line, Line, Line] | None  # None: one product per phase
    pixels_first: bool

    @property
    def rows(self) -> int:
        """Rows of the product: output channels of a group, times units."""
        return self.plan.out_channels // self.plan.groups * math.prod(line.units for line in self.lines or ())

    @property
    def row_pitch(self) -> int:
        """Rows as packed, a multiple of 16 bytes for every dtype."""
        return _padded(self.rows)

    @property
    def phases(self) -> int:
        """Number of products."""
        return 1 if self.lines else math.prod(axis.phase_count for axis in self.axes)

    @property
    def packed_taps(self) -> int:
        """Taps that the packed weights hold."""
        return math.prod(line.taps for line in self.lines) if self.lines else math.prod(self.plan.kernel)

    @property
    def packed_elements(self) -> int:
        """Elements of the packed weights."""
        return self.packed_taps * self.plan.in_channels * self.row_pitch

    @property
    def cut_off(self) -> bool:
        """Whether some pixel has a unit outside the output."""
        return self.lines is not None and not all(
            line.out == 0 and (line.count - 1) * axis.stride + (line.units - 1) * line.unit_step < axis.output_size
            for line, axis in zip(self.lines, self.axes, strict=True)
        )

    def products(self) -> list[tuple[int, int, int]]:
        """Of all products (how many of them, pixels, taps), those that are alike together."""
        if self.lines:
            pixels = self.plan.batch * math.prod(line.count for line in self.lines)
            return [(1, pixels, self.packed_taps)]
        found = [(1, self.plan.batch, 1)]
        for axis in self.axes:
            kinds = _kinds(axis)
            found = [(n * m, p * count, t * taps) for n, p, t in found for (count, taps), m in kinds.items()]
        return found


@lru_cache(maxsize=512)
def _kinds(axis: Axis) -> Counter[tuple[int, int]]:
    kinds = Counter((phase.count, len(phase.taps)) for phase in axis.phases)
    empty = axis.phase_count - len(axis.phases)
    if empty:  # phases without taps; the largest count there is
        kinds[axis.blocks, 0] += empty
    return kinds


def phase_view(plan: Plan) -> View:
    """One product per phase; fits every problem."""
    return View(plan, kernel_axes(plan), None, not plan.channels_last)


def merged_view(plan: Plan) -> View | None:
    """All phases as rows of one product, where they share their taps: kernel = n*stride, not dilated; else None."""
    axes = kernel_axes(plan)
    if any(a.stride > 1 and (a.kernel % a.stride or (a.dilation > 1 and a.kernel > 1)) for a in axes):
        return None
    lines = tuple(_merged(axis) for axis in axes)
    return View(plan, axes, (lines[0], lines[1], lines[2]), not plan.channels_last)


def _merged(axis: Axis) -> Line:
    s = axis.stride
    first = axis.pad_low // s  # blocks of the uncropped output before this one are cut off whole
    count = -(-(axis.output_size + axis.pad_low) // s) - first
    return Line(s, 1, count, axis.kernel // s, first, s * first - axis.pad_low)


def stamp_view(plan: Plan, channel_major: bool = False) -> View:
    """Every tap of every output channel a row, every input a pixel: one product, whose results are stamps."""
    lines = tuple(Line(a.kernel, a.dilation, a.size, 1, 0, -a.pad_low) for a in plan.axes)
    return View(plan, plan.axes, (lines[0], lines[1], lines[2]), channel_major or not plan.channels_last)


@lru_cache(maxsize=512)
def is_covered(axis: Axis) -> bool:
    """Whether stamps that do not meet fill an axis: each hits as many outputs as there are."""
    return sum(len(axis.inputs_of(tap)) for tap in range(axis.kernel)) == axis.output_size


def index_type(plan: Plan) -> str:
    """C type of indices: int where all positions and offsets fit, with room to add two of them."""
    # The packed weights have at most so many elements in any view: rows are padded, see `View.row_pitch`.
    packed = math.prod(plan.kernel) * plan.in_channels * _padded(plan.out_channels // plan.groups)
    reach = max(axis.extent + axis.output_size for axis in plan.axes)
    steps = max(a.stride for a in kernel_axes(plan)) ** 2
    return "int" if plan.index_bits == 32 and max(reach, steps) < 2**29 and packed < 2**30 else "long long"


def _padded(rows: int) -> int:
    """Rows up to a multiple of 8."""
    return -(-rows // 8) * 8


def pack_geometry(view: View) -> bytes:
    """Lay `view` out as struct Geometry."""
    plan = view.plan
    numbers: list[int] = []
    inputs, outputs = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    last = plan.channels_last
    x_step, y_step = (plan.in_channels, plan.out_channels) if last else (1, 1)
    for a, axis in enumerate(view.axes):
        x_stride = math.prod(plan.in_spatial[a + 1 :]) * x_step
        y_stride = math.prod(plan.out_spatial[a + 1 :]) * y_step
        numbers += _axis_numbers(axis, view.lines[a] if view.lines else None)
        numbers += [x_stride, y_stride]
    numbers += [plan.batch, plan.groups, plan.in_channels // plan.groups, plan.out_channels // plan.groups]
    numbers += [plan.in_channels * inputs, 1 if last else inputs, plan.out_channels * outputs, 1 if last else outputs]
    numbers += [view.rows, view.row_pitch, int(view.pixels_first), int(view.lines is not None)]
    numbers.append(int(view.cut_off))
    letter = "i" if index_type(plan) == "int" else "q"
    code = ACTIVATION_CODES[plan.activation]
    # 0d: the struct ends where another double could begin.
    return struct.pack(f"@{len(numbers)}{letter}di0d", *numbers, plan.slope, code)


def _axis_numbers(axis: Axis, line: Line | None) -> list[int]:
    numbers = [axis.size, axis.output_size, axis.kernel, axis.stride, axis.dilation, axis.pad_low]
    numbers += [1 if line else axis.phase_count, axis.common, axis.tap_step, axis.shift_step, axis.tap_inverse]
    line = line or Line()
    return [*numbers, line.units, line.unit_step, line.count, line.taps, line.shift, line.out]
