"""Launch the Numba-CUDA kernels of the operator and of its gradient by x: pick the kernel and its shape, enqueue.

Both run the same kernels, on geometries seen from opposite sides. A launch is worked out once per plan and device and
kept (`enqueue`); what remains per call is to flatten the arrays and to enqueue. `KERNELS` is all that the backend has.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache, partial

from ...problem.plan import Plan
from ...problem.rewrites import kernel_axes
from ...problem.sides import collecting, stamping
from ..kernel import Description, Kernel, Operand
from . import choose, memory
from . import weight_launch as of_weight
from .compiled import kernel_name
from .cuda import Device, DeviceArray, current_device
from .enqueue import Choice, Launch, elementwise, fused, plain, prepare
from .traits import Traits


def pack_gather(plan: Plan, weight: Operand, bias: Operand | None) -> Operand:
    """Bring the weights into the order tap, input channel, output channel, along which neighbouring threads read."""
    packed = memory.scratch((weight.size,), plan.dtype)
    elementwise("pack_weight", plan, current_device(), weight.size)(weight.ravel(), packed)
    return packed


def pack_stamps(plan: Plan, weight: Operand, bias: Operand | None) -> Operand:
    """Bring the weights into the order in which the gradient by x stamps them; the operator reads them as they are."""
    packed = memory.scratch((weight.size,), plan.dtype)
    elementwise("pack_stamps", plan, current_device(), weight.size)(weight.ravel(), packed)
    return packed


def stamps_key(plan: Plan) -> Hashable:
    """What that order depends on: which taps every phase has."""
    return tuple((axis.stride, axis.dilation, axis.pad_low, axis.phase_count) for axis in kernel_axes(plan))


def launch_gather(plan: Plan, x: Operand, weight: Operand, bias: Operand | None, out: Operand, packed: Operand) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    if plan.batch:
        _gather(plan, current_device())(x.ravel(), packed, _or(bias, packed), plan.slope, out.ravel())


def launch_scatter_atomic(
    plan: Plan, x: Operand, weight: Operand, bias: Operand | None, out: Operand, packed: Operand | None
) -> None:
    """Fill `out` by adding all stamps; half types are summed in a workspace, in float32."""
    if not plan.batch:
        return
    x, weight, out = x.ravel(), weight.ravel() if packed is None else packed, out.ravel()
    if plan.dtype == plan.accumulate:
        _add_stamps(plan, x, weight, bias, out, out)
    else:
        with memory.workspace(current_device().number, out.size, plan.accumulate) as sums:
            _add_stamps(plan, x, weight, bias, sums, out)


def _add_stamps(plan: Plan, x: Operand, weight: Operand, bias: Operand | None, sums: DeviceArray, out: Operand) -> None:
    device = current_device()
    elementwise("scatter_fill", plan, device, out.size)(_or(bias, weight), sums)
    _atomic(plan, device)(x, weight, sums)
    if sums is not out or plan.activation is not None:
        elementwise("scatter_finish", plan, device, out.size)(sums, plan.slope, out)


def launch_scatter_owned(
    plan: Plan, x: Operand, weight: Operand, bias: Operand | None, out: Operand, packed: Operand | None
) -> None:
    """Fill `out` by scatter into owned boxes, the same on every run."""
    if plan.batch:
        filters = weight.ravel() if packed is None else packed
        _owned(plan, current_device())(x.ravel(), filters, _or(bias, filters), plan.slope, out.ravel())


def describe_gather(plan: Plan) -> Description:
    """Name the kernel that runs; it needs no scratch memory."""
    chosen = _choose_gather(plan, current_device())
    return Description(kernel_name(chosen.name, chosen.traits), 0)


def describe_scatter_atomic(plan: Plan) -> Description:
    """Name the kernel that runs, and the memory in which half types are summed."""
    sums = 0 if plan.dtype == plan.accumulate else math.prod(plan.result_shape) * choose.item_size(plan)
    return Description(kernel_name("scatter_atomic", _atomic_traits(plan, current_device())), sums)


def describe_scatter_owned(plan: Plan) -> Description:
    """Name the kernel that runs; it needs no scratch memory."""
    return Description(kernel_name("scatter_owned", _owned_traits(plan, current_device())), 0)


def _or(bias: Operand | None, stand_in: Operand) -> Operand:
    """A kernel without bias has the parameter all the same, and does not read it."""
    return stand_in if bias is None else bias


def _choose_gather(plan: Plan, device: Device) -> Choice:
    sides = collecting(plan)
    if choose.is_direct(sides, device):
        traits = replace(fused(plan), channels=choose.direct_channels(sides))
        pieces = -(-sides.rows // traits.channels) * plan.groups
        grid = choose.elementwise_grid(plan.batch * pieces * math.prod(axis.near for axis in sides.axes), device)
        return Choice("gather_direct", traits, *grid)
    work = choose.work_of(sides)
    tile = choose.choose_tile(choose.gather_tiles(plan, device), device, work)
    return Choice("gather_tiled", replace(fused(plan), tile=tile), choose.tile_count(tile, work), tile.threads)


@lru_cache(maxsize=1024)
def _gather(plan: Plan, device: Device) -> Launch:
    return prepare(collecting(plan), device, _choose_gather(plan, device))


def _atomic_traits(plan: Plan, device: Device) -> Traits:
    tile = choose.choose_tile(choose.stamp_tiles(device), device, choose.work_of(stamping(plan)))
    return replace(plain(plan), tile=tile)


@lru_cache(maxsize=1024)
def _atomic(plan: Plan, device: Device) -> Launch:
    traits, sides = _atomic_traits(plan, device), stamping(plan)
    assert traits.tile is not None
    blocks = choose.tile_count(traits.tile, choose.work_of(sides))
    return prepare(sides, device, Choice("scatter_atomic", traits, blocks, traits.tile.threads))


def _owned_traits(plan: Plan, device: Device) -> Traits:
    smallest = choose.stamp_tiles(device)[-1]  # shared memory goes to the box
    return replace(fused(plan), tile=smallest, owned=choose.owned_elements(choose.item_size(plan), device))


@lru_cache(maxsize=1024)
def _owned(plan: Plan, device: Device) -> Launch:
    traits = _owned_traits(plan, device)
    assert traits.tile is not None
    sides = stamping(plan)
    box = choose.choose_box(sides, device, traits.tile)
    chosen = Choice("scatter_owned", traits, choose.box_count(sides, box), traits.tile.threads)
    return prepare(sides, device, chosen, box)


def _gather_ratio(plan: Plan) -> float:
    device = current_device()
    return choose.idle_ratio(_choose_gather(plan, device).blocks, device)


def _scatter_ratio(plan: Plan) -> float:
    device = current_device()
    tile = _atomic_traits(plan, device).tile
    assert tile is not None
    return choose.SCATTER_WORK * choose.idle_ratio(choose.tile_count(tile, choose.work_of(stamping(plan))), device)


_numba_cuda = partial(Kernel, "numba-cuda", memory=memory)
_gathers = partial(_numba_cuda, "gather", work_ratio=_gather_ratio)
_scatters = partial(_numba_cuda, "scatter", work_ratio=_scatter_ratio)
_input_grad = partial(_scatters, operation="input_grad", pack=pack_stamps, weight_key=stamps_key)
_weight_grad = partial(_scatters, operation="weight_grad", work_ratio=of_weight.scatter_ratio)
KERNELS = (
    _gathers(launch_gather, pack=pack_gather, describe=describe_gather),
    _scatters(launch_scatter_atomic, "atomic", describe=describe_scatter_atomic, deterministic=False),
    _scatters(launch_scatter_owned, "tiles", describe=describe_scatter_owned),
    _gathers(launch_gather, operation="input_grad", pack=pack_gather, describe=describe_gather),
    _input_grad(launch_scatter_atomic, "atomic", describe=describe_scatter_atomic, deterministic=False),
    _input_grad(launch_scatter_owned, "tiles", describe=describe_scatter_owned),
    _gathers(
        of_weight.launch_gather,
        operation="weight_grad",
        describe=of_weight.describe_gather,
        work_ratio=of_weight.gather_ratio,
    ),
    _weight_grad(
        of_weight.launch_scatter_atomic, "atomic", describe=of_weight.describe_scatter_atomic, deterministic=False
    ),
    _weight_grad(of_weight.launch_scatter_owned, "tiles", describe=of_weight.describe_scatter_owned),
)
