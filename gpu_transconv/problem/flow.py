"""An axis whose input comes in pieces: which outputs are final, and which inputs they and later ones still need.

Input `i` reaches no output before ``i*stride - pad_low``, where its first tap is; so after `given` inputs the outputs
before that place of the next one are final, unless a cut at the high end would take them off if nothing more came. The
output *block* ``b`` (`axis`) needs inputs from ``b - floor(dilation*(kernel - 1) / stride)`` on. Pieces are computed
from the start of a block, so that a phase has the same taps in each of them; the outputs before, which are there
already, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from .axis import Axis


class Piece(NamedTuple):
    """A problem on some of the inputs, from the one that it was made for on; `skip` results of it are left out."""

    axis: Axis
    skip: int


@dataclass(frozen=True)
class Flow:
    """The axis as it would be with so many inputs as `axis` has, of which it has at least one output."""

    axis: Axis

    def outputs(self, given: int) -> int:
        """Outputs if `given` inputs are all."""
        return max(0, self.axis.output_size + (given - self.axis.size) * self.axis.stride) if given else 0

    def final(self, given: int) -> int:
        """Outputs that no input after the first `given` changes, and that are not cut off if none comes."""
        axis = self.axis
        later = axis.output_of(given, 0)
        if later < 0:  # cut off at the low end, so that the first one left is of another tap, or of an input after it
            places = (axis.output_of(given, tap) for tap in range(axis.kernel))
            later = min(place if place >= 0 else place % axis.stride for place in places)
        return min(self.outputs(given), later)

    @property
    def held(self) -> int:
        """Outputs that are not final, once some are."""
        return self.outputs(self.axis.size) - self.final(self.axis.size)

    def first_needed(self, done: int, given: int) -> int:
        """First of `given` inputs that outputs from `done` on may need: one at least, if outputs may follow it."""
        first = self._block(done) - (self.axis.stamp_size - 1) // self.axis.stride
        return max(0, min(first, given - bool(self.held)))

    def piece(self, first: int, given: int, done: int, end: int) -> Piece:
        """The problem on the inputs from `first` to `given` whose results are the outputs from `done` to `end`."""
        axis, block = self.axis, self._block(done)
        skip = done + axis.pad_low - block * axis.stride
        pad_low = (block - first) * axis.stride
        return Piece(replace(axis, size=given - first, pad_low=pad_low, output_size=end - done + skip), skip)

    def _block(self, output: int) -> int:
        """Block of an output, counted before the low end is cut."""
        return (output + self.axis.pad_low) // self.axis.stride
