"""What there is to compile: every kernel with its parameters, built for a set of traits, and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from .cuda import Compiled, KernelFunction, compile_kernel
from .elementwise import make_add_parts, make_fill, make_finish, make_pack, make_pack_stamps
from .gather import make_gather
from .gather_direct import make_gather_direct
from .memory import refuse_capture
from .scatter import make_atomic
from .scatter_owned import make_owned
from .traits import Traits
from .weight_gather import make_weight_gather, make_weight_parts
from .weight_scatter import make_weight_atomic, make_weight_owned


class Kernel(NamedTuple):
    """A kernel's builder, and its parameters: E stands for the arrays' dtype, S for that of the sums."""

    make: Callable[[Traits], KernelFunction]
    parameters: tuple[str, ...]


_FUSED = ("E[]", "E[]", "E[]", "float64", "E[]")  # x or grad_output, weight, bias, slope, out
KERNELS = {
    "gather_tiled": Kernel(make_gather, _FUSED),
    "gather_direct": Kernel(make_gather_direct, _FUSED),
    "scatter_owned": Kernel(make_owned, _FUSED),
    "scatter_atomic": Kernel(make_atomic, ("E[]", "E[]", "S[]")),  # x or grad_output, weight, sums
    "weight_gather": Kernel(make_weight_gather, ("E[]", "E[]", "E[]")),  # x, grad_output, out
    "weight_parts": Kernel(make_weight_parts, ("E[]", "E[]", "S[]")),  # x, grad_output, sums
    "weight_owned": Kernel(make_weight_owned, ("E[]", "E[]", "S[]")),
    "weight_atomic": Kernel(make_weight_atomic, ("E[]", "E[]", "S[]")),
    "pack_weight": Kernel(make_pack, ("E[]", "E[]")),  # weight, packed
    "pack_stamps": Kernel(make_pack_stamps, ("E[]", "E[]")),
    "scatter_fill": Kernel(make_fill, ("E[]", "S[]")),  # bias, sums
    "add_parts": Kernel(make_add_parts, ("S[]", "E[]")),  # sums, out
    "scatter_finish": Kernel(make_finish, ("S[]", "float64", "E[]")),  # sums, slope, out
}


def parameters(name: str, traits: Traits) -> list[str]:
    """Types of a kernel's parameters; the last one is always the geometry."""
    types = {"E[]": f"{traits.dtype}[]", "S[]": f"{traits.accumulate}[]"}
    return [types.get(word, word) for word in KERNELS[name].parameters] + [f"{traits.index}[]"]


def kernel_name(name: str, traits: Traits) -> str:
    """Return the name by which profilers and explanations know a compiled kernel."""
    words = (name, traits.dtype, traits.index, traits.tile, traits.activation, "last" if traits.channels_last else None)
    return "_".join(str(word) for word in words if word is not None)


@lru_cache(maxsize=512)
def compiled(name: str, traits: Traits, device: int) -> Compiled:  # noqa: ARG001
    """Compile a kernel for the current device, whose number makes it another one."""
    refuse_capture(f"the kernel {name} has not been compiled yet")
    return compile_kernel(KERNELS[name].make(traits), parameters(name, traits), kernel_name(name, traits))
