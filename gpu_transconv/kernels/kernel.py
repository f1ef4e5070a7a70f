"""What a kernel is, and what a backend is: frozen values, so that the type checker sees the whole contract.

Every backend has the same two formulations of every operation, as `Kernel` values in the order in which they are
asked. The dispatcher, the launcher and explanations read these values and know no backend by name.

The arrays that `pack` and `launch` get are contiguous, in native byte order, share ``plan.dtype`` and do not overlap
`out`; the shapes are those of the plan (x and out without the batch axis where ``plan.unbatched``). The batch may be
empty on the CPU, and is not on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from ..arrays.memory import Memory
from ..problem.plan import Operation, Plan

#: A kernel with all but x and the result, both flat: true where these want `launch` instead.
Bound: TypeAlias = Callable[[Any, Any], int]
#: Which index the outer loop owns: the output's, which collects, or the input's, which stamps.
Formulation: TypeAlias = Literal["gather", "scatter"]
#: An array where the kernel runs: NumPy's, or of the library of a GPU backend.
Operand: TypeAlias = Any


class Step(NamedTuple):
    """One step of compiling ahead: a kernel for a dtype, and what compiles it or reads it from its file."""

    kernel: str
    dtype: str
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Description:
    """What a kernel tells of itself for one plan, for explanations.

    Attributes
    ----------
    kernel : str
        Which compiled function runs, in words.
    workspace_bytes : int or None
        Scratch memory of a call; None where the backend does not know.
    saved : float
        Share of the definition's multiplications that it does without.
    """

    kernel: str = ""
    workspace_bytes: int | None = None
    saved: float = 0.0


def never(plan: Plan) -> None:
    """Refuse no plan; or tell apart no plans, where the weights are prepared in one way for all."""


def as_it_is(plan: Plan, weight: Operand, bias: Operand | None) -> None:
    """Prepare nothing: the kernel reads the weights as they are."""


def unbound(plan: Plan, packed: object) -> None:
    """Bind nothing."""


def once(plan: Plan) -> float:  # noqa: ARG001
    """Count the useful operations once."""
    return 1.0


def free(plan: Plan) -> float:  # noqa: ARG001
    """Count no operations."""
    return 0.0


def undescribed(plan: Plan) -> Description:  # noqa: ARG001
    """Tell nothing."""
    return Description()


@dataclass(frozen=True, eq=False)
class Kernel:
    """One way to compute an operation on one backend.

    Attributes
    ----------
    backend, formulation, variant, operation : str
        Its place among the others; a backend with several kernels of one formulation tells them apart by `variant`.
    launch : callable ``(plan, x, weight, bias, out, packed)``
        Fills `out` with what `pack` returned; on a GPU it enqueues on the current stream and does not synchronise. For
        the gradients the arrays are ``(grad_output, weight, None, grad_input)`` and ``(x, grad_output, None,
        grad_weight)``.
    pack : callable ``(plan, weight, bias) -> packed``
        Prepares the weights, once for all plans with the same `weight_key`.
    weight_key : callable ``(plan) -> hashable``
        All that the prepared weights depend on besides their values; plans with equal keys share them.
    bind : callable ``(plan, packed) -> Bound or None``
        The same as `launch` in short, for those who call a problem often; None where it would not be faster.
    run_once : callable ``(plan, x, weight, bias, out) -> int``, optional
        `pack` and `launch` in short, for weights that are packed in every call, with x and out flat: true where these
        want the long way.
    refusal : callable ``(plan) -> str or None``
        Why it cannot run a plan here, or None where it can.
    work_ratio : callable ``(plan) -> float``
        How many times the useful operations' time at the peak the kernel takes, padding, the ends of tiles and, on a
        GPU, idle multiprocessors included; the cost model multiplies them. The formulation with the smaller one is the
        backend's own preference.
    pack_ratio : callable ``(plan) -> float``
        How many times as long as the useful operations it takes to prepare the weights, where that is done in a call.
    describe : callable ``(plan) -> Description``
    memory : Memory, optional
        Brings arrays to the backend's device; None where that is host memory.
    deterministic : bool
        Whether results are the same to the last bit on every run.
    fixed_order : bool
        Whether it does what `Plan.fixed_order` asks for; such plans are refused for it where it does not.
    """

    backend: str
    formulation: Formulation
    launch: Callable[[Plan, Operand, Operand, Operand | None, Operand, Any], None]
    variant: str = ""
    operation: Operation = "forward"
    pack: Callable[[Plan, Operand, Operand | None], Any] = as_it_is
    weight_key: Callable[[Plan], Hashable] = never
    bind: Callable[[Plan, Any], Bound | None] = unbound
    run_once: Callable[[Plan, Operand, Operand, Operand | None, Operand], int] | None = None
    refusal: Callable[[Plan], str | None] = never
    work_ratio: Callable[[Plan], float] = once
    pack_ratio: Callable[[Plan], float] = free
    describe: Callable[[Plan], Description] = undescribed
    memory: Memory | None = None
    deterministic: bool = True
    fixed_order: bool = False

    @property
    def name(self) -> str:
        """Name in messages, logs and explanations: backend[/operation]/formulation[/variant]; forward is not named."""
        operation = "" if self.operation == "forward" else self.operation
        return "/".join(filter(None, (self.backend, operation, self.formulation, self.variant)))

    def __repr__(self) -> str:
        return f"<Kernel {self.name}>"


@dataclass(frozen=True)
class Backend:
    """A folder of `gpu_transconv.kernels`: its ``__init__.py`` has one as ``BACKEND``, and imports no kernel for it.

    Attributes
    ----------
    name : str
        As callers write it.
    device : {"cpu", "cuda"}
        Where its arrays live.
    dtypes : tuple of str
        The dtypes that it takes.
    status : callable ``() -> str or None``
        None where it can run here, else why not and what to install. Never raises.
    kernels : callable ``() -> tuple of Kernel``
        Imports the kernels. Those of one formulation are tried in this order; those that are not deterministic only
        where the caller named the formulation or allowed that.
    memory : callable ``() -> Memory``, optional
        Imports what moves arrays to the device; None where that is the host.
    """

    name: str
    device: Literal["cpu", "cuda"]
    dtypes: tuple[str, ...]
    status: Callable[[], str | None]
    kernels: Callable[[], tuple[Kernel, ...]]
    memory: Callable[[], Memory] | None = None
