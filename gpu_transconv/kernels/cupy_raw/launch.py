"""Give the steps of a plan to CuPy: its current stream, its memory pool, no synchronisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...problem.plan import Plan
from .compile import compiled, most_shared, warmup
from .geometry import stamp_view
from .memory import empty, has_allocator, held, is_capturing, scratch
from .ownership import cheaper, own
from .packed import Packed
from .steps import Buffer, Bytes, DeviceFacts, Step, Steps, steps_gather, steps_scatter_atomic, steps_scatter_tiles
from .tiles import Direct, choose, fit, shapes_for, slower

_STEPS: dict[str, Callable[[Plan, DeviceFacts], Steps]] = {
    "gather": steps_gather,
    "scatter_atomic": steps_scatter_atomic,
    "scatter_tiles": steps_scatter_tiles,
}


class Call(NamedTuple):
    """One kernel launch; arguments that are arrays stand by name."""

    kernel: Any
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[Any, ...]


class Calls(NamedTuple):
    """Everything of one formulation of a plan on one device."""

    layout: tuple[object, ...]
    pack: tuple[Call, ...]
    launch: tuple[Call, ...]
    scratch: tuple[Buffer, ...]
    packed: Buffer | None


def pack_gather(plan: Plan, weight: Array, bias: Array | None) -> Packed:  # noqa: ARG001
    """Pack the weights for gather; the contract is in `gpu_transconv.kernels`."""
    return _pack("gather", plan, weight)


def launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Enqueue gather."""
    _launch("gather", plan, {"x": x, "weight": weight, "bias": bias, "out": out}, packed)


def pack_scatter_atomic(plan: Plan, weight: Array, bias: Array | None) -> Packed:  # noqa: ARG001
    """Pack the weights for scatter by atomics."""
    return _pack("scatter_atomic", plan, weight)


