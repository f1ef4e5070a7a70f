"""Launch the Numba-CUDA kernels: pick the kernel and its shape, compile once, enqueue.

A launch is worked out once per plan and device and kept: the compiled kernel, the number of blocks and threads,
and the geometry on the device. What remains per call is to flatten the arrays and to enqueue.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ...problem.plan import Plan
from ...problem.product import Product, by_phase, stamps
from ..kernel import Description, Kernel, Operand
from . import choose, memory
from .compiled import compiled, kernel_name
from .cuda import Compiled, Device, DeviceArray, current_device, launch
from .geometry import index_type, make_geometry
from .traits import Box, Traits


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


def pack_gather(plan: Plan, weight: Operand, bias: Operand | None) -> Operand:
    """Bring the weights into the order tap, input channel, output channel, along which neighbouring threads read."""
    packed = memory.scratch((weight.size,), plan.dtype)
    _elementwise("pack_weight", plan, current_device(), weight.size)(weight.ravel(), packed)
    return packed


def launch_gather(plan: Plan, x: Operand, weight: Operand, bias: Operand | None, out: Operand, packed: Operand) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if plan.batch:
        _gather(plan, current_device())(x.ravel(), packed, _or(bias, packed), plan.slope, out.ravel())


def launch_scatter_atomic(
    plan: Plan, x: Operand, weight: Operand, bias: Operand | None, out: Operand, packed: None
) -> None:
    """Fill `out` by adding all stamps; half types are summed in a workspace, in float32."""
    if not plan.batch:
        return
    x, weight, out = x.ravel(), weight.ravel(), out.ravel()
    if plan.dtype == plan.accumulate:
        _add_stamps(plan, x, weight, bias, out, out)
    else:
        with memory.workspace(current_device().number, out.size, plan.accumulate) as sums:
            _add_stamps(plan, x, weight, bias, sums, out)


def _add_stamps(plan: Plan, x: Operand, weight: Operand, bias: Operand | None, sums: DeviceArray, out: Operand) -> None:
    device = current_device()
    _elementwise("scatter_fill", plan, device, out.size)(_or(bias, weight), sums)
    _atomic(plan, device)(x, weight, sums)
    if sums is not out or plan.activation is not None:
        _elementwise("scatter_finish", plan, device, out.size)(sums, plan.slope, out)


def launch_scatter_owned(
    plan: Plan, x: Operand, weight: Operand, bias: Operand | None, out: Operand, packed: None
) -> None:
    """Fill `out` by scatter into owned boxes, the same on every run."""
    if plan.batch:
        filters = weight.ravel()
        _owned(plan, current_device())(x.ravel(), filters, _or(bias, filters), plan.slope, out.ravel())


def describe_gather(plan: Plan) -> Description:
    """Name the kernel that runs; it needs no scratch memory."""
    chosen = _choose_gather(plan, current_device())
    return Description(kernel_name(chosen.name, chosen.traits), 0)


def describe_scatter_atomic(plan: Plan) -> Description:
    """Name the kernel that runs, and the memory in which half types are summed."""
    sums = 0 if plan.dtype == plan.accumulate else math.prod(plan.output_shape) * choose.item_size(plan)
    return Description(kernel_name("scatter_atomic", _atomic_traits(plan, current_device())), sums)


def describe_scatter_owned(plan: Plan) -> Description:
    """Name the kernel that runs; it needs no scratch memory."""
    return Description(kernel_name("scatter_owned", _owned_traits(plan, current_device())), 0)


def _or(bias: Operand | None, stand_in: Operand) -> Operand:
    """A kernel without bias has the parameter all the same, and does not read it."""
    return stand_in if bias is None else bias


def _plain(plan: Plan) -> Traits:
    return Traits(plan.dtype, plan.accumulate, index_type(plan), plan.channels_last)


def _fused(plan: Plan) -> Traits:
    return replace(_plain(plan), has_bias=plan.has_bias, activation=plan.activation)


def _choose_gather(plan: Plan, device: Device) -> Choice:
    product = by_phase(plan)
    if choose.is_direct(product, device):
        traits = replace(_fused(plan), channels=choose.direct_channels(product))
        pieces = -(-product.rows // traits.channels) * plan.groups
        grid = choose.elementwise_grid(plan.batch * pieces * math.prod(plan.out_spatial), device)
        return Choice("gather_direct", traits, *grid)
    tile = choose.choose_tile(choose.gather_tiles(plan, device), device, product)
    return Choice("gather_tiled", replace(_fused(plan), tile=tile), choose.tile_count(tile, product), tile.threads)


@lru_cache(maxsize=1024)
def _gather(plan: Plan, device: Device) -> Launch:
    return _prepare(by_phase(plan), device, _choose_gather(plan, device))


def _atomic_traits(plan: Plan, device: Device) -> Traits:
    return replace(_plain(plan), tile=choose.choose_tile(choose.stamp_tiles(device), device, stamps(plan)))


@lru_cache(maxsize=1024)
def _atomic(plan: Plan, device: Device) -> Launch:
    traits, product = _atomic_traits(plan, device), stamps(plan)
    assert traits.tile is not None
    blocks = choose.tile_count(traits.tile, product)
    return _prepare(product, device, Choice("scatter_atomic", traits, blocks, traits.tile.threads))


def _owned_traits(plan: Plan, device: Device) -> Traits:
    smallest = choose.stamp_tiles(device)[-1]  # shared memory goes to the box
    return replace(_fused(plan), tile=smallest, owned=choose.owned_elements(choose.item_size(plan), device))


@lru_cache(maxsize=1024)
def _owned(plan: Plan, device: Device) -> Launch:
    traits = _owned_traits(plan, device)
    assert traits.tile is not None
    box = choose.choose_box(plan, device, traits.tile)
    chosen = Choice("scatter_owned", traits, choose.box_count(plan, box), traits.tile.threads)
    return _prepare(stamps(plan), device, chosen, box)


@lru_cache(maxsize=1024)
def _elementwise(name: str, plan: Plan, device: Device, elements: int) -> Launch:
    traits = replace(_plain(plan), channels_last=False) if name == "pack_weight" else _fused(plan)
    return _prepare(stamps(plan), device, Choice(name, traits, *choose.elementwise_grid(elements, device)))


def _prepare(product: Product, device: Device, chosen: Choice, box: Box = (1, 1, 1, 1)) -> Launch:
    """Compile, and copy the geometry; more blocks than the device takes are fewer that take turns."""
    kernel = compiled(chosen.name, chosen.traits, device.number)
    blocks = min(chosen.blocks, device.blocks)
    return Launch(kernel, blocks, chosen.threads, memory.constant(make_geometry(product, box)))


#: Scatter takes about twice the operations: it computes with the tile's edges what the box's neighbours compute too.
_SCATTER_WORK = 2.0
KERNELS = (
    Kernel("numba-cuda", "gather", launch_gather, pack=pack_gather, describe=describe_gather, memory=memory),
    Kernel(
        "numba-cuda", "scatter", launch_scatter_atomic, "atomic", describe=describe_scatter_atomic, memory=memory,
        work_ratio=lambda _: _SCATTER_WORK, deterministic=False,
    ),
    Kernel(
        "numba-cuda", "scatter", launch_scatter_owned, "tiles", describe=describe_scatter_owned, memory=memory,
        work_ratio=lambda _: _SCATTER_WORK,
    ),
)  # fmt: skip
