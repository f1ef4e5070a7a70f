"""Give the steps of a plan to CuPy: its current stream, its memory pool, no synchronisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from ...problem.plan import Plan
from ..kernel import Description, Formulation, Kernel
from . import memory
from .compile import compiled, most_shared, warmup
from .geometry import stamp_view
from .memory import empty, has_allocator, held, is_capturing, scratch
from .ownership import own
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


def refusal(plan: Plan) -> str | None:
    """Tell why the current device cannot compute a plan, or None."""
    capability = device_facts(_current_device()).capability
    if plan.precision == "tf32" and capability < (8, 0):
        found = ".".join(map(str, capability))
        return f"TF32 needs compute capability 8.0, this device has {found}; precision='highest' works here"
    return None


def _gather_work(plan: Plan) -> float:
    facts = device_facts(_current_device())
    chosen = choose(plan, facts)
    return chosen.effort * (slower(plan, facts) if isinstance(chosen, Direct) else 1) / _useful(plan)


def _atomic_work(plan: Plan) -> float:
    facts = device_facts(_current_device())
    return min(fit(stamp_view(plan), shape, facts).effort for shape in shapes_for(plan, facts)) / _useful(plan)


def _tiles_work(plan: Plan) -> float:
    return own(plan, device_facts(_current_device())).effort / _useful(plan)


def _useful(plan: Plan) -> float:
    """Multiply-adds of the definition."""
    return max(plan.flops / 2, 1.0)


def _describe(formulation: str, plan: Plan) -> Description:
    """Name the kernels that run, and their scratch memory."""
    steps = _STEPS[formulation](plan, device_facts(_current_device()))
    buffers = {a for step in steps.launch for a in step.arguments if isinstance(a, Buffer) and a.name != "packed"}
    names = [step.kernel.removeprefix("gtc::") for step in steps.launch]
    return Description(" + ".join(names), sum(buffer.size for buffer in buffers))


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


def _pack(formulation: str, plan: Plan, weight: Any, bias: Any) -> Packed:  # noqa: ARG001
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


def _launch(formulation: str, plan: Plan, x: Any, weight: Any, bias: Any, out: Any, packed: Packed) -> None:
    arrays = {"x": x, "weight": weight, "bias": bias, "out": out}
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


def _kernel(formulation: Formulation, work: Callable[[Plan], float], variant: str = "") -> Kernel:
    steps = f"{formulation}_{variant}" if variant else formulation
    return Kernel(
        "cupy", formulation, partial(_launch, steps), variant, pack=partial(_pack, steps), refusal=refusal,
        work_ratio=work, describe=partial(_describe, steps), memory=memory, deterministic=variant != "atomic",
    )  # fmt: skip


KERNELS = (
    _kernel("gather", _gather_work),
    _kernel("scatter", _atomic_work, "atomic"),
    _kernel("scatter", _tiles_work, "tiles"),
)
