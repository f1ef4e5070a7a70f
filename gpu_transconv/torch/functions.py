"""Gradients of any order, forward and reverse, and batches of calls.

The operator and its two gradients are three maps, each linear in both of its tensors, and the derivatives of each are
the other two. So the three call each other, by the one way that decides where a call goes (`Map.__call__`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..problem.arguments import Ints
from ..problem.plan import Operation
from . import ops
from .batches import call_batch
from .decisions import Decision
from .geometry import Spec
from .kernels import decision_for, run, run_on_cpu
from .ready import Ready
from .views import is_plain, observed, transformed

#: The gradient by one of a map's tensors: (gradient by its result, first, second, spec) to that.
_By: TypeAlias = Callable[[Tensor, Tensor, Tensor, Spec], Tensor]


class Map:
    """One of the three maps, as a function ``(first, second, bias, spec, sizes)`` that can be differentiated.

    Parameters
    ----------
    name : str
        What torch calls its step in a graph.
    operation : str
        What the package calls it.
    operator : callable
        The operator of ``torch.ops`` with the same arguments.
    axes : tuple of int
        Where groups of channels are (`batches.call_batch`).
    by_first, by_second : callable
        The gradients by its tensors.
    """

    def __init__(
        self, name: str, operation: Operation, operator: Callable[..., Tensor], axes: tuple[int, int, int],
        by_first: _By, by_second: _By,
    ) -> None:  # fmt: skip
        self.operation, self.operator = operation, operator
        self.axes, self.by_first, self.by_second = axes, by_first, by_second
        functions = {"forward": staticmethod(self._forward), "backward": staticmethod(self._backward)}
        recorded: Any = type(name, (torch.autograd.Function,), functions)
        #: Without what `torch.autograd.Function.apply` does in Python for transforms, which takes twenty microseconds.
        self.record: Callable[..., Any] = super(torch.autograd.Function, recorded).apply  # type: ignore[misc]
        functions = {
            "forward": staticmethod(self.calculate), "setup_context": staticmethod(self._setup_context),
            "backward": staticmethod(self._backward), "jvp": staticmethod(self._jvp), "vmap": staticmethod(self._vmap),
        }  # fmt: skip
        transformable: Any = type(name, (torch.autograd.Function,), functions)
        self.transform: Callable[..., Any] = transformable.apply

    def __call__(
        self, first: Tensor, second: Tensor, bias: Tensor | None, spec: Spec, sizes: Ints | None = None
    ) -> Tensor:
        """Compute the map in the way that what is going on asks for."""
        if torch.compiler.is_compiling():
            return self.operator(first, second, bias, spec, sizes)
        if transformed():
            return self.transform(first, second, bias, spec, sizes)  # type: ignore[no-any-return]
        if observed() or not is_plain(first, second, bias):
            return self.operator(first, second, bias, spec, sizes)
        decision = decision_for(self.operation, first, second, bias, spec, sizes)
        if torch.is_grad_enabled() and (
            first.requires_grad or second.requires_grad or (bias is not None and bias.requires_grad)
        ):
            return self.record(first, second, bias, spec, decision)  # type: ignore[no-any-return]
        return run(decision, first, second, bias, self.operation == "input_grad" and second.requires_grad)

    def calculate(self, first: Tensor, second: Tensor, bias: Tensor | None, spec: Spec, sizes: Ints | None) -> Tensor:
        """Compute the map where all that differentiates it is done."""
        if observed() or not is_plain(first, second, bias):
            return self.operator(first, second, bias, spec, sizes)
        decision = decision_for(self.operation, first, second, bias, spec, sizes)
        return run(decision, first, second, bias, second.requires_grad)

    @staticmethod
    def _forward(
        ctx: Any, first: Tensor, second: Tensor, bias: Tensor | None, spec: Spec, decision: Decision | Ready
    ) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.spec = spec
        if isinstance(decision, Ready):
            return decision.run(first, second, bias, second.requires_grad)
        launch = run_on_cpu if first.is_cpu else run
        return launch(decision, first, second, bias, second.requires_grad)

    @staticmethod
    def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        first, second, _, ctx.spec, ctx.sizes = inputs
        ctx.shape = output.shape
        ctx.save_for_backward(first, second)
        ctx.save_for_forward(first, second)

    def _backward(self, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*self.gradients(ctx.saved_tensors, ctx.needs_input_grad, grad, ctx.spec), None, None)

    def gradients(
        self, saved: tuple[Tensor, Tensor], wanted: tuple[bool, ...], grad: Tensor, spec: Spec
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients by both tensors and the bias, those that are wanted."""
        first, second = saved
        return (
            self.by_first(grad, first, second.conj(), spec) if wanted[0] else None,
            self.by_second(grad, first.conj(), second, spec) if wanted[1] else None,
            grad.sum((0, *range(2, grad.dim()))) if wanted[2] else None,
        )

    def _jvp(
        self, ctx: Any, first_tangent: Tensor | None, second_tangent: Tensor | None, bias_tangent: Tensor | None,
        *_: None,
    ) -> Tensor:  # fmt: skip
        first, second = ctx.saved_tensors
        parts = []
        if first_tangent is not None:
            parts.append(self(first_tangent, second, None, ctx.spec, ctx.sizes))
        if second_tangent is not None:
            parts.append(self(first, second_tangent, None, ctx.spec, ctx.sizes))
        if bias_tangent is not None:
            parts.append(bias_tangent.reshape(-1, *[1] * (first.dim() - 2)))
        return sum(parts[1:], start=parts[0]).expand(ctx.shape)

    def _vmap(
        self, info: Any, in_dims: tuple[int | None, ...], first: Tensor, second: Tensor, bias: Tensor | None,
        spec: Spec, sizes: Ints | None,
    ) -> tuple[Tensor, int]:  # fmt: skip
        def call(one: Tensor, other: Tensor, grouped: Spec, sizes: Ints | None) -> Tensor:
            return self(one, other, None, grouped, sizes)

        if in_dims[0] is None and in_dims[1] is None:  # the bias alone
            result = call(first, second, spec, sizes)[None]
        else:
            dims = in_dims[0], in_dims[1]
            result = call_batch(call, self.axes, info.batch_size, dims, (first, second), spec, sizes)
        if bias is not None:
            rows = bias[None] if in_dims[2] is None else bias.movedim(in_dims[2], 0)
            result = result + rows.reshape(rows.shape[0], 1, -1, *[1] * (result.dim() - 3))
        return result, 0