def launch_scatter_atomic(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Enqueue scatter by atomics."""
    _launch("scatter_atomic", plan, {"x": x, "weight": weight, "bias": bias, "out": out}, packed)


def pack_scatter_tiles(plan: Plan, weight: Array, bias: Array | None) -> Packed:  # noqa: ARG001
    """Pack the weights for scatter into owned tiles."""
    return _pack("scatter_tiles", plan, weight)


def launch_scatter_tiles(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array, packed: Packed) -> None:
    """Enqueue scatter into owned tiles."""
    _launch("scatter_tiles", plan, {"x": x, "weight": weight, "bias": bias, "out": out}, packed)


def prefer(plan: Plan) -> str:
    """Return the formulation that should cost less."""
    return cheaper(plan, device_facts(_current_device()))


def supports_gather(plan: Plan) -> str | None:
    """Tell why the current device cannot compute a plan, or None."""
    capability = device_facts(_current_device()).capability
    if plan.precision == "tf32" and capability < (8, 0):
        found = ".".join(map(str, capability))
        return f"TF32 needs compute capability 8.0, this device has {found}; precision='highest' works here"
    return None


supports_scatter_atomic = supports_scatter_tiles = supports_gather


def efforts(plan: Plan) -> dict[str, float]:
    """Return how many times the useful multiply-adds each kernel's time is worth, on a full device."""
    facts, useful = device_facts(_current_device()), max(plan.flops / 2, 1.0)
    chosen, owned = choose(plan, facts), own(plan, facts)
    return {
        "gather": chosen.effort * (slower(plan, facts) if isinstance(chosen, Direct) else 1) / useful,
        "scatter_atomic": min(fit(stamp_view(plan), shape, facts).effort for shape in shapes_for(plan, facts)) / useful,
        "scatter_tiles": owned.effort / useful,
    }


def details_gather(plan: Plan) -> dict[str, Any]:
    """Name the kernel that runs and its scratch memory."""
    return _details("gather", plan)


def details_scatter_atomic(plan: Plan) -> dict[str, Any]:
    """Name the kernel that runs and its scratch memory."""
    return _details("scatter_atomic", plan)


def details_scatter_tiles(plan: Plan) -> dict[str, Any]:
    """Name the kernel that runs and its scratch memory."""
    return _details("scatter_tiles", plan)


def _details(formulation: str, plan: Plan) -> dict[str, Any]:
    steps = _STEPS[formulation](plan, device_facts(_current_device()))
    buffers = {a for step in steps.launch for a in step.arguments if isinstance(a, Buffer) and a.name != "packed"}
    names = [step.kernel.removeprefix("gtc::") for step in steps.launch]
    return {"kernel": " + ".join(names), "workspace_bytes": sum(buffer.size for buffer in buffers)}


def warm_up(plan: Plan, formulation: str = "gather") -> None:
    """Compile what a call of `plan` will launch: "gather", "scatter_atomic" or "scatter_tiles"."""
    device = _current_device()
    steps = _STEPS[formulation](plan, device_facts(device))
    warmup(steps.pack + steps.launch, device)


@lru_cache(maxsize=16)
def device_facts(device: int) -> DeviceFacts:
    """Ask the driver what the choice of kernels depends on."""
    import cupy

    attributes = cupy.cuda.Device(device).attributes
    capability = attributes["ComputeCapabilityMajor"], attributes["ComputeCapabilityMinor"]
    return DeviceFacts(capability, attributes["MultiProcessorCount"], most_shared(device))


def _current_device() -> int:
    import cupy

    device: int = cupy.cuda.runtime.getDevice()
    return device


@lru_cache(maxsize=1024)
def _calls(formulation: str, plan: Plan, device: int) -> Calls:
    steps = _STEPS[formulation](plan, device_facts(device))
    buffers = {a for step in (*steps.pack, *steps.launch) for a in step.arguments if isinstance(a, Buffer) and a.size}
    scratch = tuple(buffer for buffer in buffers if buffer.name != "packed")
    packed = next((buffer for buffer in buffers if buffer.name == "packed"), None)
    pack, launch = (tuple(_call(step, device) for step in part) for part in (steps.pack, steps.launch))
    return Calls(steps.layout, pack, launch, scratch, packed)


def _call(step: Step, device: int) -> Call:
    kernel = compiled(step.source, step.kernel, device)
    return Call(kernel, step.grid, step.block, step.shared, tuple(_value(a) for a in step.arguments))


def _value(argument: Any) -> Any:
    if isinstance(argument, Buffer):
        return argument.name
    if isinstance(argument, Bytes):  # an array of NumPy is passed by value, as a struct
        return np.frombuffer(argument.value, np.dtype((np.void, len(argument.value)))).copy()
    return np.uint64(0) if argument.type == "pointer" else np.dtype(argument.type).type(argument.value)


def _pack(formulation: str, plan: Plan, weight: Any) -> Packed:
    packed = Packed()
    _packed(packed, _calls(formulation, plan, _current_device()), weight)
    return packed


def _packed(packed: Packed, calls: Calls, weight: Any) -> Any:
    """Return the weights as `calls` reads them, or None where it reads them as they are."""
    buffer = calls.packed
    if buffer is None:
        return None

    def pack() -> Any:
        made = _zeroed(empty((buffer.size,), "uint8") if packed.shared else scratch((buffer.size,), "uint8"))
        _run(calls.pack, {"weight": weight, "packed": made})
        return made

    return packed.get(calls.layout, pack)


def _launch(formulation: str, plan: Plan, arrays: dict[str, Any], packed: Packed) -> None:
    if held and not is_capturing():
        held.sweep()
    calls = _calls(formulation, plan, _current_device())
    arrays["packed"] = _packed(packed, calls, arrays["weight"])
    arrays |= {buffer.name: _scratch(buffer, packed) for buffer in calls.scratch}
    _run(calls.launch, arrays)
    packed.used()


def _scratch(buffer: Buffer, packed: Packed) -> Any:
    """Allocate scratch memory; what a CUDA graph will write to has the life of the layer that it reads."""
    if packed.shared and not has_allocator() and is_capturing():
        made = empty((buffer.size,), "uint8")
        packed.keep(made)
    else:
        made = scratch((buffer.size,), "uint8")
    return _zeroed(made) if buffer.zeroed else made


def _zeroed(made: Any) -> Any:
    made.data.memset_async(0, made.size)
    return made


def _run(calls: Iterable[Call], arrays: dict[str, Any]) -> None:
    for call in calls:
        arguments = tuple(arrays[a] if isinstance(a, str) else a for a in call.arguments)
        call.kernel(call.grid, call.block, arguments, shared_mem=call.shared)
