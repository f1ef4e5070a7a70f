"""An axis in blocks of one output per phase, counted from any origin: HopperAxis of src/hopper_geometry.cuh."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...problem.axis import Axis


@dataclass(frozen=True)
class BlockAxis:
    """One axis: output ``stride*b + unit - origin`` of block b; `axis` is the relation counted from the origin."""

    axis: Axis
    origin: int

    @property
    def units(self) -> int:
        """Phases that hold an output."""
        return self.axis.phase_count

    @property
    def first(self) -> int:
        """First block with an output."""
        return self.origin // self.axis.stride

    @property
    def count(self) -> int:
        """Blocks with an output."""
        return self.axis.blocks - self.first

    @property
    def taps(self) -> int:
        """Taps that reach an output."""
        return sum(self.axis.phase_of(tap) < self.units for tap in range(self.axis.kernel))

    @property
    def is_unit(self) -> bool:
        """Whether there is one input and one output, which is that input."""
        axis = self.axis
        return axis.size == axis.kernel == axis.output_size == axis.step == 1 and axis.pad_low == self.origin == 0


def block_axis(axis: Axis, together: bool) -> BlockAxis:
    """Count from the uncropped result's begin, so that shifts are few; `together` keeps pairs of outputs aligned."""
    origin = 0 if axis.stride == 1 else axis.pad_low - (axis.pad_low % 2 if together and axis.stride % 2 == 0 else 0)
    counted = replace(axis, pad_low=axis.pad_low - origin, output_size=axis.output_size + origin)
    return BlockAxis(counted, origin)
