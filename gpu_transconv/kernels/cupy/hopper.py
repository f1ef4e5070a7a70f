"""The kernel for Hopper's matrix unit: its launches, and where it is the best; src/hopper_gather.cuh."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from functools import lru_cache

from ...problem.plan import Plan
from .choose import DirectGather, choose_gather, direct_slowdown
from .geometry import ACTIVATION_CODES, channel_steps, weight_steps
from .hopper_product import HopperProduct, cut_product
from .launch_plan import (
    OUT,
    THREADS,
    WEIGHT,
    Argument,
    Buffer,
    Bytes,
    KernelLaunch,
    LaunchPlan,
    X,
    bias_of,
    gather_launches,
)
from .tile_shapes import C_TYPES, DeviceProperties

#: Threads of a block: a warpgroup that produces and two that consume, as hopper_pipeline.cuh has them.
_THREADS = 384
#: Share of the matrix unit's peak that mma.sync can reach on Hopper; an estimate from public measurements.
_MMA_SHARE = 0.6
#: Published peak of TF32 products, over that of ordinary multiply-adds in float32, on capability 9.0.
_TF32_RATE = 494.5 / 67
#: How much faster it must seem to be, so that a tie goes to what wastes less.
_MARGIN = 1.1
_TOGETHER = {name: code for code, name in enumerate(("APART", "PIXELS_2", "UNITS_2", "UNITS_PIXELS", "CHANNELS_2"))}


@lru_cache(maxsize=1024)
def choose_hopper(plan: Plan, device: DeviceProperties) -> HopperProduct | None:
    """Cut a plan for the kernel where the device has what it needs and no other kernel should cost less."""
    if not device.has_warpgroups:
        return None
    cut, other = cut_product(plan, device), choose_gather(plan, device)
    if cut is None or cut.shared > device.shared_per_block:
        return None
    if cut.images == 2:
        slowdown = _TF32_RATE
    else:
        slowdown = direct_slowdown(plan, device) if isinstance(other, DirectGather) else 1 / _MMA_SHARE
    return cut if cut.cost(device) * _MARGIN < other.cost * slowdown else None


def gather_cost(plan: Plan, device: DeviceProperties) -> float:
    """Multiply-adds that take as long as the best gather at the arithmetic's peak, the device being full."""
    if cut := choose_hopper(plan, device):
        return cut.cost(device) / (_TF32_RATE if cut.images == 2 else 1)
    chosen = choose_gather(plan, device)
    return chosen.cost * (direct_slowdown(plan, device) if isinstance(chosen, DirectGather) else 1)


@lru_cache(maxsize=1024)
def best_gather_launches(plan: Plan, device: DeviceProperties) -> LaunchPlan:
    """Launch gather, by the kernel for Hopper where that is the best."""
    return hopper_launches(plan, device) if choose_hopper(plan, device) else gather_launches(plan, device)


def geometry_bytes(cut: HopperProduct) -> bytes:
    """Lay a product out as struct HopperGeometry."""
    plan, last = cut.plan, cut.plan.channels_last
    inputs, outputs = math.prod(plan.in_spatial), math.prod(plan.out_spatial)
    x_step, y_step = channel_steps(plan)
    numbers: list[int] = []
    for a, part in enumerate(cut.axes):
        axis = part.axis
        numbers += [axis.size, axis.output_size - part.origin, axis.kernel, axis.stride, axis.dilation, axis.pad_low]
        numbers += [part.origin, part.units, part.first, axis.step, cut.box[a + 1], cut.boxes[a + 1]]
        numbers += [math.prod(plan.in_spatial[a + 1 :]) * x_step, math.prod(plan.out_spatial[a + 1 :]) * y_step]
    numbers += [plan.batch, plan.groups, *cut.channels]
    numbers += [plan.in_channels * inputs, 1 if last else inputs, plan.out_channels * outputs, 1 if last else outputs]
    numbers += [*weight_steps(cut.product), cut.box[0], cut.units, cut.blocks, cut.row_tiles, math.prod(cut.boxes)]
    numbers += [cut.steps, cut.chunks, cut.slots, int(cut.group_axis), cut.line, _TOGETHER[cut.together]]
    numbers.append(ACTIVATION_CODES[plan.activation])
    return struct.pack(f"@{len(numbers)}if", *numbers, plan.slope)


def hopper_launches(plan: Plan, device: DeviceProperties, tile_blocks: int | None = None) -> LaunchPlan:
    """Launch the kernel, or, for tests, with tiles of so many blocks."""
    cut = cut_product(plan, device)
    if cut is None:
        raise ValueError(f"no kernel for Hopper computes {plan}")
    if tile_blocks:
        cut = replace(cut, tile_blocks=tile_blocks)
    geometry, element = Bytes(geometry_bytes(cut)), C_TYPES[plan.dtype]
    kind = f"{cut.tile_blocks},{cut.images}" if cut.images > 1 else str(cut.tile_blocks)
    packed = Buffer("packed", cut.packed_bytes, zeroed=True)
    steps = KernelLaunch(
        f"gtc::hopper_steps<{cut.tile_blocks}>", "hopper_pack.cuh", (-(-cut.row_tiles // THREADS), 1, 1),
        (THREADS, 1, 1), 0, (geometry, packed),
    )  # fmt: skip
    slots = (cut.steps - 1) * cut.tile_blocks * cut.chunks
    pack = KernelLaunch(
        f"gtc::hopper_pack<{element},{kind}>", "hopper_pack.cuh", (slots, cut.row_tiles * plan.groups, 1),
        (THREADS, 1, 1), 0, (geometry, WEIGHT, packed),
    )  # fmt: skip
    map_of_x: Argument = Bytes(bytes(128)) if cut.source.startswith("LOAD") else cut.tensor_map()
    launch = KernelLaunch(
        f"gtc::hopper_gather<{element},gtc::{cut.source},{kind}>", "hopper_gather.cuh",
        (min(cut.tiles, device.multiprocessors), 1, 1), (_THREADS, 1, 1), cut.shared,
        (geometry, map_of_x, X, WEIGHT, packed, bias_of(plan), OUT),
    )  # fmt: skip
    origins = tuple((axis.origin, axis.axis.stride, axis.units) for axis in cut.axes)
    layout = ("hopper", plan.precision, cut.product.is_swapped, cut.tile_blocks, cut.together == "CHANNELS_2", origins)
    return LaunchPlan(layout, (steps, pack), (launch,) if plan.batch else ())
