"""What a tensor copy of Hopper moves: a box of a tensor of five dimensions, in the driver's words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

Five: TypeAlias = tuple[int, int, int, int, int]

#: Of cuTensorMapEncodeTiled, by the driver's documentation: bytes to which addresses and strides are aligned; and the
#: most elements of a box, and of a step.
_ALIGNMENT, _MOST_BOX, _MOST_STEP = 16, 256, 8
#: Bytes of the lines of shared memory that a swizzle exchanges.
SWIZZLES = (32, 64, 128)
_MOST_SIZE, _MOST_STRIDE = 1 << 32, 1 << 40


@dataclass(frozen=True, slots=True)
class TensorMap:
    """A kernel's argument: where the array `buffer` has its elements, the fastest dimension first.

    `strides` are those of the other four, in bytes. Of a `box` every `steps`-th element is copied; what lies outside
    the tensor arrives as zeros. A line of shared memory is one of the box, swizzled by as many bytes as it has.
    """

    buffer: str
    item: int
    sizes: Five
    strides: tuple[int, int, int, int]
    box: Five
    steps: Five = (1, 1, 1, 1, 1)

    @property
    def fault(self) -> str | None:
        """Tell what the driver would refuse, or None."""
        if not all(0 < size <= _MOST_SIZE for size in self.sizes):
            return f"sizes {self.sizes}"
        if not all(0 < stride < _MOST_STRIDE and stride % _ALIGNMENT == 0 for stride in self.strides):
            return f"strides {self.strides}"
        if not all(0 < size <= _MOST_BOX for size in self.box):
            return f"box {self.box}"
        if not all(0 < step <= _MOST_STEP for step in self.steps) or self.steps[0] != 1:
            return f"steps {self.steps}"
        return None if self.swizzle in SWIZZLES else f"lines of {self.swizzle} bytes"

    @property
    def swizzle(self) -> int:
        """Bytes of a line."""
        return self.box[0] * self.item

    @property
    def bytes(self) -> int:
        """Bytes that one copy moves."""
        return self.item * math.prod(-(-size // step) for size, step in zip(self.box, self.steps, strict=True))
