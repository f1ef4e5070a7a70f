"""Plans of the two gradients: the same problem as the forward call, from the arrays that its gradients are given."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from ..words import did_you_mean
from .arguments import Ints, Params
from .axis import output_range
from .dtypes import DtypeOrName, check_dtypes
from .plan import ArraySpec, Operation, Plan, plan_call
from .shapes import Shape, check_weight

OPERATIONS: tuple[Operation, ...] = get_args(Operation)


def plan_input_grad(
    params: Params, grad_output: ArraySpec, weight: ArraySpec, input_size: Ints | None, precision: str = "highest"
) -> Plan:
    """Check the arrays of `gpu_transconv.conv_transpose_input_grad`, and return the plan.

    Parameters
    ----------
    params : Params
        Geometry, without output_padding and activation.
    grad_output, weight : ArraySpec
        Shape and dtype of the arrays.
    input_size : tuple of int, optional
        Spatial sizes of x; may be left out where only one is possible on every axis.
    precision : str
        As in `gpu_transconv.conv_transpose`.

    Raises
    ------
    TypeError
        If the dtypes differ, or one is not defined.
    ValueError
        If shapes do not fit, or no x, or none of that `input_size`, has a result of that shape.
    """
    _check_dtypes(grad_output=grad_output.dtype, weight=weight.dtype)
    check_weight(params, weight.shape, None)
    outputs = _spatial("grad_output", params, grad_output.shape)
    channels = _channels(params, grad_output.shape)
    if channels != weight.shape[1] * params.groups:
        raise ValueError(
            f"grad_output must have as many channels as the result, Cout = {weight.shape[1] * params.groups}, got "
            f"{channels} in shape {grad_output.shape} ({params.data_format}) for weight of shape {weight.shape}"
        )
    sizes = [_input_sizes(params, axis, outputs[axis], weight.shape[2 + axis]) for axis in range(params.ndim)]
    chosen = [_choose_size(axis, found, input_size, outputs[axis]) for axis, found in enumerate(sizes)]
    shape = _shape_like(params, grad_output.shape, weight.shape[0], tuple(chosen))
    x = ArraySpec(shape, grad_output.dtype)
    return _gradient(replace(params, output_size=outputs), x, weight, precision, "input_grad")


def plan_weight_grad(
    params: Params, x: ArraySpec, grad_output: ArraySpec, kernel_size: Ints, precision: str = "highest"
) -> Plan:
    """Check the arrays of `gpu_transconv.conv_transpose_weight_grad`, and return the plan.

    Parameters
    ----------
    params : Params
        Geometry, without output_padding and activation.
    x, grad_output : ArraySpec
        Shape and dtype of the arrays.
    kernel_size : tuple of int
        Sizes of the filters, one per spatial axis.
    precision : str
        As in `gpu_transconv.conv_transpose`.

    Raises
    ------
    TypeError
        If the dtypes differ, or one is not defined.
    ValueError
        If shapes do not fit, or x and filters of that size have no result of the shape of grad_output.
    """
    _check_dtypes(x=x.dtype, grad_output=grad_output.dtype)
    inputs, outputs = _spatial("x", params, x.shape), _spatial("grad_output", params, grad_output.shape)
    if len(x.shape) != len(grad_output.shape) or _batch(params, x.shape) != _batch(params, grad_output.shape):
        raise ValueError(
            f"grad_output must have the batch of x, got shape {grad_output.shape} for x of shape {x.shape}"
        )
    for name, shape in (("x", x.shape), ("grad_output", grad_output.shape)):
        if _channels(params, shape) % params.groups:
            raise ValueError(f"groups must divide the channels of {name}, got {params.groups} for shape {shape}")
    for axis in range(params.ndim):
        least, most = reachable(params, axis, inputs[axis], kernel_size[axis])
        if not max(least, 1) <= outputs[axis] <= most:
            raise ValueError(
                f"grad_output must have the size of a result, on spatial axis {axis} between {max(least, 1)} and "
                f"{most} for x of size {inputs[axis]} and kernel_size {kernel_size[axis]}, got {outputs[axis]}"
            )
    channels = _channels(params, grad_output.shape) // params.groups
    weight = ArraySpec((_channels(params, x.shape), channels, *kernel_size), x.dtype)
    return _gradient(replace(params, output_size=outputs), x, weight, precision, "weight_grad")


def _check_dtypes(**dtypes: DtypeOrName) -> None:
    name, dtype = next(iter(dtypes)), check_dtypes(**dtypes)
    if dtype.startswith("int"):
        raise TypeError(f"{name} must have a floating or complex dtype, got {dtype}: integers have no gradient")


def as_operation(plan: Plan, operation: Operation) -> Plan:
    """Return the plan of an operation on the problem of `plan`, a forward one.

    Raises
    ------
    ValueError
        If there is no such operation.
    TypeError
        If it is not defined for the dtype.
    """
    if operation not in OPERATIONS:
        listed = ", ".join(map(repr, OPERATIONS))
        raise ValueError(f"operation must be one of {listed}, got {operation!r}{did_you_mean(operation, OPERATIONS)}")
    if operation == "forward":
        return plan
    _check_dtypes(x=plan.dtype)
    return replace(plan, operation=operation, has_bias=False, activation=None, slope=0.0)


def _gradient(params: Params, x: ArraySpec, weight: ArraySpec, precision: str, operation: Operation) -> Plan:
    return as_operation(plan_call(params, x, weight, None, precision), operation)


def reachable(params: Params, axis: int, size: int, kernel: int) -> tuple[int, int]:
    """Smallest and largest output of an axis for some output_padding."""
    if params.padding is None:
        return size * params.stride[axis], size * params.stride[axis]
    pads = sum(params.padding[axis])
    return output_range(size, kernel, params.stride[axis], pads, params.dilation[axis])


def _input_sizes(params: Params, axis: int, output: int, kernel: int) -> list[int]:
    """All input sizes of an axis whose result can have the size `output`."""
    stride, dilation = params.stride[axis], params.dilation[axis]
    pads = 0 if params.padding is None else sum(params.padding[axis])
    # The least output grows by the stride from one size to the next, so only a few sizes are near.
    near = (output + pads - dilation * (kernel - 1) - 1) // stride + 1
    sizes = range(max(1, near - max(stride, dilation) // stride - 1), near + 2)
    if params.padding is None:
        sizes = range(max(1, output // stride), output // stride + 1)
    found = []
    for size in sizes:
        least, most = reachable(params, axis, size, kernel)
        if least <= output <= most:
            found.append(size)
    return found


def _choose_size(axis: int, possible: list[int], input_size: Ints | None, output: int) -> int:
    if not possible:
        raise ValueError(
            f"grad_output must have the size of a result, got {output} on spatial axis {axis}, which no x has with "
            "this kernel, stride, padding and dilation"
        )
    if input_size is None:
        if len(possible) > 1:
            raise ValueError(
                f"input_size must be given: on spatial axis {axis} each of {_listed(possible)} has a result "
                f"of size {output}"
            )
        return possible[0]
    if input_size[axis] not in possible:
        raise ValueError(
            f"input_size on spatial axis {axis} must be {_listed(possible)} for a grad_output of size {output}, "
            f"got {input_size[axis]}"
        )
    return input_size[axis]


def _listed(sizes: list[int]) -> str:
    return " or ".join(map(str, sizes))


def _spatial(name: str, params: Params, shape: Shape) -> Ints:
    """The spatial sizes of x or of a result, whose number of axes is checked."""
    ndim = params.ndim
    if len(shape) not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"{name} must have {ndim + 2} axes (batch, channels and {ndim} spatial, in the order of data_format) "
            f"or {ndim + 1} without the batch, got shape {shape}"
        )
    if min(shape[1:] if len(shape) == ndim + 2 else shape) < 1:
        raise ValueError(f"{name} must not have an empty channel or spatial axis, got shape {shape}")
    return shape[-1 - ndim : -1] if params.data_format == "channels_last" else shape[-ndim:]


def _channels(params: Params, shape: Shape) -> int:
    return shape[-1] if params.data_format == "channels_last" else shape[-1 - params.ndim]


def _batch(params: Params, shape: Shape) -> Shape:
    return shape[: len(shape) - params.ndim - 1]


def _shape_like(params: Params, shape: Shape, channels: int, spatial: Ints) -> Shape:
    """A shape with other channels and spatial sizes, in the same order."""
    inner = (*spatial, channels) if params.data_format == "channels_last" else (channels, *spatial)
    return (*_batch(params, shape), *inner)
