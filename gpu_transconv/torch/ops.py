"""The operators of ``torch.ops.gpu_transconv``: what compilers and exporters see in place of the Python code.

They exist for compiled code, and for tensors that are not plain. Plain ones go to the kernels directly, since a call
by way of torch's dispatcher takes longer than a small layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from ..problem.gradients import reachable
from ..problem.plan import Operation
from ..settings import Settings
from . import kernels
from .casting import to_autocast_dtype
from .decisions import dtype_of, runs_last
from .geometry import Spec, flat_of, intern, params_of, settings_of

#: What every operator takes besides tensors and sizes (`geometry.Flat`).
_ARGUMENTS = (
    "int[] stride, int[] padding, int[] output_padding, int[] dilation, int groups, bool channels_last, "
    "str precision, bool? deterministic, str formulation, str backend"
)
_SCHEMES = {
    "conv_transpose": "Tensor input, Tensor weight, Tensor? bias, SymInt[]? output_size",
    "conv_transpose_input_grad": "Tensor grad_output, Tensor weight, SymInt[] input_size",
    "conv_transpose_weight_grad": "Tensor input, Tensor grad_output, SymInt[] kernel_size",
}
#: Kernels are given tensors with the strides that were traced; the operators work in any graph.
_TAGS = (torch.Tag.needs_exact_strides, torch.Tag.pt2_compliant_tag)
LIBRARY: Any = torch.library.Library("gpu_transconv", "DEF")  # type: ignore[no-untyped-call]


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, spec: Spec, sizes: Sequence[int] | None = None) -> Tensor:
    """Call the operator."""
    return cast(Tensor, torch.ops.gpu_transconv.conv_transpose(x, weight, bias, sizes, *flat_of(spec)))


def input_grad(grad: Tensor, weight: Tensor, _: None, spec: Spec, sizes: Sequence[int]) -> Tensor:
    """Call its gradient by x."""
    return cast(Tensor, torch.ops.gpu_transconv.conv_transpose_input_grad(grad, weight, sizes, *flat_of(spec)))


def weight_grad(x: Tensor, grad: Tensor, _: None, spec: Spec, sizes: Sequence[int]) -> Tensor:
    """Call its gradient by the weight."""
    return cast(Tensor, torch.ops.gpu_transconv.conv_transpose_weight_grad(x, grad, sizes, *flat_of(spec)))


def spec_from(tensor: Tensor, *flat: Any) -> Spec:
    """Read an operator's arguments as they are meant for a tensor."""
    stride, padding, output_padding, dilation, groups, last, precision, deterministic, formulation, backend = flat
    params = params_of(tuple(stride), tuple(padding), tuple(output_padding), tuple(dilation), groups, last)
    return intern(params, settings_of(tensor.is_cuda, precision, deterministic, formulation, backend))


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, sizes: Sequence[int] | None, *flat: Any) -> Tensor:
    output_size = None if sizes is None else tuple(sizes)
    decision = kernels.decision_for("forward", x, weight, bias, spec_from(x, *flat), output_size)
    return kernels.run(decision, x, weight, bias, weight.requires_grad)


def _input_grad(grad: Tensor, weight: Tensor, sizes: Sequence[int], *flat: Any) -> Tensor:
    decision = kernels.decision_for("input_grad", grad, weight, None, spec_from(grad, *flat), tuple(sizes))
    return kernels.run(decision, grad, weight, None, weight.requires_grad)


def _weight_grad(x: Tensor, grad: Tensor, sizes: Sequence[int], *flat: Any) -> Tensor:
    decision = kernels.decision_for("weight_grad", x, grad, None, spec_from(x, *flat), tuple(sizes))
    return kernels.run(decision, x, grad, None, True)


# --- what tensors without values give ---------------------------------------------------------------------


