"""Launch the Numba-CUDA kernels: pick the kernel and its shape, compile once, enqueue.

A launch is worked out once per plan and device and kept: the compiled kernel, the number of blocks and threads,
and the geometry on the device. What remains per call is to flatten the arrays and to enqueue.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from ...problem.plan import Plan
from ..kernel import Description, Kernel
from . import memory, shapes
from .compiled import compiled, kernel_name
from .cuda import Device, current_device, launch
from .facts import Facts
from .geometry import index_type, make_geometry


class Launch(NamedTuple):
    """A compiled kernel, how many blocks and threads of it, and the problem's geometry on the device."""

    kernel: Any
    blocks: int
    threads: int
    geometry: Any

    def __call__(self, *arguments: Any) -> None:
        """Enqueue on the current stream; the geometry is every kernel's last argument."""
        launch(self.kernel, self.blocks, self.threads, memory.current_stream(), *arguments, self.geometry)


def pack_gather(plan: Plan, weight: Any, bias: Any) -> Any:  # noqa: ARG001
    """Bring the weights into the order tap, input channel, output channel, along which neighbouring threads read."""
    packed = memory.scratch((weight.size,), plan.dtype)
    _elementwise("pack_weight", plan, current_device(), weight.size)(weight.ravel(), packed)
    return packed


def launch_gather(plan: Plan, x: Any, weight: Any, bias: Any, out: Any, packed: Any) -> None:  # noqa: ARG001
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if plan.batch:
        _gather(plan, current_device())(x.ravel(), packed, _or(bias, packed), plan.slope, out.ravel())


def launch_scatter_atomic(plan: Plan, x: Any, weight: Any, bias: Any, out: Any, packed: None) -> None:  # noqa: ARG001
    """Fill `out` by adding all stamps; half types are summed in a workspace, in float32."""
    if not plan.batch:
        return
    x, weight, out = x.ravel(), weight.ravel(), out.ravel()
    if plan.dtype == plan.accumulate:
        _add_stamps(plan, x, weight, bias, out, out)
    else:
        with memory.workspace(current_device().number, out.size, plan.accumulate) as sums:
            _add_stamps(plan, x, weight, bias, sums, out)


def _add_stamps(plan: Plan, x: Any, weight: Any, bias: Any, sums: Any, out: Any) -> None:
    device = current_device()
    _elementwise("scatter_fill", plan, device, out.size)(_or(bias, weight), sums)
    _atomic(plan, device)(x, weight, sums)
    if sums is not out or plan.activation is not None:
        _elementwise("scatter_finish", plan, device, out.size)(sums, plan.slope, out)


def launch_scatter_tiles(plan: Plan, x: Any, weight: Any, bias: Any, out: Any, packed: None) -> None:  # noqa: ARG001
    """Fill `out` by scatter into owned boxes, the same on every run."""
    if plan.batch:
        filters = weight.ravel()
        _tiles(plan, current_device())(x.ravel(), filters, _or(bias, filters), plan.slope, out.ravel())


def describe_gather(plan: Plan) -> Description:
    """Name the kernel that runs; it needs no scratch memory."""
    return _describe(_gather_kernel(plan, current_device())[:2])


def describe_scatter_atomic(plan: Plan) -> Description:
    """Name the kernel that runs, and the memory in which half types are summed."""
    device = current_device()
    sums = 0 if plan.dtype == plan.accumulate else math.prod(plan.output_shape) * shapes.item_size(plan)
    return _describe(("scatter_atomic", _atomic_facts(plan, device)), sums)


def describe_scatter_tiles(plan: Plan) -> Description:
    """Name the kernel that runs; it needs no scratch memory."""
    return _describe(("scatter_tiles", _tiles_facts(plan, current_device())))


def _describe(kernel: tuple[str, Facts], workspace: int = 0) -> Description:
    return Description(kernel_name(*kernel), workspace)


def _or(bias: Any, stand_in: Any) -> Any:
    """A kernel without bias has the parameter all the same, and does not read it."""
    return stand_in if bias is None else bias


def _facts(plan: Plan, **more: Any) -> Facts:
    return Facts(plan.dtype, plan.accumulate, index_type(plan), plan.channels_last, **more)


