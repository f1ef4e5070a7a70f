"""What a kernel of the CPU is: a value with all that the choice, the launcher and explanations ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...problem.plan import Plan
from .partition import HasPartition
from .runtime.compiled import CompiledKernel
from .weight_order import Packer, WeightOrder


def _one(plan: Plan) -> int:
    return 1


def _never(plan: Plan) -> bool:
    return False


def _no_axes(plan: Plan) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True, eq=False)
class Tiles:
    """What a kernel with tiles has besides: its compiled function, and the Python that runs before it.

    Attributes
    ----------
    function : compiled kernel
    pack : callable
        Brings weights and bias into the kernel's order.
    cut : callable ``(plan, order, threads)``
        What the function unpacks; its partition says on how many threads and with how much scratch memory.
    lanes : callable ``(plan) -> int``
        The rows of a set of weights are padded to a multiple of it.
    paired : callable ``(plan) -> tuple of int``
        Axes on which blocks are computed in pairs.
    coupled : callable ``(plan) -> bool``
        Whether input channels are multiplied two at a time, as `kernels.cpu.tiles.gemm_tile` can bfloat16.
    """

    function: CompiledKernel
    pack: Packer
    cut: Callable[[Plan, WeightOrder, int], HasPartition]
    lanes: Callable[[Plan], int] = _one
    paired: Callable[[Plan], tuple[int, ...]] = _no_axes
    coupled: Callable[[Plan], bool] = _never


@dataclass(frozen=True, eq=False)
class CpuKernel:
    """One kernel of a formulation.

    Attributes
    ----------
    name, words : str
        In explanations.
    takes : callable ``(plan) -> bool``
        Whether it computes a plan that no kernel before it takes.
    cost : callable ``(plan) -> float``
        Vector operations per block of outputs, in the unit of `gpu_transconv.kernels.cpu.costs.cost`.
    tiles : Tiles or None
        None where it needs no packed weights and computes element by element.
    """

    name: str
    words: str
    takes: Callable[[Plan], bool]
    cost: Callable[[Plan], float]
    tiles: Tiles | None = None
