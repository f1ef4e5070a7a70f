"""Work out a launch, once per plan and device: the compiled kernel, blocks and threads, the geometry on the device."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ...problem.plan import Plan
from ...problem.sides import Sides, stamping
from . import choose, memory
from .compiled import compiled
from .cuda import Compiled, Device, DeviceArray, launch
from .geometry import index_type, make_geometry
from .traits import Box, Cut, Traits


class Launch(NamedTuple):
    """A compiled kernel, how many blocks and threads of it, and the problem's geometry on the device."""

    kernel: Compiled
    blocks: int
    threads: int
    geometry: DeviceArray

    def __call__(self, *arguments: DeviceArray | float) -> None:
        """Enqueue on the current stream; the geometry is every kernel's last argument."""
        launch(self.kernel, self.blocks, self.threads, memory.current_stream(), *arguments, self.geometry)


class Choice(NamedTuple):
    """A kernel by its name, what it is compiled for, and how many blocks and threads of it."""

    name: str
    traits: Traits
    blocks: int
    threads: int


def plain(plan: Plan) -> Traits:
    """Types and layout of a plan, without bias and activation."""
    return Traits(plan.dtype, plan.accumulate, index_type(plan), plan.channels_last)


def fused(plan: Plan) -> Traits:
    """Types, layout, bias and activation of a plan."""
    return replace(plain(plan), has_bias=plan.has_bias, activation=plan.activation)


def prepare(sides: Sides, device: Device, chosen: Choice, box: Box = (1, 1, 1, 1), cut: Cut | None = None) -> Launch:
    """Compile, and copy the geometry; more blocks than the device takes are fewer that take turns."""
    kernel = compiled(chosen.name, chosen.traits, device.number)
    blocks = min(chosen.blocks, device.blocks)
    return Launch(kernel, blocks, chosen.threads, memory.constant(make_geometry(sides, box, cut)))


@lru_cache(maxsize=1024)
def elementwise(name: str, plan: Plan, device: Device, elements: int, cut: Cut | None = None) -> Launch:
    """Work out a launch of a kernel whose threads share nothing."""
    traits = replace(plain(plan), channels_last=False) if name.startswith("pack") else fused(plan)
    chosen = Choice(name, traits, *choose.elementwise_grid(elements, device))
    return prepare(stamping(plan), device, chosen, cut=cut)
