"""The one plan that every backend and both formulations read.

A transposed convolution with stride ``s`` is ``s`` interleaved ordinary correlations per axis. Input ``i``
and tap ``k`` meet at output ``o = i*s + k*d - pad_low``. Write ``o = s*b + phase`` with ``0 <= phase < s``:
output *block* ``b``, *phase* within it. Then tap ``k`` belongs to exactly one phase and reads the input at a
fixed *shift* from the block:

    phase = (k*d - pad_low) mod s          shift = -floor((k*d - pad_low) / s)          i = b + shift

Read by output (for each phase, its taps) this is the gather formulation; read by input (for each tap, its
phase) it is the scatter formulation. A phase without taps, which exists where the kernel is shorter than the
stride or where stride and dilation share a factor, holds the bias alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

from .params import Params, Shape

#: dtype name -> (bytes per element, dtype in which products are summed)
DTYPES = {
    "float16": (2, "float32"),
    "bfloat16": (2, "float32"),
    "float32": (4, "float32"),
    "float64": (8, "float64"),
    "complex64": (8, "complex64"),
    "complex128": (16, "complex128"),
    "int32": (4, "int32"),
    "int64": (8, "int64"),
}
#: The dtypes for which a precision other than "highest" says something.
_PRECISIONS = {"tf32": ("float32",), "fast": ("float16", "bfloat16", "float32", "float64")}
#: Bound of every position on an axis, cut off or not, and of an array's bytes: more than any memory, with room for
#: index arithmetic in 64 bits.
_POSITIONS = 2**48


@dataclass(frozen=True, slots=True)
class Phase:
    """The outputs ``offset, offset + stride, ...`` of one axis, and the (tap, shift) that reach them."""

    offset: int
    count: int
    taps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes, and the arithmetic of its phases."""

    size: int
    kernel: int
    stride: int
    dilation: int
    pad_low: int
    output_size: int

    @property
    def blocks(self) -> int:
        """Number of output blocks of `stride` elements, the last one perhaps cut short."""
        return -(-self.output_size // self.stride)

    @property
    def phase_count(self) -> int:
        """Number of phases that hold an output element, with or without taps."""
        return min(self.stride, self.output_size)

    def phase_of(self, tap: int) -> int:
        """Phase of the outputs that `tap` reaches."""
        return (tap * self.dilation - self.pad_low) % self.stride

    def shift_of(self, tap: int) -> int:
        """Input index minus output block, for `tap`."""
        return -((tap * self.dilation - self.pad_low) // self.stride)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that have taps, by offset; all others hold the bias."""
        taps: dict[int, list[tuple[int, int]]] = {}
        for tap in range(self.kernel):
            taps.setdefault(self.phase_of(tap), []).append((tap, self.shift_of(tap)))
        return tuple(
            Phase(offset, -(-(self.output_size - offset) // self.stride), tuple(taps[offset]))
            for offset in sorted(taps)
            if offset < self.output_size
        )


@dataclass(frozen=True)
class Plan:
    """Everything about a problem that does not depend on the arrays' contents.

    1-D and 2-D problems are lifted to three axes by unit axes in front. Sizes count elements. `precision` is
    "tf32" only where tensor cores may round the operands, which are then float32, and "fast" only where
    fast algorithms may be used, which lose small values beside large ones.
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

    @property
    def in_spatial(self) -> tuple[int, int, int]:
        """Input sizes of the three axes."""
        return tuple(axis.size for axis in self.axes)  # type: ignore[return-value]

    @property
    def kernel(self) -> tuple[int, int, int]:
        """Kernel sizes of the three axes."""
        return tuple(axis.kernel for axis in self.axes)  # type: ignore[return-value]

    @property
    def out_spatial(self) -> tuple[int, int, int]:
        """Output sizes of the three axes."""
        return tuple(axis.output_size for axis in self.axes)  # type: ignore[return-value]

    @cached_property
    def output_shape(self) -> Shape:
        """Shape of the result as the caller sees it."""
        spatial = self.out_spatial[3 - self.ndim :]
        shape = (*spatial, self.out_channels) if self.channels_last else (self.out_channels, *spatial)
        return shape if self.unbatched else (self.batch, *shape)

    @cached_property
    def input_bytes(self) -> int:
        """Size of x in bytes."""
        return self.batch * self.in_channels * math.prod(self.in_spatial) * DTYPES[self.dtype][0]

    @cached_property
    def output_bytes(self) -> int:
        """Size of the result in bytes."""
        return math.prod(self.output_shape) * DTYPES[self.dtype][0]

    @cached_property
    def bytes(self) -> int:
        """Compulsory traffic: x, weight and bias read once, the result written once."""
        elements = self.in_channels * (self.out_channels // self.groups) * math.prod(self.kernel)
        elements += self.out_channels * self.has_bias
        return self.input_bytes + elements * DTYPES[self.dtype][0] + self.output_bytes

    @cached_property
    def flops(self) -> int:
        """Useful operations: two per input element, tap and output channel of its group."""
        per_input = 2 * (self.out_channels // self.groups) * math.prod(self.kernel)
        return per_input * self.batch * self.in_channels * math.prod(self.in_spatial)

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    def __hash__(self) -> int:  # a plan is the key of every cache of the kernels
        return self._hash

    @property
    def phase_count(self) -> int:
        """Number of interleaved correlations, those without taps included."""
        return math.prod(axis.phase_count for axis in self.axes)

    @property
    def index_bits(self) -> int:
        """32 where every byte offset into every array fits, else 64."""
        item = DTYPES[self.dtype][0]
        x = self.batch * self.in_channels * math.prod(self.in_spatial) * item
        weight = self.in_channels * (self.out_channels // self.groups) * math.prod(self.kernel) * item
        return 32 if max(x, weight, self.output_bytes) < 2**31 else 64


def output_range(size: int, kernel: int, stride: int, pads: int, dilation: int) -> tuple[int, int]:
    """Smallest and largest output size that some output_padding reaches on one axis.

    The smallest is ``(size - 1)*stride - pads + dilation*(kernel - 1) + 1`` (``pads`` is both sides
    together), Relationship 14 of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
    (2016), extended by dilation.
    """
    least = (size - 1) * stride - pads + dilation * (kernel - 1) + 1
    return least, least + max(stride, dilation) - 1


@lru_cache(maxsize=1024)
def make_plan(params: Params, x: Shape, weight: Shape, dtype: str, has_bias: bool, precision: str = "highest") -> Plan:
    """Build the plan of a checked problem (`gpu_transconv.params.check_shapes`); pure, and cached.

    Raises
    ------
    ValueError
        If an output axis would be empty, or `output_size` cannot be reached.
    """
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
        accumulate=DTYPES[dtype][1],
        has_bias=has_bias,
        activation=params.activation,
        slope=params.slope,
        unbatched=unbatched,
        precision=precision if dtype in _PRECISIONS.get(precision, ()) else "highest",
    )


def check_bytes(name: str, shape: Shape, dtype: str, limit: int = _POSITIONS, whose: str = "the limit is") -> None:
    """Raise `MemoryError` where an array of that shape, of one image at least, needs more than `limit` bytes."""
    needed = math.prod(max(size, 1) for size in shape) * DTYPES[dtype][0]
    if needed > limit:
        raise MemoryError(f"the {name} of shape {shape} and dtype {dtype} needs {needed:,} bytes; {whose} {limit:,}")


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
    padding = params.padding[i] if params.padding else "same"
    if out < 1:
        raise ValueError(
            f"padding leaves no output on spatial axis {i}: (in - 1)*stride - low - high + "
            f"dilation*(kernel - 1) + 1 + output_padding = {out} with in={size}, stride={s}, "
            f"padding={padding}, dilation={d}, kernel={kernel}, output_padding={extra}; expected at least 1"
        )
    if size * s + kernel * d + low >= _POSITIONS > out:  # an output that large is refused for its memory
        raise ValueError(
            f"stride, dilation and padding reach too far on spatial axis {i}, got stride={s}, "
            f"dilation={d} and padding={padding}; expected a reach below {_POSITIONS}"
        )
    return Axis(size, kernel, s, d, low, out)
