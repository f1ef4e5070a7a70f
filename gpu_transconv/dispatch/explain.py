"""What would run for a problem, why, what else could, and what it should take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..arrays import Array
from ..arrays.outputs import check_memory
from ..arrays.specs import read_specs
from ..kernels.kernel import Description
from ..kernels.registry import backend as backend_of
from ..problem.arguments import Activation, IntOrInts, Padding, make_params
from ..problem.gradients import as_operation
from ..problem.plan import Operation, Plan, plan_call
from ..problem.shapes import spatial_axes
from ..settings import AUTO, HIGHEST, Settings, resolve
from .limits import device_limits
from .select import Candidate, candidates, milliseconds, select, select_backends


class RunnerUp(NamedTuple):
    """An implementation that was not chosen; `refusal` says why where it cannot run the problem."""

    name: str
    predicted_seconds: float
    tuned_seconds: float | None
    refusal: str | None


@dataclass(frozen=True)
class Explanation:
    """The implementation that would run a problem, and what it amounts to.

    Attributes
    ----------
    backend, formulation : str
        The implementation's place in the table.
    kernel : str
        Its full name, which of its kernels runs where it has several, and how many multiplications of the definition
        that kernel does without.
    output_shape : tuple of int
    phases : int
        Interleaved correlations, those without taps included.
    flops, bytes : int
        Useful operations; compulsory traffic: every array once.
    workspace_bytes : int or None
        Scratch memory; None where the backend does not tell.
    arithmetic_intensity : float
        Operations per byte.
    reason : str
        Why this one.
    deterministic : bool
        Whether the result is the same to the last bit on every run.
    predicted_seconds, tuned_seconds : float, float or None
        By the cost model; by tuning, if it was tuned.
    roofline_seconds, bound : float, str
        Least time by the machine's figures, and whether "compute" or "memory" sets it.
    roofline_fraction : float or None
        `roofline_seconds` over the time expected: the tuned one, else the predicted one. Above 1 where the kernel does
        without multiplications that the definition has. None where the machine's figures were not measured.
    measured_machine : bool
        Whether the machine's figures were measured here, or are those shipped.
    runners_up : tuple of RunnerUp
        The backend's other implementations, the fastest first.
    """

    backend: str
    formulation: str
    kernel: str
    output_shape: tuple[int, ...]
    phases: int
    flops: int
    bytes: int
    workspace_bytes: int | None
    arithmetic_intensity: float
    reason: str
    deterministic: bool
    predicted_seconds: float
    tuned_seconds: float | None
    roofline_seconds: float
    bound: str
    roofline_fraction: float | None
    measured_machine: bool
    runners_up: tuple[RunnerUp, ...]
    plan: Plan = field(repr=False)

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values as they are printed.

        Returns
        -------
        list of (str, str)
            One pair per line.
        """
        scratch = "unknown" if self.workspace_bytes is None else f"{self.workspace_bytes:,} bytes"
        rows = [
            ("output", f"{_times(self.output_shape)} {self.plan.dtype}, summed in {self.plan.accumulate}"),
            ("kernel", self.kernel),
            ("because", self.reason),
            ("result", "bitwise repeatable" if self.deterministic else "may change in the last bit from run to run"),
            ("flops", f"{self.flops:,}"),
            ("bytes", f"{self.bytes:,}"),
            ("intensity", f"{self.arithmetic_intensity:.4g} flops per byte"),
            ("workspace", scratch),
            ("indices", f"{self.plan.index_bits} bits"),
            ("phases", f"{self.phases:,}"),
            ("time", _expected(self.predicted_seconds, self.tuned_seconds)),
            ("roofline", self._roofline()),
        ]
        return rows + [("instead", f"{r.name}: {_instead(r)}") for r in self.runners_up]

    def _roofline(self) -> str:
        limit = f"{milliseconds(self.roofline_seconds)} of {self.bound}"
        if self.roofline_fraction is None:
            return f"{limit} by shipped figures, which are no limit here: run gpu-transconv info --measure"
        fast = ", with fewer multiplications than the definition" if self.roofline_fraction > 1 else ""
        return f"{limit} by measured figures: {self.roofline_fraction:.0%} of it{fast}"

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def explain(
    x: Array | Sequence[int],
    weight: Array | Sequence[int],
    bias: Array | Sequence[int] | None = None,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    dtype: str = "float32",
    operation: Operation = "forward",
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
) -> Explanation:
    """Tell what a call would run and why, without running it.

    Parameters
    ----------
    x, weight, bias : array or sequence of int
        The arrays of the call, or their shapes.
    stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `conv_transpose`.
    dtype : str
        Dtype of arrays that are given as shapes.
    operation : {"forward", "input_grad", "weight_grad"}
        The operator itself, or its gradient by x or by the weight; x and weight are those of the operator.
    precision, deterministic, formulation, backend
        As in `conv_transpose`.

    Returns
    -------
    Explanation
        Prints as a table.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the call would.
    MemoryError
        If the weight is larger than the machine's memory, or another array than any.

    Examples
    --------
    >>> import gpu_transconv as gtc
    >>> found = gtc.explain((1, 64, 32, 32), (64, 32, 4, 4), stride=2, padding=1)
    >>> found.backend, found.output_shape, found.phases
    ('cpu', (1, 32, 64, 64), 4)
    """
    settings = resolve(backend, formulation, deterministic, precision)
    specs, device = read_specs({"x": x, "weight": weight, "bias": bias}, dtype)
    params = make_params(
        spatial_axes(specs["weight"].shape), stride=stride, padding=padding, output_padding=output_padding,
        output_size=output_size, dilation=dilation, groups=groups, data_format=data_format, activation=activation,
    )  # fmt: skip
    plan = plan_call(params, **specs, precision=settings.precision)
    check_memory("weight", specs["weight"].shape, plan.dtype)
    plan = as_operation(plan, operation)
    return explain_plan(plan, settings, device)