#: The operator: of x, weight and bias.
FORWARD: Map = Map(
    "ConvTranspose", "forward", ops.forward, (1, 0, 1),
    lambda grad, x, weight, spec: INPUT_GRAD(grad, weight, None, spec, x.shape[2:]),
    lambda grad, x, weight, spec: WEIGHT_GRAD(x, grad, None, spec, weight.shape[2:]),
)  # fmt: skip
#: Its gradient by x: of the gradient by its result, and weight.
INPUT_GRAD: Map = Map(
    "ConvTransposeInputGrad", "input_grad", ops.input_grad, (1, 0, 1),
    lambda grad, output_grad, weight, spec: FORWARD(grad, weight, None, spec, output_grad.shape[2:]),
    lambda grad, output_grad, weight, spec: WEIGHT_GRAD(grad, output_grad, None, spec, weight.shape[2:]),
)  # fmt: skip
#: Its gradient by the weight: of x, and the gradient by its result.
WEIGHT_GRAD: Map = Map(
    "ConvTransposeWeightGrad", "weight_grad", ops.weight_grad, (1, 1, 0),
    lambda grad, x, output_grad, spec: INPUT_GRAD(output_grad, grad, None, spec, x.shape[2:]),
    lambda grad, x, output_grad, spec: FORWARD(x, grad, None, spec, output_grad.shape[2:]),
)  # fmt: skip


def _register_autograd(name: str, mapping: Map, tensors: int) -> None:
    """Give an operator its gradients, for graphs that a compiler differentiates; `tensors` counts its tensors."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
        ctx.spec, ctx.rest = ops.spec_from(inputs[0], *inputs[tensors + 1 :]), len(inputs) - tensors
        ctx.save_for_backward(*inputs[:2])

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted = (*ctx.needs_input_grad[:tensors], False)
        found = mapping.gradients(ctx.saved_tensors, wanted, grad, ctx.spec)
        return (*found[:tensors], *[None] * ctx.rest)

    torch.library.register_autograd(f"gpu_transconv::{name}", backward, setup_context=setup_context, lib=ops.LIBRARY)


_register_autograd("conv_transpose", FORWARD, 3)
_register_autograd("conv_transpose_input_grad", INPUT_GRAD, 2)
_register_autograd("conv_transpose_weight_grad", WEIGHT_GRAD, 2)
