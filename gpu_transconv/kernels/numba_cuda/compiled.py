"""What there is to compile: every kernel with its parameters, built for a set of facts and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from .cuda import compile_kernel
from .direct import make_direct
from .elementwise import make_fill, make_finish, make_pack
from .facts import Facts
from .gather import make_tiled
from .memory import refuse_capture
from .owned import make_tiles
from .scatter import make_atomic


class Kernel(NamedTuple):
    """A kernel's builder, and its parameters: E stands for the arrays' dtype, S for that of the sums."""

    make: Callable[[Facts], Any]
    parameters: tuple[str, ...]


_FUSED = ("E[]", "E[]", "E[]", "float64", "E[]")  # x, weight, bias, slope, out
KERNELS = {
    "gather_tiled": Kernel(make_tiled, _FUSED),
    "gather_direct": Kernel(make_direct, _FUSED),
    "scatter_tiles": Kernel(make_tiles, _FUSED),
    "scatter_atomic": Kernel(make_atomic, ("E[]", "E[]", "S[]")),  # x, weight, sums
    "pack_weight": Kernel(make_pack, ("E[]", "E[]")),  # weight, packed
    "scatter_fill": Kernel(make_fill, ("E[]", "S[]")),  # bias, sums
    "scatter_finish": Kernel(make_finish, ("S[]", "float64", "E[]")),  # sums, slope, out
}


def parameters(name: str, facts: Facts) -> list[str]:
    """Types of a kernel's parameters; the last one is always the geometry."""
    types = {"E[]": f"{facts.dtype}[]", "S[]": f"{facts.accumulate}[]"}
    return [types.get(word, word) for word in KERNELS[name].parameters] + [f"{facts.index}[]"]


def kernel_name(name: str, facts: Facts) -> str:
    """Return the name by which profilers and explanations know a compiled kernel."""
    words = (name, facts.dtype, facts.index, facts.tile, facts.activation, "last" if facts.channels_last else None)
    return "_".join(str(word) for word in words if word is not None)


@lru_cache(maxsize=512)
def compiled(name: str, facts: Facts, device: int) -> Any:  # noqa: ARG001
    """Compile a kernel for the current device, whose number makes it another one."""
    refuse_capture(f"the kernel {name} has not been compiled yet")
    return compile_kernel(KERNELS[name].make(facts), parameters(name, facts), kernel_name(name, facts))
