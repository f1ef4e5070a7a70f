"""What to launch, as data: kernel, grid, block, shared memory and arguments, worked out without a device.

The launcher gives these steps to CuPy; the host build of the kernels executes the same ones on NumPy buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the choice of kernels depends on; the defaults are an H100's."""

    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 132
    shared_per_block: int = 227 << 10  # with the attribute that allows more than 48 KiB


@dataclass(frozen=True, slots=True)
class Buffer:
    """A pointer: one of the caller's arrays (x, weight, bias, out), `packed`, or scratch memory of this call.

    The caller's arrays have ``size`` 0. The others hold `size` bytes, all zero at first where `zeroed`, and are
    aligned to 256 bytes. Steps of one call that name the same scratch memory share it.
    """

    name: str
    size: int = 0
    zeroed: bool = False


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, by C type: int32, int64, float32, or pointer (only ever null)."""

    type: str
    value: float


@dataclass(frozen=True, slots=True)
class Bytes:
    """A struct by value."""

    value: bytes


Argument: TypeAlias = Buffer | Scalar | Bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel launch: `kernel` is a name expression of the source file `source`."""

    kernel: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[Argument, ...]
