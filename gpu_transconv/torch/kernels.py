"""Tensors to a kernel and back: without a copy, on the caller's threads or stream, in their own memory format."""

from __future__ import annotations

from torch import Tensor, get_num_threads

from ..arrays import NUMPY, Operands, check_device
from ..arrays.torch import TORCH
from ..dispatch.select import epoch, note
from ..kernels.cpu.runtime.threads import follow_threads
from ..problem.arguments import Ints
from ..problem.plan import Operation
from ..run import launch, launch_packed
from .decisions import Decision, decide
from .geometry import Spec, torch_errors
from .packed import packed
from .threads import OPENMP
from .views import array_of, tensor_of


def decision_for(
    operation: Operation, first: Tensor, second: Tensor, bias: Tensor | None, spec: Spec, sizes: Ints | None
) -> Decision:
    """Decide what runs for x and weight (and bias), for grad_output and weight, or for x and grad_output."""
    return decide(
        epoch(), spec, operation, "cpu" if first.is_cpu else "cuda", sizes,
        (first.shape, first.stride(), first.dtype), (second.shape, second.stride(), second.dtype),
        None if bias is None else (bias.shape, bias.dtype),
    )  # fmt: skip


def run(decision: Decision, first: Tensor, second: Tensor, bias: Tensor | None, recording: bool) -> Tensor:
    """Launch a kernel on the tensors of a decision; `recording` says that a gradient by the weight is wanted."""
    if not (first.is_cpu and second.is_cpu and (bias is None or bias.is_cpu)):
        return _run_elsewhere(decision, first, second, bias)
    return run_on_cpu(decision, first, second, bias, recording)


def run_on_cpu(decision: Decision, first: Tensor, second: Tensor, bias: Tensor | None, recording: bool) -> Tensor:
    """Launch a kernel on x and weight, on grad_output and weight, or on x and grad_output, all on the CPU."""
    follow_threads(get_num_threads(), OPENMP)
    plan, choice, order, other, back, packs = decision
    view = array_of(first)
    if order is not None:
        view = view.transpose(order)
    weights = None if packs is None else packed(packs, decision, second, bias, recording)
    if weights is not None:
        result = launch_packed(choice.implementation, plan, view, weights)
    else:
        array = array_of(second) if other is None else array_of(second).transpose(other)
        operands = Operands(NUMPY, view, view, array, None if bias is None else array_of(bias))
        result = launch(choice.implementation, plan, operands, None)
    note(choice, plan)
    return tensor_of(result if back is None else result.transpose(back), first.dtype)


def _run_elsewhere(decision: Decision, first: Tensor, second: Tensor, bias: Tensor | None) -> Tensor:
    """Launch on CUDA tensors, on torch's current stream, into memory of its allocator."""
    plan, choice, order, other, back, _ = decision
    tensor = first.detach() if order is None else first.detach().permute(order)
    array = second.detach() if other is None else second.detach().permute(other)
    with torch_errors():
        x, weight = TORCH.view("input", tensor), TORCH.view("weight", array)
        biases = None if bias is None else TORCH.view("bias", bias.detach())
        check_device("weight", weight, "input", x)
        check_device("bias", biases, "input", x)
    result: Tensor = launch(choice.implementation, plan, Operands(TORCH, tensor, x, weight, biases), None)
    note(choice, plan)
    return result if back is None else result.permute(back)
