"""Tensors to a kernel and back: viewed without a copy, on the caller's threads or stream, in their own memory format."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arrays import NUMPY, Operands, check_device
from ..arrays.torch import TORCH
from ..dispatch.select import epoch, note
from ..kernels.cpu.runtime.threads import follow_threads
from ..problem.arguments import Ints
from ..run import launch
from .geometry import Decision, Layout, Spec, decide, torch_errors
from .packed import packed
from .views import array_of, tensor_of


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, spec: Spec, sizes: Ints | None, recording: bool) -> Tensor:
    """Compute the operator; `sizes` are the spatial sizes of the result where they are known.

    `recording` says that a gradient by the weight is wanted.
    """
    device = "cpu" if x.is_cpu else "cuda"
    biases = None if bias is None else (bias.shape, bias.dtype)
    decision = decide(epoch(), spec, "forward", device, sizes, layout(x), layout(weight), biases)
    return _run(decision, x, weight, bias, recording)


def input_grad(grad: Tensor, weight: Tensor, _: None, spec: Spec, sizes: Ints, recording: bool) -> Tensor:
    """Compute the gradient by x, of spatial sizes `sizes`."""
    device = "cpu" if grad.is_cpu else "cuda"
    decision = decide(epoch(), spec, "input_grad", device, sizes, layout(grad), layout(weight))
    return _run(decision, grad, weight, None, recording)


def weight_grad(grad: Tensor, x: Tensor, _: None, spec: Spec, sizes: Ints, recording: bool) -> Tensor:
    """Compute the gradient by the weight, whose filters have the sizes `sizes`."""
    device = "cpu" if grad.is_cpu else "cuda"
    decision = decide(epoch(), spec, "weight_grad", device, sizes, layout(grad), layout(x))
    return _run(decision, x, grad, None, recording)


def layout(tensor: Tensor) -> Layout:
    """Shape, strides and dtype of a tensor."""
    return tensor.shape, tensor.stride(), tensor.dtype


def _run(decision: Decision, first: Tensor, second: Tensor, bias: Tensor | None, recording: bool) -> Tensor:
    """Launch a kernel on x and weight, on grad_output and weight, or on x and grad_output."""
    if not (first.is_cpu and second.is_cpu and (bias is None or bias.is_cpu)):
        return _run_elsewhere(decision, first, second, bias)
    follow_threads(torch.get_num_threads())
    plan, choice, order, other, back, packs = decision
    view = array_of(first) if order is None else array_of(first).transpose(order)
    weights = None if packs is None else packed(packs, decision, second, bias, recording)
    if weights is None:
        array = array_of(second) if other is None else array_of(second).transpose(other)
        operands = Operands(NUMPY, view, view, array, None if bias is None else array_of(bias))
    else:
        operands = Operands(NUMPY, view, view, weights.weight, weights.bias)
    result = launch(choice.implementation, plan, operands, None, weights)
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