def _plain_spec(*flat: Any) -> Spec:
    """Read an operator's arguments where nothing will be computed."""
    stride, padding, output_padding, dilation, groups, last = flat[:6]
    return intern(
        params_of(tuple(stride), tuple(padding), tuple(output_padding), tuple(dilation), groups, last), Settings()
    )


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, sizes: Sequence[int] | None, *flat: Any) -> Tensor:
    spec = _plain_spec(*flat)
    params = spec.params
    _check_axes(spec, input=x, weight=weight)
    _check_same("input", x, weight=weight, bias=bias)
    _require(
        x.shape[1] == weight.shape[0],
        lambda: f"input must have as many channels as weight has rows, {weight.shape[0]}, got shape {tuple(x.shape)}",
    )
    channels = weight.shape[1] * params.groups
    if bias is not None:
        _require(
            bias.dim() == 1 and bias.shape[0] == channels,
            lambda: f"bias must have shape ({channels},), one value per output channel, got {tuple(bias.shape)}",
        )
    if sizes is None:
        sizes = [
            reachable(params, axis, x.shape[2 + axis], weight.shape[2 + axis])[0] + params.output_padding[axis]
            for axis in range(params.ndim)
        ]
    for axis, size in enumerate(sizes):
        _require(size >= 1, partial("padding leaves no output on spatial axis {}".format, axis))
    return _empty(spec, "forward", (x.shape[0], channels, *sizes), x, weight)


def _fake_input_grad(grad: Tensor, weight: Tensor, sizes: Sequence[int], *flat: Any) -> Tensor:
    spec = _plain_spec(*flat)
    _check_axes(spec, grad_output=grad, weight=weight)
    _check_same("grad_output", grad, weight=weight)
    return _empty(spec, "input_grad", (grad.shape[0], weight.shape[0], *sizes), grad, weight)


def _fake_weight_grad(x: Tensor, grad: Tensor, sizes: Sequence[int], *flat: Any) -> Tensor:
    spec = _plain_spec(*flat)
    _check_axes(spec, input=x, grad_output=grad)
    _check_same("input", x, grad_output=grad)
    return x.new_empty((x.shape[1], grad.shape[1] // spec.params.groups, *sizes))


def _require(condition: bool, message: Callable[[], str]) -> None:
    """Raise `RuntimeError` unless something holds, of symbolic sizes too."""
    torch._check(condition, message)  # type: ignore[no-untyped-call]


def _check_axes(spec: Spec, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        count = spec.params.ndim + 2
        if tensor.dim() != count:
            raise RuntimeError(f"{name} must have {count} axes, got shape {tuple(tensor.shape)}")


def _check_same(first: str, expected: Tensor, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype is not expected.dtype:
            raise RuntimeError(
                f"{name} must have {first}'s dtype {dtype_of(expected.dtype)}, got {dtype_of(tensor.dtype)}"
            )


def _empty(spec: Spec, operation: Operation, shape: tuple[int, ...], first: Tensor, second: Tensor) -> Tensor:
    """Return a tensor without values, with the strides that the kernels' results have."""
    layouts = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in (first, second)]
    if not runs_last(spec, operation, "cuda" if first.is_cuda else "cpu", *layouts):
        return first.new_empty(shape)
    moved = (shape[0], *shape[2:], shape[1])
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * moved[axis + 1]
    return first.new_empty_strided(shape, (strides[0], strides[-1], *strides[1:-1]))


# --- registration -----------------------------------------------------------------------------------------


def _autocast(device: str) -> Callable[..., Tensor]:
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def cast_and_call(x: Tensor, weight: Tensor, bias: Tensor | None, sizes: Any, *flat: Any) -> Tensor:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            tensors = to_autocast_dtype(device, x, weight, bias)
            return cast(Tensor, torch.ops.gpu_transconv.conv_transpose(*tensors, sizes, *flat))

    return cast_and_call


def _define() -> None:
    implementations: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
        "conv_transpose": (_forward, _fake_forward),
        "conv_transpose_input_grad": (_input_grad, _fake_input_grad),
        "conv_transpose_weight_grad": (_weight_grad, _fake_weight_grad),
    }
    for name, (real, fake) in implementations.items():
        LIBRARY.define(f"{name}({_SCHEMES[name]}, {_ARGUMENTS}) -> Tensor", tags=_TAGS)
        for device in ("CPU", "CUDA"):
            LIBRARY.impl(name, real, device)
        torch.library.register_fake(f"gpu_transconv::{name}", fake, lib=LIBRARY)
    for device in ("cpu", "cuda"):
        LIBRARY.impl("conv_transpose", _autocast(device), f"Autocast{device.upper()}")


_define()
