"""A problem as matrix products: rows x columns x depth, read by every backend.

All three sums over the relation ``o = i*stride - pad_low + k*dilation`` (`axis`) multiply two of x, weight and result
and add over the rest. Which index is a row, which a column, and which is summed over is the whole difference between
the formulations:

=============  ======================================  ==========================  =====================================
product        rows                                    columns                     depth, summed over
=============  ======================================  ==========================  =====================================
`by_phase`     output channels; one product per phase  blocks of the phase         taps of the phase x input channels
`merged`       output channels x phases                blocks                      taps that all phases share x channels
`stamps`       output channels x taps                  inputs                      input channels
`correlation`  input channels                          inputs                      taps x output channels
`tap_stamps`   input channels x taps of the phase      outputs; one product per    output channels
                                                       phase
`outer`        input channels; one product per tap     output channels             inputs
=============  ======================================  ==========================  =====================================

The first two gather: a result is complete when its product is. `merged` fits where every phase has its taps at the same
shifts, and is one large product instead of stride many small ones. `stamps` scatters: its results, the stamps, still
have to be added where they meet. Batch and space are flattened into the columns, so that small maps fill vectors too.

`correlation` and `tap_stamps` are of the gradient by x, gathered and scattered; `outer` is of that by the weight. The
CPU has the gradient by x as `by_phase` of another plan (`rewrites.correlation`), which has one phase.

Where several rows of one channel read the same inputs, they are its *units* (phases in `merged`, taps in `stamps`), and
an `AxisFrame` says where they lie. On one axis with kernel 4, stride 2 and no padding, 3 inputs and 8 outputs::

    by_phase   phase 0: rows c,  columns b = 0..3, taps 0 and 2, from inputs b and b - 1     output 2b
               phase 1: rows c,  columns b = 0..3, taps 1 and 3, from inputs b and b - 1     output 2b + 1
    merged     rows (c, u = 0..1),  columns b = 0..3, taps u and u + 2, inputs b and b - 1   output 2b + u
    stamps     rows (c, k = 0..3),  columns i = 0..2, one product each                       added to output 2i + k
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from .axis import Axis, exchanged
from .plan import Plan
from .rewrites import kernel_axes


@dataclass(frozen=True, slots=True)
class AxisFrame:
    """One axis of a product all of whose units share their inputs.

    Column b of `count` reads input ``b + shift`` and those before it, one for each of `taps`; unit u of its result lies
    at output ``b*stride + out + u*unit_step``. Where there are several `phases` each is such a product; they differ in
    count, shift and out, and the largest has so many units and columns.
    """

    units: int = 1
    unit_step: int = 0
    count: int = 0
    taps: int = 0
    shift: int = 0
    out: int = 0
    phases: int = 1


class Alike(NamedTuple):
    """Products of the same size: the number that a group has, their columns, and the taps that they sum over."""

    number: int
    columns: int
    taps: int


@dataclass(frozen=True)
class Product:
    """A plan as one product, or as one per phase where `frame` is None; every group has as many.

    `axes` are the plan's, or those of `rewrites.kernel_axes`: the same relation, with longer strides.

    A product of the gradient by x is laid out as the forward problem that has grad_output as its input: `plan` is that
    problem's, and `is_swapped` tells that the weight's two axes of channels have changed places in it.
    """

    plan: Plan
    axes: tuple[Axis, Axis, Axis]
    frame: tuple[AxisFrame, AxisFrame, AxisFrame] | None
    is_swapped: bool = False

    @property
    def rows(self) -> int:
        """Rows: output channels of a group, times units."""
        return self.plan.out_channels // self.plan.groups * math.prod(axis.units for axis in self.frame or ())

    @cached_property
    def columns(self) -> int:
        """Columns of the largest product: blocks or inputs, of all images."""
        counts = [axis.count for axis in self.frame] if self.frame else [axis.blocks for axis in self.axes]
        return self.plan.batch * math.prod(counts)

    @property
    def count(self) -> int:
        """Number of products of a group."""
        return (
            math.prod(axis.phases for axis in self.frame)
            if self.frame
            else math.prod(axis.phase_count for axis in self.axes)
        )

    @property
    def taps(self) -> int:
        """Taps over which the products of a group sum, all together; times the input channels it is their depth."""
        return self.count * math.prod(axis.taps for axis in self.frame) if self.frame else math.prod(self.plan.kernel)

    @property
    def is_cut_off(self) -> bool:
        """Whether some column has a unit outside the output."""
        return self.frame is not None and not all(
            part.out == 0 and (part.count - 1) * axis.stride + (part.units - 1) * part.unit_step < axis.output_size
            for part, axis in zip(self.frame, self.axes, strict=True)
        )

    def alike(self) -> list[Alike]:
        """A group's products, those of the same size together; those without taps may have fewer columns than told."""
        if self.frame:
            return [Alike(self.count, self.columns, self.taps // self.count)]
        products = [Alike(1, self.plan.batch, 1)]
        for axis in self.axes:
            phases = _alike_phases(axis)
            products = [
                Alike(one.number * number, one.columns * outputs, one.taps * taps)
                for one in products
                for (outputs, taps), number in phases.items()
            ]
        return products


@lru_cache(maxsize=512)
def _alike_phases(axis: Axis) -> Counter[tuple[int, int]]:
    """How many phases have the same (outputs, taps)."""
    phases = Counter((phase.count, len(phase.taps)) for phase in axis.phases)
    empty = axis.phase_count - len(axis.phases)
    if empty:  # phases without taps; the largest count there is
        phases[axis.blocks, 0] += empty
    return phases


@lru_cache(maxsize=512)
def by_phase(plan: Plan) -> Product:
    """One product per phase; fits every problem."""
    return Product(plan, kernel_axes(plan), None)


def merged(plan: Plan) -> Product | None:
    """All phases as rows of one product, where they share their taps: kernel = n*stride, not dilated; else None."""
    axes = kernel_axes(plan)
    if any(a.stride > 1 and (a.kernel % a.stride or (a.dilation > 1 and a.kernel > 1)) for a in axes):
        return None
    d, h, w = (_merged(axis) for axis in axes)
    return Product(plan, axes, (d, h, w))


def _merged(axis: Axis) -> AxisFrame:
    first, count = axis.uncropped_blocks()
    return AxisFrame(axis.stride, 1, count, axis.kernel // axis.stride, first, axis.stride * first - axis.pad_low)


def stamps(plan: Plan) -> Product:
    """Every tap of every output channel a row, every input a column: one product, whose results are stamps."""
    d, h, w = (AxisFrame(axis.kernel, axis.dilation, axis.size, 1, 0, -axis.pad_low) for axis in plan.axes)
    return Product(plan, plan.axes, (d, h, w))


def correlation(plan: Plan) -> Product:
    """Every input a column that reads grad_output at all taps: the gradient by x, one product for all strides."""
    d, h, w = axes = tuple(exchanged(axis) for axis in plan.axes)
    frame = tuple(AxisFrame(1, 0, axis.output_size, axis.kernel, axis.pad_low) for axis in axes)
    return Product(_from_output(plan, (d, h, w)), (d, h, w), (frame[0], frame[1], frame[2]), is_swapped=True)


def tap_stamps(plan: Plan) -> Product:
    """Stamps of grad_output, added to the gradient by x: per phase its outputs are columns and its taps units.

    The axes are the plan's with their sizes exchanged. Phases are numbered by their first tap. Unit u of block b lies
    ``u*shift_step`` after the input that the phase's last tap leads to.
    """
    d, h, w = (replace(axis, size=axis.output_size, output_size=axis.size) for axis in plan.axes)
    frame = tuple(
        AxisFrame(axis.most_taps, axis.shift_step, axis.blocks, 1, 0, 0, axis.first_taps) for axis in plan.axes
    )
    return Product(_from_output(plan, (d, h, w)), (d, h, w), (frame[0], frame[1], frame[2]), is_swapped=True)


def _from_output(plan: Plan, axes: tuple[Axis, Axis, Axis]) -> Plan:
    """The forward problem with grad_output as its input, on axes that are read from the other end."""
    return replace(plan, in_channels=plan.out_channels, out_channels=plan.in_channels, axes=axes, operation="forward")


class PixelProduct(NamedTuple):
    """Products summed over pixels: `number` of them in every group, all of the same size."""

    rows: int
    columns: int
    number: int
    depth: int


def outer(plan: Plan) -> PixelProduct:
    """Input channels by output channels, one product per tap: the gradient by the weight, summed over all inputs."""
    rows, columns = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    return PixelProduct(rows, columns, math.prod(plan.kernel), plan.batch * math.prod(plan.in_spatial))