def explain_plan(plan: Plan, settings: Settings, device: str = "cpu") -> Explanation:
    """Tell the same of a plan on arrays of `device`, in a call that prepares the weights."""
    kernel, reason = select(plan, settings, device, packs=True)
    names, _ = select_backends(plan, settings.backend, device)
    found = [candidate for name in names for candidate in candidates(plan, name, packs=True)]
    chosen = next(candidate for candidate in found if candidate.kernel is kernel)
    description, limits = kernel.describe(plan), device_limits(backend_of(kernel.backend).device)
    seconds, bound = limits.roofline(plan)
    return Explanation(
        backend=kernel.backend,
        formulation=kernel.formulation,
        kernel=_in_words(kernel.name, description),
        output_shape=plan.output_shape,
        phases=plan.phase_count,
        flops=plan.flops,
        bytes=plan.bytes,
        workspace_bytes=description.workspace_bytes,
        arithmetic_intensity=plan.flops / plan.bytes if plan.bytes else 0.0,
        reason=reason,
        deterministic=kernel.deterministic,
        predicted_seconds=chosen.predicted,
        tuned_seconds=chosen.tuned,
        roofline_seconds=seconds,
        bound=bound,
        roofline_fraction=seconds / (chosen.tuned or chosen.predicted) if limits.measured else None,
        measured_machine=limits.measured,
        runners_up=tuple(_runner_up(candidate) for candidate in found if candidate.kernel is not kernel),
        plan=plan,
    )


def _in_words(name: str, description: Description) -> str:
    """Name, what the backend calls its kernel, and how much that saves."""
    words = [description.kernel] if description.kernel else []
    if description.saved:
        words.append(f"{description.saved:.0%} fewer multiplications than the definition")
    return f"{name}: {', '.join(words)}" if words else name


def _runner_up(candidate: Candidate) -> RunnerUp:
    return RunnerUp(candidate.kernel.name, candidate.predicted, candidate.tuned, candidate.refusal)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _expected(predicted: float, tuned: float | None) -> str:
    return f"{milliseconds(predicted)} predicted" + ("" if tuned is None else f", {milliseconds(tuned)} measured")


def _instead(runner_up: RunnerUp) -> str:
    return runner_up.refusal or _expected(runner_up.predicted_seconds, runner_up.tuned_seconds)
