"""What a caller wrote, made uniform: every geometry argument becomes a tuple with one entry per spatial axis.

Every `ValueError` about an argument on its own (`gpu_transconv.arguments`), or about the shapes of the arrays, is
raised here. Errors about the output size, which need the equation, are raised in `gpu_transconv.plan`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .arguments import (
    ACTIVATIONS,
    DATA_FORMATS,
    Ints,
    as_activation,
    as_data_format,
    as_groups,
    as_ints,
    as_output_size,
    as_padding,
)  # fmt: skip

__all__ = ["ACTIVATIONS", "DATA_FORMATS", "Params", "check_full_size", "check_shapes", "is_plain", "make_params"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Params:
    """The arguments of one transposed convolution, apart from the arrays.

    `padding` holds one (low, high) pair per axis, or None for "same", which needs the input size. `full_size` is
    the result's whole shape where `output_size` was given as that.
    """

    stride: Ints
    padding: tuple[tuple[int, int], ...] | None
    output_padding: Ints
    output_size: Ints | None
    dilation: Ints
    groups: int
    data_format: str = "channels_first"
    activation: str | None = None
    slope: float = 0.0
    full_size: Ints | None = None

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.stride)


def make_params(ndim: int, **arguments: Any) -> Params:
    """Check and normalise the geometry arguments of an operator with `ndim` spatial axes."""
    return (_cached_params if is_plain(arguments.values()) else _make_params)(ndim, **arguments)


def is_plain(values: Iterable[Any]) -> bool:
    """Whether equal arguments mean the same, so that they can be the key of a cache: True is not taken for 1."""
    for value in values:
        if type(value) not in _PLAIN and not (isinstance(value, tuple) and all(type(i) is int for i in value)):
            return False
    return True


def _make_params(
    ndim: int,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    output_size: Any = None,
    dilation: Any = 1,
    groups: Any = 1,
    data_format: Any = "channels_first",
    activation: Any = None,
) -> Params:
    data_format = as_data_format(data_format)
    output_size, full_size = as_output_size(output_size, ndim, data_format)
    name, slope = as_activation(activation)
    params = Params(
        stride=as_ints("stride", stride, ndim, least=1),
        padding=as_padding(padding, ndim),
        output_padding=as_ints("output_padding", output_padding, ndim, least=0),
        output_size=output_size,
        dilation=as_ints("dilation", dilation, ndim, least=1),
        groups=as_groups(groups),
        data_format=data_format,
        activation=name,
        slope=slope,
        full_size=full_size,
    )
    _check_output_padding(params)
    return params


_PLAIN = frozenset((int, str, type(None)))
# Typed, so that True is not taken for 1.
_cached_params = lru_cache(maxsize=1024, typed=True)(_make_params)


def check_shapes(params: Params, x: Shape, weight: Shape, bias: Shape | None) -> None:
    """Raise `ValueError` unless the arrays' shapes fit each other and `params`."""
    ndim = params.ndim
    if len(weight) != ndim + 2:
        raise ValueError(f"weight must have {ndim + 2} axes (Cin, Cout // groups, *kernel), got shape {weight}")
    if len(x) not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"x must have {ndim + 2} axes (batch, channels and {ndim} spatial, in the order of data_format) "
            f"or {ndim + 1} without the batch, got shape {x}"
        )
    if min(weight) < 1:
        raise ValueError(f"weight must not have an empty axis, got shape {weight}")
    channels = x[-1] if params.data_format == "channels_last" else x[-1 - ndim]
    if channels != weight[0]:
        raise ValueError(
            f"x must have as many channels as weight has rows, got {_count(channels, 'channel')} in x of shape {x} "
            f"({params.data_format}) and weight of shape {weight}" + _cure_of_channels(params, channels, x, weight)
        )
    if weight[0] % params.groups:
        raise ValueError(f"groups must divide the {weight[0]} input channels, got {params.groups}")
    if min(x[1:] if len(x) == ndim + 2 else x) < 1:
        raise ValueError(f"x must not have an empty channel or spatial axis, got shape {x}")
    out_channels = weight[1] * params.groups
    if bias is not None and bias != (out_channels,):
        raise ValueError(f"bias must have shape ({out_channels},), one value per output channel, got {bias}")


def check_full_size(params: Params, x: Shape, weight: Shape) -> None:
    """Raise `ValueError` if `output_size` was given as the result's whole shape, which is another one."""
    full, spatial = params.full_size, params.output_size
    if full is None or spatial is None:
        return
    batch, channels = x[: len(x) - params.ndim - 1], (weight[1] * params.groups,)
    last = params.data_format == "channels_last"
    expected = (*batch, *spatial, *channels) if last else (*batch, *channels, *spatial)
    if full != expected:
        raise ValueError(
            f"output_size must be the result's whole shape {expected} ({params.data_format}) or its spatial sizes "
            f"alone, {spatial}, got {full}"
        )


def _cure_of_channels(params: Params, channels: int, x: Shape, weight: Shape) -> str:
    """What a caller may have meant whose channels are not the weight's rows, as the end of a message."""
    other = "channels_first" if params.data_format == "channels_last" else "channels_last"
    elsewhere = x[-1] if other == "channels_last" else x[-1 - params.ndim]
    cures = [f"did you mean data_format={other!r}?"] if elsewhere == weight[0] else []
    if weight[1] * params.groups == channels and params.groups == 1:
        cures.append(
            "weight is (Cin, Cout // groups, *kernel) here; that of an ordinary convolution, (Cout, Cin, *kernel), "
            "needs weight.swapaxes(0, 1)"
        )
    elif weight[-1] * params.groups == channels:
        axes = (params.ndim + 1, params.ndim, *range(params.ndim))
        cures.append(
            f"weight is (Cin, Cout // groups, *kernel) here; Keras's (*kernel, Cout, Cin) needs weight.transpose{axes}"
        )
    return "".join(f"; {cure}" for cure in cures)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _check_output_padding(params: Params) -> None:
    if params.output_size is not None and any(params.output_padding):
        raise ValueError(
            f"output_size and output_padding exclude each other, got output_size={params.output_size} "
            f"and output_padding={params.output_padding}"
        )
    if params.padding is None and any(params.output_padding):
        raise ValueError(
            "output_padding and padding='same' exclude each other, since 'same' fixes the output at in*stride, "
            f"got output_padding={params.output_padding}"
        )
    for axis, (extra, s, d) in enumerate(zip(params.output_padding, params.stride, params.dilation, strict=True)):
        if extra >= max(s, d):
            raise ValueError(
                f"output_padding must be smaller than the larger of stride and dilation ({max(s, d)} "
                f"on spatial axis {axis}), got {extra}"
            )
