"""What a caller wrote, made uniform: every geometry argument becomes a tuple with one entry per spatial axis.

Every `ValueError` about an argument on its own, or about the shapes of the arrays, is raised here. Errors
about the output size, which need the equation, are raised in `gpu_transconv.plan`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any

DATA_FORMATS = ("channels_first", "channels_last")
#: Activation name -> default slope; only leaky_relu has one.
ACTIVATIONS = {"relu": 0.0, "leaky_relu": 0.01, "tanh": 0.0, "sigmoid": 0.0, "silu": 0.0, "gelu": 0.0}

Ints = tuple[int, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Params:
    """The arguments of one transposed convolution, apart from the arrays.

    `padding` holds one (low, high) pair per axis, or None for "same", which needs the input size.
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
        if type(value) not in _PLAIN and not (type(value) is tuple and all(type(i) is int for i in value)):
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
    if output_size is not None:
        output_size = _as_ints("output_size", output_size, ndim, least=1)
    if not isinstance(data_format, str) or data_format not in DATA_FORMATS:
        raise ValueError(f"data_format must be one of {_listed(DATA_FORMATS)}, got {data_format!r}")
    if _as_int(groups) is None or groups < 1:
        raise ValueError(f"groups must be an int >= 1, got {groups!r}")
    name, slope = _as_activation(activation)
    params = Params(
        stride=_as_ints("stride", stride, ndim, least=1),
        padding=_as_padding(padding, ndim),
        output_padding=_as_ints("output_padding", output_padding, ndim, least=0),
        output_size=output_size,
        dilation=_as_ints("dilation", dilation, ndim, least=1),
        groups=int(groups),
        data_format=data_format,
        activation=name,
        slope=slope,
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
            f"x must have as many channels as weight has rows, got {channels} channels in x of shape {x} "
            f"({params.data_format}) and weight of shape {weight}"
        )
    if weight[0] % params.groups:
        raise ValueError(f"groups must divide the {weight[0]} input channels, got {params.groups}")
    if min(x[1:] if len(x) == ndim + 2 else x) < 1:
        raise ValueError(f"x must not have an empty channel or spatial axis, got shape {x}")
    out_channels = weight[1] * params.groups
    if bias is not None and bias != (out_channels,):
        raise ValueError(f"bias must have shape ({out_channels},), one value per output channel, got {bias}")


def _as_int(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _as_ints(name: str, value: Any, ndim: int, least: int) -> Ints:
    one = _as_int(value)
    if one is not None:
        values: tuple[int | None, ...] = (one,) * ndim
    elif isinstance(value, str) or not _is_sequence(value):
        values = (None,)
    else:
        values = tuple(_as_int(v) for v in value)
    if len(values) != ndim or any(v is None or v < least for v in values):
        raise ValueError(f"{name} must be an int or {ndim} ints (one per spatial axis), each >= {least}, got {value!r}")
    return values  # type: ignore[return-value]


def _as_padding(value: Any, ndim: int) -> tuple[tuple[int, int], ...] | None:
    if isinstance(value, str):
        if value == "same":
            return None
        if value == "valid":
            return ((0, 0),) * ndim
    expected = (
        f"padding must be an int >= 0, {ndim} ints (one per spatial axis), {ndim} (low, high) pairs, "
        f"'valid' or 'same', got {value!r}"
    )
    one = _as_int(value)
    sequence = tuple(value) if _is_sequence(value) else ()
    entries: tuple[Any, ...] = sequence if one is None else (one,) * ndim
    pairs = tuple((v, v) if _as_int(v) is not None else tuple(v) if _is_sequence(v) else () for v in entries)
    if len(pairs) != ndim or any(len(p) != 2 or _as_int(p[0]) is None or _as_int(p[1]) is None for p in pairs):
        raise ValueError(expected)
    if any(v < 0 for p in pairs for v in p):
        raise ValueError(expected + "; negative padding is not supported, pad the result instead")
    return tuple((int(low), int(high)) for low, high in pairs)


def _as_activation(value: Any) -> tuple[str | None, float]:
    if value is None:
        return None, 0.0
    if isinstance(value, tuple | list) and len(value) == 2 and value[0] == "leaky_relu":
        return "leaky_relu", _as_slope(value[1])
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ValueError(
            f"activation must be None, one of {_listed(ACTIVATIONS)} or ('leaky_relu', slope), got {value!r}"
        )
    return value, ACTIVATIONS[value]


def _as_slope(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"activation's slope must be a number, got {value!r}")
    return float(value)


def _check_output_padding(params: Params) -> None:
    if params.output_size is not None and any(params.output_padding):
        raise ValueError(
            f"output_size and output_padding exclude each other, got output_size={params.output_size} "
            f"and output_padding={params.output_padding}"
        )
    for axis, (extra, s, d) in enumerate(zip(params.output_padding, params.stride, params.dilation, strict=True)):
        if extra >= max(s, d):
            raise ValueError(
                f"output_padding must be smaller than the larger of stride and dilation ({max(s, d)} "
                f"on spatial axis {axis}), got {extra}"
            )


def _is_sequence(value: Any) -> bool:
    if type(value).__name__ == "ndarray":
        return bool(value.ndim)
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))
