"""What a kernel is compiled for: a few hashable values; all else is data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

#: A piece of the output that a block owns: channels, depth, height and width.
Box: TypeAlias = tuple[int, int, int, int]


class Cut(NamedTuple):
    """How the gradient by the weight is cut; nothing of it is compiled.

    Its pixels into `parts` of `pixels`; and its input channels, where there is memory for the sums of some at a time
    only: `row_tiles` tiles from `first_row_tile` on, which are `elements` of the result from `start` on.
    """

    parts: int
    pixels: int
    first_row_tile: int
    row_tiles: int
    start: int
    elements: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A block's piece of a matrix product: rows x columns sums, `depth` products at a time.

    Every thread keeps `thread_rows` x `thread_columns` of the sums in registers.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth}"


@dataclass(frozen=True, slots=True)
class Traits:
    """Types, layout and epilogue of a kernel, and the sizes that must be known when it is compiled.

    `dtype` is that of the arrays, `accumulate` that of the sums, `index` that of offsets. `channels` is how
    many output channels a thread of the direct kernel computes, `owned` how many elements an owned box holds.
    """

    dtype: str
    accumulate: str
    index: str
    channels_last: bool = False
    has_bias: bool = False
    activation: str | None = None
    tile: Tile | None = None
    channels: int = 1
    owned: int = 1
