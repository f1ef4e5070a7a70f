"""torch's arguments, and shapes and strides of tensors, as plans of the package; the memory format as torch has it.

Sizes of results come from the plan; here is no arithmetic on indices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch

from ..dispatch.select import Choice, select
from ..problem.arguments import Activation, IntOrInts, Ints, Padding, Params, as_ints, make_params, without_result
from ..problem.gradients import plan_input_grad, plan_weight_grad
from ..problem.plan import ArraySpec, Operation, Plan, plan_call
from ..settings import AUTO, HIGHEST, Settings, resolve

#: Specifications, and plans of shapes, that are kept; as many as the package's own functions keep.
_MOST = 1024
#: torch computes these alone with channels last over three spatial axes; all others it makes contiguous.
LAST_IN_3D = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Spec:
    """The arguments of a layer apart from tensors. There is one object per set of arguments, so that it is its own key.

    ``params.data_format`` is "channels_last" where the tensors are to be computed so whatever their strides; their
    shapes are always (N, C, *spatial).
    """

    params: Params
    settings: Settings

    def with_groups(self, groups: int) -> Spec:
        """Return the same with another number of groups."""
        return intern(replace(self.params, groups=groups), self.settings)

    @property
    def bare(self) -> Spec:
        """The same without an activation."""
        return intern(replace(self.params, activation=None, slope=0.0), self.settings)


@lru_cache(maxsize=_MOST)
def intern(params: Params, settings: Settings) -> Spec:
    """Return the one specification of its kind."""
    return Spec(params, settings)


@lru_cache(maxsize=_MOST, typed=True)
def spec_of(
    ndim: int, settings: Settings, stride: IntOrInts, padding: Padding, output_padding: IntOrInts, groups: int,
    dilation: IntOrInts, activation: Activation, data_format: str,
) -> Spec:  # fmt: skip
    """Check torch's arguments, and return them as a specification."""
    named = {"stride": stride, "output_padding": output_padding, "groups": groups, "dilation": dilation}
    for name, value in named.items():
        _check_ints(name, value)
    if not isinstance(padding, str):
        for value in padding if isinstance(padding, Sequence) else (padding,):
            _check_ints("padding", value)
    make_params(ndim, data_format=data_format, activation=activation)  # errors about these stay what they are
    with torch_errors():
        params = make_params(ndim, padding=padding, data_format=data_format, activation=activation, **named)
    return intern(params, settings)


def _check_ints(name: str, value: object) -> None:
    """Raise `TypeError` unless `value` is a number or a sequence of numbers that torch would take for ints."""
    for entry in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
        if isinstance(entry, bool) or not hasattr(entry, "__index__"):
            raise TypeError(f"{name} must be an int or a sequence of ints, got {value!r}")


def settings_of(
    cuda: bool, precision: str | None, deterministic: bool | None, formulation: str, backend: str
) -> Settings:
    """Merge the words of a call with `gpu_transconv.use`, the environment, and torch's own switches."""
    if not precision:
        precision = "tf32" if cuda and torch.backends.cudnn.allow_tf32 else HIGHEST
    if deterministic is None and torch.are_deterministic_algorithms_enabled():
        deterministic = True
    return resolve(
        AUTO if backend == "auto" else backend, AUTO if formulation == "auto" else formulation, deterministic, precision
    )


#: The arguments of an operator of `ops` besides tensors and sizes: stride, padding as (low, high) per axis one after the
#: other (empty for "same"), output_padding, dilation, groups, whether channels are last in any case, precision (empty
#: where torch's switches decide), deterministic, formulation, backend.
Flat: TypeAlias = tuple[Ints, Ints, Ints, Ints, int, bool, str, bool | None, str, str]
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


@lru_cache(maxsize=2 * _MOST)
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
        Of x and weight, of grad_output and weight, or of grad_output and x.
    bias : tuple of shape and dtype, optional
        Of the forward operation.

    Raises
    ------
    RuntimeError
        If shapes or dtypes do not fit; torch raises the same.
    """
    _check_dtype(first[2])
    last = runs_last(spec, device, first, second)
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
    return plan_weight_grad(params, second, first, sizes, settings.precision)


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


def runs_last(spec: Spec, device: str, first: Layout, second: Layout) -> bool:
    """Whether an operation is computed with channels last: as torch, where one of its tensors is so."""
    ndim, dtype = spec.params.ndim, first[2]
    if spec.params.data_format == "channels_last":
        return True
    if ndim == 1:
        return False
    if device == "cuda":
        if dtype is torch.float64:
            return False
    elif ndim == 3 and dtype not in LAST_IN_3D:
        return False
    return has_channels_last(first) or has_channels_last(second)


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


def flat_of(spec: Spec) -> Flat:
    """Write a specification as an operator's arguments."""
    s = spec.settings
    return (*flat_params(spec.params), s.precision, s.deterministic, s.formulation, s.backend)


def flat_params(params: Params) -> tuple[Ints, Ints, Ints, Ints, int, bool]:
    """Write what is geometry as an operator's arguments."""
    padding = () if params.padding is None else tuple(end for pair in params.padding for end in pair)
    last = params.data_format == "channels_last"
    return params.stride, padding, params.output_padding, params.dilation, params.groups, last


@lru_cache(maxsize=_MOST)
def params_of(stride: Ints, padding: Ints, output_padding: Ints, dilation: Ints, groups: int, last: bool) -> Params:
    """Read an operator's arguments."""
    with torch_errors():
        return make_params(
            len(stride), stride=stride, padding=tuple(zip(padding[::2], padding[1::2], strict=True)) or "same",
            output_padding=output_padding, dilation=dilation, groups=groups,
            data_format="channels_last" if last else "channels_first",
        )  # fmt: skip


class torch_errors:  # noqa: N801
    """Context in which the errors of a plan become torch's: `RuntimeError`, and the tensor x is called input."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, ValueError | TypeError):
            raise RuntimeError(re.sub(r"\bx\b", "input", str(error))) from None
