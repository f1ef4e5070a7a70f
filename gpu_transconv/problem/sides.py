"""The relation seen from one side: the elements that are counted, and where each of them meets the other side.

Input and output of an axis meet at taps, ``o = i*stride - pad_low + k*dilation`` (`axis`). Seen from either side that
is the same picture. The elements of the *near* side are ``block*near_step + phase``, and the taps of a phase lead to
the *far* side at even distances, tap ``first_tap + a*tap_step`` to

    block*far_step + first_shift + a*shift_step          (what lies beyond the borders is cut off)

==============  ==========================  =====================  =====================================
seen from       near_step, phases           far_step               taps of a phase
==============  ==========================  =====================  =====================================
the output      stride, one per remainder   1                      those of `Axis.taps_by_phase`
the input       1, one                      stride                 all, from -pad_low on, dilation apart
==============  ==========================  =====================  =====================================

Gather counts the elements of its result and collects from the far side; scatter counts those of its source and stamps
them on the far side. So two views make four kernels:

==============  ================================  ==================================
operation       gather                            scatter
==============  ================================  ==================================
forward         from the output, reads x          from the input, stamps on y
input_grad      from the input, reads dy          from the output, stamps on dx
==============  ================================  ==================================

and the gradient by the weight, which reads both sides, is seen from the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .axis import Axis, exchanged
from .plan import Plan
from .rewrites import kernel_axes


class SidePhase(NamedTuple):
    """The taps of one phase: how many, the first one, and where it leads from block 0."""

    taps: int
    first_tap: int
    first_shift: int


@dataclass(frozen=True)
class Side:
    """One axis, seen from one side; the number of elements on each, and the table of phases."""

    near: int
    far: int
    blocks: int
    near_step: int
    far_step: int
    tap_step: int
    shift_step: int
    phases: tuple[SidePhase, ...]

    @property
    def most_taps(self) -> int:
        """Taps of the phase that has the most."""
        return max(phase.taps for phase in self.phases)

    @property
    def round_step(self) -> int:
        """Two taps of a phase lead from different blocks to the same place if they are a multiple of this apart."""
        return self.far_step // math.gcd(self.far_step, self.shift_step)

    @property
    def rounds(self) -> int:
        """Most taps of a phase of which any two lead to the same places."""
        return max(1, -(-self.most_taps // self.round_step))

    @property
    def reach(self) -> int:
        """How far apart on the far side are what a block and its neighbour reach together."""
        return (self.most_taps - 1) * abs(self.shift_step) + self.far_step

    def blocks_of_box(self, phase: SidePhase, size: int) -> tuple[int, int]:
        """Numbers (first, last) that tell which blocks of a phase reach a box of so many neighbours on the far side.

        Where the box begins at f, block ``(f + first) // far_step`` is the first that does not fall short of it, and
        ``(f + last) // far_step`` the last that does not go beyond. Both may lie outside of the axis.
        """
        ends = phase.first_shift, phase.first_shift + (phase.taps - 1) * self.shift_step
        return self.far_step - 1 - max(ends), size - 1 - min(ends)


def from_output(axis: Axis) -> Side:
    """See an axis from its output: by phase."""
    firsts = {axis.phase_of(tap): tap for tap in range(axis.first_taps)}
    phases = tuple(_phase_of(axis, firsts.get(phase)) for phase in range(axis.phase_count))
    return Side(
        axis.output_size, axis.size, axis.blocks, axis.stride, axis.step, axis.tap_step, -axis.shift_step, phases
    )


def _phase_of(axis: Axis, first: int | None) -> SidePhase:
    """Describe the phase whose first tap that is, or one without taps."""
    if first is None:
        return SidePhase(0, 0, 0)
    return SidePhase(-(-(axis.kernel - first) // axis.tap_step), first, axis.shift_of(first))


def from_input(axis: Axis) -> Side:
    """See an axis from its input, which has one phase with all taps."""
    return from_output(exchanged(axis))


@dataclass(frozen=True)
class Sides:
    """The axes of a plan seen from one side, and which arrays lie there: a matrix product per phase.

    Its columns are the near elements of all images, its depth the channels of what is read. The rows are the channels
    of the result, in scatter each with the taps of the phase.
    """

    plan: Plan
    axes: tuple[Side, Side, Side]
    collects: bool

    @property
    def source_channels(self) -> int:
        """Channels of a group of what is read: x, or the gradient of the output."""
        plan = self.plan
        return (plan.out_channels if plan.operation == "input_grad" else plan.in_channels) // plan.groups

    @property
    def result_channels(self) -> int:
        """Channels of a group on the other side."""
        plan = self.plan
        return (plan.in_channels if plan.operation == "input_grad" else plan.out_channels) // plan.groups

    @property
    def rows(self) -> int:
        """Rows of the largest product."""
        return self.result_channels * (1 if self.collects else math.prod(axis.most_taps for axis in self.axes))

    @property
    def columns(self) -> int:
        """Columns of each product."""
        return self.plan.batch * math.prod(axis.blocks for axis in self.axes)

    @property
    def count(self) -> int:
        """Products of a group, one per phase."""
        return math.prod(len(axis.phases) for axis in self.axes)


@lru_cache(maxsize=512)
def collecting(plan: Plan) -> Sides:
    """See a plan, of the operator or its gradient by x, from its result: gather."""
    axes = [from_input(a) for a in plan.axes] if plan.operation == "input_grad" else _outputs(plan)
    return Sides(plan, (axes[0], axes[1], axes[2]), collects=True)


@lru_cache(maxsize=512)
def stamping(plan: Plan) -> Sides:
    """See a plan from what is read: scatter; the gradient by the weight from x."""
    axes = _outputs(plan) if plan.operation == "input_grad" else [from_input(a) for a in plan.axes]
    return Sides(plan, (axes[0], axes[1], axes[2]), collects=False)


def _outputs(plan: Plan) -> list[Side]:
    return [from_output(axis) for axis in kernel_axes(plan)]
