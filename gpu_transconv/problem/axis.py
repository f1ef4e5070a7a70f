"""One spatial axis: the relation of input, tap and output, and all that follows from it.

A transposed convolution with stride ``s`` is ``s`` interleaved ordinary correlations per axis. Input ``i``
and tap ``k`` meet at output ``o = i*s - pad_low + k*d``. Write ``o = s*b + phase`` with ``0 <= phase < s``:
output *block* ``b``, *phase* within it. Then tap ``k`` belongs to exactly one phase and reads the input at a
fixed *shift* from the block:

    phase = (k*d - pad_low) mod s          shift = -floor((k*d - pad_low) / s)          i = b + shift

Read by output (for each phase, its taps) this is the gather formulation; read by input (for each tap, its
phase) it is the scatter formulation.

Two taps belong to the same phase exactly if they are a multiple of ``s / gcd(s, d)`` apart; from one to the next the
shift falls by ``d / gcd(s, d)``. So shifts fall, or stay, from tap to tap. A phase without taps, which exists where
the kernel is shorter than the stride or where stride and dilation share a factor, holds the bias alone.

The gradient by the input is the same relation with the other end thinned out: only every ``step``-th output is there,
so ``step*o = i - pad_low + k*d`` and output `o` reads input ``step*o + shift``. `exchanged` makes such axes, whose
stride is 1. Inputs then come in *source blocks* of `step`: input ``step*b + place`` is in block `b`.

No other module computes phases, shifts or what an axis reaches; where kernels need tables, they are made here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

#: The (tap, shift) pairs of one phase, by tap.
Taps: TypeAlias = tuple[tuple[int, int], ...]
Positions = TypeVar("Positions", int, NDArray[np.int64])


@dataclass(frozen=True, slots=True)
class Phase:
    """The outputs ``offset, offset + stride, ...`` of one axis, and the (tap, shift) that reach them."""

    offset: int
    count: int
    taps: Taps


class Reach(NamedTuple):
    """The inputs that a block of outputs reads: ``block + low`` to ``block + low + span``, or source blocks."""

    low: int  # smallest shift
    span: int  # largest shift minus smallest


class TapTables(NamedTuple):
    """Of an axis, by tap: its phase, its shift, and the place of its phase among those that have taps."""

    phase: NDArray[np.int64]
    shift: NDArray[np.int64]
    offsets: NDArray[np.int64]  # the phases that have taps, in order
    rank: NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes, and the arithmetic of its phases."""

    size: int
    kernel: int
    stride: int
    dilation: int
    pad_low: int
    output_size: int
    step: int = 1

    @property
    def blocks(self) -> int:
        """Number of output blocks of `stride` elements, the last one perhaps cut short."""
        return -(-self.output_size // self.stride)

    def uncropped_blocks(self) -> tuple[int, int]:
        """Of the result before the low end is cut: its first block with an output, and how many blocks have one."""
        first = self.pad_low // self.stride
        return first, -(-(self.output_size + self.pad_low) // self.stride) - first

    @property
    def phase_count(self) -> int:
        """Number of phases that hold an output element, with or without taps."""
        return min(self.stride, self.output_size)

    @property
    def stamp_size(self) -> int:
        """Outputs from the first to the last that one input reaches, those between dilated taps included."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def extent(self) -> int:
        """No position on the axis, cut off or not, is as far from 0."""
        far = self.size * self.stride + abs(self.kernel * self.dilation) + abs(self.pad_low)
        return far if self.dilation >= 0 else far + self.output_size * self.step

    def output_of(self, i: Positions, tap: Positions) -> Positions:
        """Output at which input `i` and `tap` meet, cut off or not: the relation itself, of ints or of arrays."""
        output: Positions = i * self.stride - self.pad_low + tap * self.dilation
        return output

    def phase_of(self, tap: int) -> int:
        """Phase of the outputs that `tap` reaches."""
        return (tap * self.dilation - self.pad_low) % self.stride

    def shift_of(self, tap: int) -> int:
        """Input index minus output block, for `tap`."""
        return -((tap * self.dilation - self.pad_low) // self.stride)

    def source_of(self, tap: int) -> tuple[int, int]:
        """Source block minus output, for `tap`, and the place of the input in that block; (shift, 0) without a step."""
        return divmod(self.shift_of(tap), self.step)

    def inputs_of(self, tap: int) -> range:
        """Inputs that `tap` brings to an output that is not cut off."""
        phase, shift = self.phase_of(tap), self.shift_of(tap)
        first = max(0, shift)
        return range(first, max(first, min(shift - (phase - self.output_size) // self.stride, self.size)))

    @property
    def common(self) -> int:
        """Greatest common divisor of stride and dilation: every so many-th phase has taps, if the kernel is long."""
        return math.gcd(self.stride, self.dilation)

    @property
    def tap_step(self) -> int:
        """Distance of two neighbouring taps of a phase."""
        return self.stride // self.common

    @property
    def shift_step(self) -> int:
        """By how much the shift falls from one tap of a phase to the next."""
        return self.dilation // self.common

    @property
    def most_taps(self) -> int:
        """Number of taps of the phase that has the most."""
        return -(-self.kernel // self.tap_step)

    @property
    def tap_inverse(self) -> int:
        """Inverse of `shift_step` modulo `tap_step`.

        The first tap of a phase is, modulo `tap_step`, so many times ``(phase + pad_low) / common``, if that is whole.
        """
        return pow(self.shift_step, -1, self.tap_step) if self.tap_step > 1 else 0

    @property
    def first_taps(self) -> int:
        """Number of taps that are the first of a phase, those whose outputs are all cut off included."""
        return min(self.kernel, self.tap_step)

    @property
    def has_disjoint_stamps(self) -> bool:
        """Whether no two stamps meet: one input, or no two taps of one phase."""
        return self.size == 1 or self.kernel <= self.tap_step

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that have taps, by offset; all others hold the bias."""
        return tuple(
            Phase(offset, -(-(self.output_size - offset) // self.stride), taps)
            for offset, taps in _grouped(self.kernel, self.stride, self.dilation, self.pad_low).items()
            if offset < self.output_size
        )

    def taps_by_phase(self) -> list[Taps]:
        """Per phase, with taps or without, the (tap, shift) that reach it; sizes of input and output do not matter."""
        taps = _grouped(self.kernel, self.stride, self.dilation, self.pad_low)
        return [taps.get(phase, ()) for phase in range(self.stride)]

    def shifts(self) -> list[int]:
        """Return the distinct shifts, in rising order; sizes of input and output do not matter."""
        return list(_shifts(self.kernel, self.stride, self.dilation, self.pad_low))

    def reach(self) -> Reach:
        """Smallest shift, and how far the largest is from it: shifts fall from tap to tap."""
        return _reach(self.kernel, self.stride, self.dilation, self.pad_low, self.step)

    def inputs_reaching(self, outputs: int) -> int:
        """Most inputs whose stamps reach so many neighbouring outputs, the first of them at a multiple of `outputs`."""
        if outputs % self.stride == 0 or outputs == self.output_size:  # then they begin with a block
            return max(1, (outputs - 1 + self.pad_low) // self.stride - self.reach().low + 1)
        return (outputs - 2 + self.stamp_size) // self.stride + 1

    def tap_tables(self) -> TapTables:
        """Phase and shift of all taps at once; the sizes of input and output do not matter."""
        return _tap_tables(self.kernel, self.stride, self.dilation, self.pad_low)


def exchanged(axis: Axis) -> Axis:
    """Exchange the ends of an axis: its outputs are read, its inputs are the results, and taps keep their order.

    Tap k of result i reads ``i*step - low + k*d``. As an axis that has stride 1, so one phase, in which the shift rises
    by `d` from tap to tap where it falls in the forward direction: `dilation` and `pad_low` are ``-d`` and ``-low``.
    This is the one description of an axis seen from its input; all others are made of it.
    """
    return Axis(axis.output_size, axis.kernel, 1, -axis.dilation, -axis.pad_low, axis.size, axis.stride)


def backwards(axis: Axis) -> Axis:
    """Number the taps of an axis from the last one on: so do the weights that go with it."""
    low = axis.pad_low - (axis.kernel - 1) * axis.dilation
    return replace(axis, dilation=-axis.dilation, pad_low=low)


@lru_cache(maxsize=64)
def _grouped(kernel: int, stride: int, dilation: int, pad_low: int) -> dict[int, Taps]:
    """By phase that has taps, in rising order, its (tap, shift) pairs."""
    axis, taps = Axis(1, kernel, stride, dilation, pad_low, 1), defaultdict[int, list[tuple[int, int]]](list)
    for tap in range(kernel):
        taps[axis.phase_of(tap)].append((tap, axis.shift_of(tap)))
    return {phase: tuple(taps[phase]) for phase in sorted(taps)}


@lru_cache(maxsize=64)
def _shifts(kernel: int, stride: int, dilation: int, pad_low: int) -> tuple[int, ...]:
    axis = Axis(1, kernel, stride, dilation, pad_low, 1)
    return tuple(sorted({axis.shift_of(tap) for tap in range(kernel)}))


@lru_cache(maxsize=256)
def _reach(kernel: int, stride: int, dilation: int, pad_low: int, step: int) -> Reach:
    axis = Axis(1, kernel, stride, dilation, pad_low, 1, step)
    low = axis.source_of(kernel - 1)[0]
    return Reach(low, axis.source_of(0)[0] - low)


@lru_cache(maxsize=64)
def _tap_tables(kernel: int, stride: int, dilation: int, pad_low: int) -> TapTables:
    blocks, phase = np.divmod(np.arange(kernel, dtype=np.int64) * dilation - pad_low, stride)
    offsets, rank = np.unique(phase, return_inverse=True)
    return TapTables(phase, -blocks, offsets, rank.reshape(-1))


def output_range(size: int, kernel: int, stride: int, pads: int, dilation: int) -> tuple[int, int]:
    """Smallest and largest output size that some output_padding reaches on one axis.

    The smallest is ``(size - 1)*stride - pads + dilation*(kernel - 1) + 1`` (``pads`` is both sides
    together), Relationship 14 of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
    (2016), extended by dilation.
    """
    least = (size - 1) * stride - pads + dilation * (kernel - 1) + 1
    return least, least + max(stride, dilation) - 1
