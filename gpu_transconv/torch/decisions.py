"""Shapes and strides of tensors as plans of the package and choices of a kernel; the memory format as torch has it.

Sizes of results come from the plan; here is no arithmetic on indices.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch

from ..dispatch.select import Choice, select
from ..problem.arguments import Ints, Params, without_result
from ..problem.gradients import plan_input_grad, plan_weight_grad
from ..problem.plan import ArraySpec, Operation, Plan, plan_call
from ..settings import Settings
from .geometry import Spec, torch_errors

#: Plans of shapes that are kept; twice as many as the package's own functions keep, for the gradients.
_MOST = 2048
#: torch computes these alone with channels last over three spatial axes; all others it makes contiguous.
_LAST_IN_3D = (torch.float32, torch.bfloat16)
#: Shape, strides and dtype of a tensor, which is how the functions below are asked about one.
Layout: TypeAlias = tuple[Ints, Ints, torch.dtype]


class Decision(NamedTuple):
    """What runs for tensors of some layout: the plan, the kernel and why, and the order of axes that it is given.

    `first` and `second` take the axes of the two tensors to what the kernel reads, `back` those of its result to
    (N, C, *spatial); None where that is the same. `packs` is one object for all calls whose packed weights are the
    same but for their values, or None where none are kept.
    """

    plan: Plan
    choice: Choice
    first: Ints | None
    second: Ints | None
    back: Ints | None
    packs: object | None


@lru_cache(maxsize=_MOST)
def decide(
    _epoch: int, spec: Spec, operation: Operation, device: str, sizes: Ints | None, first: Layout, second: Layout,
    bias: tuple[Ints, torch.dtype] | None = None,
) -> Decision:  # fmt: skip
    """Plan an operation, and choose its kernel.

    Parameters
    ----------
    spec : Spec
        Arguments of the layer.
    operation : str
        What is asked.
    device : {"cpu", "cuda"}
        Where the tensors are.
    sizes : tuple of int, optional
        Spatial sizes of the result; for the forward operation they may be left to `spec`.
    first, second : Layout
        Of x and weight, of grad_output and weight, or of x and grad_output.
    bias : tuple of shape and dtype, optional
        Of the forward operation.

    Raises
    ------
    RuntimeError
        If shapes or dtypes do not fit; torch raises the same.
    """
    _check_dtype(first[2])
    last = runs_last(spec, operation, device, first, second)
    params = replace(spec.params, data_format="channels_last" if last else "channels_first")
    order = (0, *range(2, params.ndim + 2), 1) if last else None
    specs = [_array(first, order), _array(second, order if operation == "weight_grad" else None)]
    with torch_errors():
        plan = _plan(operation, params, spec.settings, specs, bias, sizes)
    choice = select(plan, spec.settings, device)
    if operation == "weight_grad":
        return Decision(plan, choice, order, order, None, None)
    back = order and (0, params.ndim + 1, *range(1, params.ndim + 1))
    kernel = choice.implementation
    packs = None
    if kernel.memory is None and not first[2].is_complex:
        packs = _packs(kernel, kernel.weight_key(plan), params, second, bias)
    return Decision(plan, choice, order, None, back, packs)


@lru_cache(maxsize=_MOST)
def _packs(*key: object) -> object:  # noqa: ARG001
    return object()


def _plan(
    operation: Operation, params: Params, settings: Settings, specs: list[ArraySpec],
    bias: tuple[Ints, torch.dtype] | None, sizes: Ints | None,
) -> Plan:  # fmt: skip
    first, second = specs
    if operation == "forward":
        if sizes is not None:
            params = replace(params, output_padding=(0,) * params.ndim, output_size=sizes)
        biases = None if bias is None else ArraySpec(bias[0], dtype_of(bias[1]))
        return plan_call(params, first, second, biases, settings.precision)
    params = without_result(params)
    if operation == "input_grad":
        return plan_input_grad(params, first, second, sizes, settings.precision)
    assert sizes is not None
    return plan_weight_grad(params, first, second, sizes, settings.precision)


def _array(layout: Layout, order: Ints | None) -> ArraySpec:
    """What a plan knows of a tensor; `order` applies where it has as many axes, else the plan says what is wrong."""
    shape = tuple(layout[0])
    if order is not None and len(shape) == len(order):
        shape = tuple(shape[axis] for axis in order)
    return ArraySpec(shape, dtype_of(layout[2]))


@lru_cache(maxsize=64)
def dtype_of(dtype: torch.dtype) -> str:
    """Name of a dtype."""
    return str(dtype).removeprefix("torch.")


def _check_dtype(dtype: torch.dtype) -> None:
    """Raise `NotImplementedError`, as torch does, for integers that it has no transposed convolution for."""
    if not dtype.is_floating_point and not dtype.is_complex and dtype is not torch.int64:
        raise NotImplementedError(
            f"input must have a floating or complex dtype, or int64, got {dtype_of(dtype)}; cast it first: "
            "input.float()"
        )


def runs_last(spec: Spec, operation: Operation, device: str, first: Layout, second: Layout) -> bool:
    """Whether an operation is computed with channels last: as torch, where one of its tensors is so."""
    ndim, dtype = spec.params.ndim, first[2]
    if spec.params.data_format == "channels_last":
        return True
    if ndim == 1:
        return False
    if device == "cuda":
        if dtype is torch.float64:
            return False
    elif ndim == 3 and (dtype not in _LAST_IN_3D or (operation == "forward" and _is_small(spec, first, second))):
        return False
    return has_channels_last(first) or has_channels_last(second)


def _is_small(spec: Spec, x: Layout, weight: Layout) -> bool:
    """Whether torch computes a float32 layer over three axes by its plain loops, whose results are contiguous.

    The rule and its number are those of ``use_mkldnn`` in torch's convolutions, as of version 2.13.
    """
    kernel = weight[0]
    if x[2] is not torch.float32 or spec.params.groups > 1 or (kernel[-1] > 3 and kernel[-2] > 3) or len(x[0]) != 5:
        return False
    batch, channels, depth, height, _ = x[0]
    return batch <= 1 and batch * channels * depth * height <= 20480


def has_channels_last(layout: Layout) -> bool:
    """Whether torch reads a tensor's strides as those of channels last.

    From the innermost to the outermost (channels, spatial axes from the last, batch) none may be shorter than what is
    inside of it takes. Where all is one long, it is taken for contiguous.
    """
    shape, strides, _ = layout
    if len(shape) not in (4, 5):
        return False
    least = 0
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[axis] == 0 or strides[axis] < least:
            return False
        if axis == 0 and least == strides[1]:
            return False
        least = strides[axis] * max(shape[axis], 1)
    return True
