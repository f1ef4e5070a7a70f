"""Bind launches to a device: compiled kernels, and arguments as CuPy takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from .compile import CompiledKernel, compiled
from .hopper_driver import map_of
from .launch_plan import Argument, Buffer, Bytes, KernelLaunch
from .memory import CupyArray
from .tensor_map import TensorMap

#: An argument of a kernel: an array by name, the map of one, or what CuPy passes by value.
BoundArgument: TypeAlias = str | TensorMap | np.generic | np.ndarray[tuple[int], np.dtype[np.void]]


class BoundLaunch(NamedTuple):
    """One kernel launch; arguments that are arrays stand by name or map, and `arrays` has their places and these."""

    kernel: CompiledKernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[BoundArgument, ...]
    arrays: tuple[tuple[int, str | TensorMap], ...]


def bind_launch(launch: KernelLaunch, device: int) -> BoundLaunch:
    """Compile the kernel of a launch, and turn its arguments into what CuPy takes."""
    kernel = compiled(launch.source, launch.kernel, device)
    arguments = tuple(map(_bind_argument, launch.arguments))
    arrays = tuple((place, one) for place, one in enumerate(arguments) if isinstance(one, str | TensorMap))
    return BoundLaunch(kernel, launch.grid, launch.block, launch.shared, arguments, arrays)


def _bind_argument(argument: Argument) -> BoundArgument:
    if isinstance(argument, Buffer | TensorMap):  # a map is encoded when the array is known
        return argument.name if isinstance(argument, Buffer) else argument
    if isinstance(argument, Bytes):  # an array of NumPy is passed by value, as a struct
        return np.frombuffer(argument.value, np.dtype((np.void, len(argument.value)))).copy()
    return np.uint64(0) if argument.type == "pointer" else np.dtype(argument.type).type(argument.value)


def run_launches(launches: Iterable[BoundLaunch], arrays: Mapping[str, CupyArray | None]) -> None:
    """Enqueue launches on the current stream; `arrays` holds those that their arguments name."""
    for kernel, grid, block, shared, bound, places in launches:
        arguments: list[object] = list(bound)
        for place, wanted in places:
            if isinstance(wanted, TensorMap):
                arguments[place] = map_of(wanted, arrays[wanted.buffer])
            else:
                arguments[place] = arrays[wanted]
        kernel(grid, block, tuple(arguments), shared_mem=shared)
