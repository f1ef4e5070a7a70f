"""The one plan that every backend and both formulations read: sizes, axes, dtype, and what is fused."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Literal, NamedTuple, TypeAlias

from .arguments import Params
from .axis import Axis, output_range
from .dtypes import DTYPES, DtypeOrName, check_activation, check_dtypes, defined_precision
from .shapes import POSITIONS, Shape, check_bytes, check_full_size, check_shapes

#: Which of the three sums over the relation of `axis`: the operator, or its gradient by x or by the weight.
Operation: TypeAlias = Literal["forward", "input_grad", "weight_grad"]


class ArraySpec(NamedTuple):
    """What a plan needs to know of an array: its shape, and its dtype or the name of that."""

    shape: Shape
    dtype: DtypeOrName


@dataclass(frozen=True)
class Plan:
    """Everything about a problem that does not depend on the arrays' contents.

    1-D and 2-D problems are lifted to three axes by unit axes in front. Sizes count elements. `precision` is
    "tf32" only where tensor cores may round the operands, which are then float32, and "fast" only where
    fast algorithms may be used, which lose small values beside large ones. With `fixed_order` the sum of an output has
    one order whatever the sizes are, and whole strides that are cut off, so that pieces have the bits of the whole.
    """

    ndim: int
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    axes: tuple[Axis, Axis, Axis]
    channels_last: bool
    dtype: str
    accumulate: str
    has_bias: bool
    activation: str | None
    slope: float
    unbatched: bool
    precision: str = "highest"
    operation: Operation = "forward"
    fixed_order: bool = False

    @property
    def in_spatial(self) -> tuple[int, int, int]:
        """Input sizes of the three axes."""
        return self.axes[0].size, self.axes[1].size, self.axes[2].size

    @property
    def kernel(self) -> tuple[int, int, int]:
        """Kernel sizes of the three axes."""
        return self.axes[0].kernel, self.axes[1].kernel, self.axes[2].kernel

    @property
    def out_spatial(self) -> tuple[int, int, int]:
        """Output sizes of the three axes."""
        return self.axes[0].output_size, self.axes[1].output_size, self.axes[2].output_size

    @cached_property
    def output_shape(self) -> Shape:
        """Shape of the result as the caller sees it."""
        spatial = self.out_spatial[3 - self.ndim :]
        shape = (*spatial, self.out_channels) if self.channels_last else (self.out_channels, *spatial)
        return shape if self.unbatched else (self.batch, *shape)

    @cached_property
    def input_shape(self) -> Shape:
        """Shape of x as the caller sees it."""
        spatial = self.in_spatial[3 - self.ndim :]
        shape = (*spatial, self.in_channels) if self.channels_last else (self.in_channels, *spatial)
        return shape if self.unbatched else (self.batch, *shape)

    @cached_property
    def weight_shape(self) -> Shape:
        """Shape of the weight as the caller sees it."""
        return (self.in_channels, self.out_channels // self.groups, *self.kernel[3 - self.ndim :])

    @cached_property
    def result_shape(self) -> Shape:
        """Shape of what the operation computes."""
        shapes = {"forward": self.output_shape, "input_grad": self.input_shape, "weight_grad": self.weight_shape}
        return shapes[self.operation]

    @cached_property
    def result_bytes(self) -> int:
        """Size of what the operation computes, in bytes."""
        return math.prod(self.result_shape) * DTYPES[self.dtype].size

    @cached_property
    def input_bytes(self) -> int:
        """Size of x in bytes."""
        return self.batch * self.in_channels * math.prod(self.in_spatial) * DTYPES[self.dtype].size

    @cached_property
    def weight_bytes(self) -> int:
        """Size of the weight in bytes."""
        return math.prod(self.weight_shape) * DTYPES[self.dtype].size

    @cached_property
    def output_bytes(self) -> int:
        """Size of the result in bytes."""
        return math.prod(self.output_shape) * DTYPES[self.dtype].size

    @cached_property
    def bytes(self) -> int:
        """Compulsory traffic: x, weight, bias and result, each read or written once; the same for all operations."""
        bias = self.out_channels * self.has_bias * DTYPES[self.dtype].size
        return self.input_bytes + self.weight_bytes + bias + self.output_bytes

    @cached_property
    def flops(self) -> int:
        """Useful operations: two per input element, tap and output channel of its group."""
        per_input = 2 * (self.out_channels // self.groups) * math.prod(self.kernel)
        return per_input * self.batch * self.in_channels * math.prod(self.in_spatial)

    @cached_property
    def _hash(self) -> int:
        return hash(_values_of(self))

    def __hash__(self) -> int:  # a plan is the key of every cache of the kernels
        return self._hash

    def __getstate__(self) -> dict[str, object]:  # without the hash, which is another one in another process
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def phase_count(self) -> int:
        """Number of interleaved correlations, those without taps included."""
        return math.prod(axis.phase_count for axis in self.axes)

    @property
    def index_bits(self) -> int:
        """32 where every byte offset into every array fits, else 64."""
        return 32 if max(self.input_bytes, self.weight_bytes, self.output_bytes) < 2**31 else 64


_values_of = attrgetter(*(field.name for field in fields(Plan)))


def plan_call(
    params: Params, x: ArraySpec, weight: ArraySpec, bias: ArraySpec | None = None, precision: str = "highest"
) -> Plan:
    """Check shapes and dtypes against each other and the arguments, and return the plan: the one way to it.

    Parameters
    ----------
    params : Params
        The arguments of the call, checked on their own (`gpu_transconv.problem.arguments.make_params`).
    x, weight, bias : ArraySpec
        Shape and dtype of the arrays.
    precision : str
        As in `gpu_transconv.conv_transpose`; it counts only where it is defined for the dtype.

    Raises
    ------
    TypeError
        If the dtypes differ, or one, or the activation in it, is not defined.
    ValueError
        If shapes do not fit, an output axis would be empty, or `output_size` cannot be reached.
    MemoryError
        If an array is beyond 64-bit arithmetic on indices.
    """
    bias_shape, bias_dtype = (None, None) if bias is None else bias
    dtype = check_dtypes(x=x.dtype, weight=weight.dtype, bias=bias_dtype)
    check_activation(params.activation, dtype)
    check_shapes(params, x.shape, weight.shape, bias_shape)
    check_full_size(params, x.shape, weight.shape)
    plan = make_plan(params, x.shape, weight.shape, dtype, bias is not None, precision)
    for name, shape in (("x", x.shape), ("weight", weight.shape), ("output", plan.output_shape)):
        check_bytes(name, shape, dtype)
    return plan


@lru_cache(maxsize=1024)
def make_plan(params: Params, x: Shape, weight: Shape, dtype: str, has_bias: bool, precision: str = "highest") -> Plan:
    """Build the plan of a checked problem (`plan_call`), which tells the errors; pure, and cached."""
    ndim = params.ndim
    last = params.data_format == "channels_last"
    unbatched = len(x) == ndim + 1
    spatial = x[-1 - ndim : -1] if last else x[-ndim:]
    lift = 3 - ndim
    axes = [Axis(1, 1, 1, 1, 0, 1)] * lift + [_make_axis(params, i, spatial[i], weight[2 + i]) for i in range(ndim)]
    return Plan(
        ndim=ndim,
        batch=1 if unbatched else x[0],
        in_channels=weight[0],
        out_channels=weight[1] * params.groups,
        groups=params.groups,
        axes=(axes[0], axes[1], axes[2]),
        channels_last=last,
        dtype=dtype,
        accumulate=DTYPES[dtype].accumulate,
        has_bias=has_bias,
        activation=params.activation,
        slope=params.slope,
        unbatched=unbatched,
        precision=defined_precision(precision, dtype),
    )


def _make_axis(params: Params, i: int, size: int, kernel: int) -> Axis:
    s, d = params.stride[i], params.dilation[i]
    extra = params.output_padding[i]
    if params.padding is None:  # "same": out = size * stride, an odd surplus cut at the high end
        surplus = d * (kernel - 1) + 1 - s
        low, out = max(surplus, 0) // 2, size * s
        least = most = out
    else:
        low, high = params.padding[i]
        least, most = output_range(size, kernel, s, low + high, d)
        out = least + extra
    if params.output_size is not None:
        out = params.output_size[i]
        if not least <= out <= most:
            raise ValueError(
                f"output_size on spatial axis {i} must lie between {max(least, 1)} and {most} "
                f"for this input, kernel, stride, padding and dilation, got {out}"
                if most >= 1
                else f"output_size cannot be reached: padding leaves no output on spatial axis {i}, got {out}"
            )
    axis = Axis(size, kernel, s, d, low, out)
    _check_extent(params, i, axis)
    return axis


def _check_extent(params: Params, i: int, axis: Axis) -> None:
    """Raise `ValueError` where nothing is left of spatial axis `i`, or its positions are beyond index arithmetic."""
    s, d, extra = axis.stride, axis.dilation, params.output_padding[i]
    padding = params.padding[i] if params.padding else "same"
    if axis.output_size < 1:
        raise ValueError(
            f"padding leaves no output on spatial axis {i}: (in - 1)*stride - low - high + "
            f"dilation*(kernel - 1) + 1 + output_padding = {axis.output_size} with in={axis.size}, stride={s}, "
            f"padding={padding}, dilation={d}, kernel={axis.kernel}, output_padding={extra}; expected at least 1"
        )
    if axis.extent >= POSITIONS > axis.output_size:  # an output that large is refused for its memory
        raise ValueError(
            f"stride, dilation and padding reach too far on spatial axis {i}, got stride={s}, "
            f"dilation={d} and padding={padding}; expected a reach below {POSITIONS}"
        )
