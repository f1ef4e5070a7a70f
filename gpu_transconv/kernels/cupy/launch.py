"""Give the launches of a plan to CuPy: its current stream, its memory pool, no synchronisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from ...problem.plan import Operation, Plan
from ...problem.product import stamps
from ..kernel import Description, Kernel
from . import memory
from .bound_launch import BoundLaunch, bind_launch, run_launches
from .choose import direct_slowdown, fit_tiles, shapes_for
from .compile import most_shared
from .geometry import pack_product
from .hopper import best_gather_launches, gather_cost
from .hopper_driver import warpgroups_available
from .hopper_trial import passes_trial
from .input_grad import fit_tap_stamps, input_atomic_launches, input_owned_launches
from .launch_plan import Buffer, Planner, scatter_atomic_launches, scatter_owned_launches
from .memory import CupyArray, empty, has_allocator, held, is_capturing, scratch
from .owned_boxes import cut_output
from .packed import PackedWeights
from .tile_shapes import DeviceProperties
from .weight_grad import (
    DirectWeights,
    choose_weight_grad,
    fit_best_tiles,
    weight_atomic_launches,
    weight_gather_launches,
    weight_parts_launches,
)


class BoundPlan(NamedTuple):
    """Everything of one formulation of a plan on one device."""

    layout: tuple[object, ...]
    pack: tuple[BoundLaunch, ...]
    launch: tuple[BoundLaunch, ...]
    scratch: tuple[Buffer, ...]
    packed: Buffer | None


def refusal(plan: Plan) -> str | None:
    """Tell why the current device cannot compute a plan, or None."""
    capability = _current_properties().capability
    if plan.precision == "tf32" and capability < (8, 0):
        text = ".".join(map(str, capability))
        return f"TF32 needs compute capability 8.0, this device has {text}; precision='highest' works here"
    return None


def _gather_work(plan: Plan) -> float:
    return gather_cost(plan, _current_properties()) / _useful(plan)


def _scatter_atomic_work(plan: Plan) -> float:
    device, packed = _current_properties(), pack_product(stamps(plan))
    return min(fit_tiles(packed, shape, device).cost for shape in shapes_for(plan, device)) / _useful(plan)


def _scatter_owned_work(plan: Plan) -> float:
    return cut_output(plan, _current_properties()).cost / _useful(plan)


def _input_atomic_work(plan: Plan) -> float:
    return fit_tap_stamps(plan, _current_properties()).cost / _useful(plan)


def _weight_gather_work(plan: Plan) -> float:
    device = _current_properties()
    chosen = choose_weight_grad(plan, device)
    slowdown = direct_slowdown(plan, device) if isinstance(chosen, DirectWeights) else 1
    return chosen.cost * slowdown / _useful(plan)


def _weight_scatter_work(plan: Plan) -> float:
    return fit_best_tiles(plan, _current_properties(), taps_inside=True).cost / _useful(plan)


def _useful(plan: Plan) -> float:
    """Multiply-adds of the definition."""
    return max(plan.flops / 2, 1.0)


def _describe(launches: Planner, plan: Plan) -> Description:
    """Name the kernels that run, and their scratch memory."""
    planned = launches(plan, _current_properties())
    read = {a for one in planned.launch for a in one.arguments if isinstance(a, Buffer) and a.name != "packed"}
    names = [one.kernel.removeprefix("gtc::") for one in planned.launch]
    return Description(" + ".join(names), sum(buffer.size for buffer in read))


@lru_cache(maxsize=16)
def device_properties(device: int) -> DeviceProperties:
    """Ask the driver what the choice of kernels depends on."""
    import cupy

    attributes = cupy.cuda.Device(device).attributes
    capability = attributes["ComputeCapabilityMajor"], attributes["ComputeCapabilityMinor"]
    facts = DeviceProperties(capability, attributes["MultiProcessorCount"], most_shared(device))
    with_warpgroups = replace(facts, has_warpgroups=True)
    trusted = warpgroups_available(capability) and passes_trial(with_warpgroups, device)
    return with_warpgroups if trusted else facts


def current_device() -> int:
    """Number of the current device."""
    import cupy

    device: int = cupy.cuda.runtime.getDevice()
    return device


def _current_properties() -> DeviceProperties:
    return device_properties(current_device())


@lru_cache(maxsize=1024)
def _bind(launches: Planner, plan: Plan, device: int) -> BoundPlan:
    """Work out the launches for a device, and compile their kernels."""
    planned = launches(plan, device_properties(device))
    scratch = tuple(buffer for buffer in planned.buffers if buffer.name != "packed")
    packed = next((buffer for buffer in planned.buffers if buffer.name == "packed"), None)
    pack, launch = (tuple(bind_launch(one, device) for one in part) for part in (planned.pack, planned.launch))
    return BoundPlan(planned.layout, pack, launch, scratch, packed)


def _pack(launches: Planner, plan: Plan, weight: CupyArray, bias: CupyArray | None) -> PackedWeights:  # noqa: ARG001
    packed = PackedWeights()
    _packed(packed, _bind(launches, plan, current_device()), weight)
    return packed


def _packed(packed: PackedWeights, bound: BoundPlan, weight: CupyArray) -> CupyArray | None:
    """Return the weights as `bound` reads them, or None where it reads them as they are."""
    buffer = bound.packed
    if buffer is None:
        return None

    def pack() -> CupyArray:
        made = _zeroed(empty((buffer.size,), "uint8") if packed.shared else scratch((buffer.size,), "uint8"))
        run_launches(bound.pack, {"weight": weight, "packed": made})
        return made

    return packed.get(bound.layout, pack)


def _launch(
    launches: Planner, plan: Plan, x: CupyArray, weight: CupyArray, bias: CupyArray | None, out: CupyArray,
    packed: PackedWeights,
) -> None:  # fmt: skip
    """Run a plan on the current stream, packing the weights first where they are not packed in its order."""
    if held and not is_capturing():
        held.sweep()
    bound = _bind(launches, plan, current_device())
    arrays = {"x": x, "weight": weight, "bias": bias, "out": out, "packed": _packed(packed, bound, weight)}
    for buffer in bound.scratch:
        arrays[buffer.name] = _scratch(buffer, packed)
    run_launches(bound.launch, arrays)
    packed.used()


def _scratch(buffer: Buffer, packed: PackedWeights) -> CupyArray:
    """Allocate scratch memory; what a CUDA graph will write to has the life of the layer that it reads."""
    if packed.shared and not has_allocator() and is_capturing():
        made = empty((buffer.size,), "uint8")
        packed.keep(made)
    else:
        made = scratch((buffer.size,), "uint8")
    return _zeroed(made) if buffer.zeroed else made


def _zeroed(made: CupyArray) -> CupyArray:
    made.data.memset_async(0, made.size)
    return made


def _kernel(operation: Operation, name: str, launches: Planner, work: Callable[[Plan], float]) -> Kernel:
    """One kernel; its name is formulation[/variant], and atomics are what is not deterministic."""
    variant = name.partition("/")[2]
    return Kernel(
        "cupy", "scatter" if variant else "gather", partial(_launch, launches), variant, operation,
        pack=partial(_pack, launches), refusal=refusal, work_ratio=work, describe=partial(_describe, launches),
        memory=memory, deterministic=variant != "atomic",
    )  # fmt: skip


KERNELS = (
    _kernel("forward", "gather", best_gather_launches, _gather_work),
    _kernel("forward", "scatter/atomic", scatter_atomic_launches, _scatter_atomic_work),
    _kernel("forward", "scatter/tiles", scatter_owned_launches, _scatter_owned_work),
    _kernel("input_grad", "gather", best_gather_launches, _gather_work),
    _kernel("input_grad", "scatter/atomic", input_atomic_launches, _input_atomic_work),
    _kernel("input_grad", "scatter/tiles", input_owned_launches, _scatter_owned_work),
    _kernel("weight_grad", "gather", weight_gather_launches, _weight_gather_work),
    _kernel("weight_grad", "scatter/atomic", weight_atomic_launches, _weight_scatter_work),
    _kernel("weight_grad", "scatter/tiles", weight_parts_launches, _weight_scatter_work),
)