def _fused(plan: Plan, **more: Any) -> Facts:
    return _facts(plan, has_bias=plan.has_bias, activation=plan.activation, **more)


def _gather_kernel(plan: Plan, device: Device) -> tuple[str, Facts, int, int]:
    """Name, facts, blocks and threads."""
    if shapes.is_direct(plan, device):
        facts = _fused(plan, channels=shapes.direct_channels(plan))
        pieces = -(-(plan.out_channels // plan.groups) // facts.channels) * plan.groups
        grid = shapes.elementwise_grid(plan.batch * pieces * math.prod(plan.out_spatial), device)
        return "gather_direct", facts, *grid
    rows, pixels = plan.out_channels // plan.groups, plan.batch * math.prod(axis.blocks for axis in plan.axes)
    products = plan.groups * plan.phase_count
    tile = shapes.choose_tile(shapes.gather_tiles(plan, device), device, rows, pixels, products)
    return "gather_tiled", _fused(plan, tile=tile), shapes.tile_count(tile, rows, pixels) * products, tile.threads


@lru_cache(maxsize=1024)
def _gather(plan: Plan, device: Device) -> Launch:
    name, facts, blocks, threads = _gather_kernel(plan, device)
    return _make(name, plan, device, facts, blocks, threads)


def _atomic_facts(plan: Plan, device: Device) -> Facts:
    rows, pixels = shapes.stamp_rows(plan), plan.batch * math.prod(plan.in_spatial)
    return _facts(plan, tile=shapes.choose_tile(shapes.stamp_tiles(device), device, rows, pixels, plan.groups))


@lru_cache(maxsize=1024)
def _atomic(plan: Plan, device: Device) -> Launch:
    facts = _atomic_facts(plan, device)
    assert facts.tile is not None
    pixels = plan.batch * math.prod(plan.in_spatial)
    blocks = shapes.tile_count(facts.tile, shapes.stamp_rows(plan), pixels) * plan.groups
    return _make("scatter_atomic", plan, device, facts, blocks, facts.tile.threads)


def _tiles_facts(plan: Plan, device: Device) -> Facts:
    smallest = shapes.stamp_tiles(device)[-1]  # shared memory goes to the box
    return _fused(plan, tile=smallest, owned=shapes.owned_elements(shapes.item_size(plan), device))


@lru_cache(maxsize=1024)
def _tiles(plan: Plan, device: Device) -> Launch:
    facts = _tiles_facts(plan, device)
    assert facts.tile is not None
    box = shapes.choose_box(plan, device, facts.tile)
    return _make("scatter_tiles", plan, device, facts, shapes.box_count(plan, box), facts.tile.threads, box)


@lru_cache(maxsize=1024)
def _elementwise(name: str, plan: Plan, device: Device, elements: int) -> Launch:
    facts = {"pack_weight": Facts(plan.dtype, plan.accumulate, index_type(plan))}.get(name, _fused(plan))
    return _make(name, plan, device, facts, *shapes.elementwise_grid(elements, device))


def _make(
    name: str,
    plan: Plan,
    device: Device,
    facts: Facts,
    blocks: int,
    threads: int,
    box: tuple[int, int, int, int] = (1, 1, 1, 1),
) -> Launch:
    """Compile, and copy the geometry; more blocks than the device takes are fewer that take turns."""
    return Launch(
        compiled(name, facts, device.number),
        min(blocks, device.blocks),
        threads,
        memory.constant(make_geometry(plan, box)),
    )


#: Scatter takes about twice the operations: it computes with the tile's edges what the box's neighbours compute too.
_SCATTER_WORK = 2.0
KERNELS = (
    Kernel("numba-cuda", "gather", launch_gather, pack=pack_gather, describe=describe_gather, memory=memory),
    Kernel(
        "numba-cuda", "scatter", launch_scatter_atomic, "atomic", describe=describe_scatter_atomic, memory=memory,
        work_ratio=lambda _: _SCATTER_WORK, deterministic=False,
    ),
    Kernel(
        "numba-cuda", "scatter", launch_scatter_tiles, "tiles", describe=describe_scatter_tiles, memory=memory,
        work_ratio=lambda _: _SCATTER_WORK,
    ),
)  # fmt: skip
