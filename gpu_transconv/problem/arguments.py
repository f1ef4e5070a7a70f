"""What a caller wrote, made uniform: every geometry argument becomes a tuple with one entry per spatial axis.

Every `ValueError` about an argument on its own is raised here; those about shapes in `gpu_transconv.problem.shapes`,
those about the output size, which need the equation, in `gpu_transconv.problem.plan`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import Any, TypeAlias, TypeGuard

from ..words import did_you_mean

DATA_FORMATS = ("channels_first", "channels_last")
#: Activation name -> default slope; only leaky_relu has one.
ACTIVATIONS = {"relu": 0.0, "leaky_relu": 0.01, "tanh": 0.0, "sigmoid": 0.0, "silu": 0.0, "gelu": 0.0}

Ints: TypeAlias = tuple[int, ...]
#: What a caller may write: one for all axes, or one per axis; what is cut from the ends; an activation, with its slope.
IntOrInts: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[tuple[int, int]]
Activation: TypeAlias = str | tuple[str, float] | None


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


def without_result(params: Params) -> Params:
    """Return the geometry alone, for gradients, which know the result's size from its gradient."""
    none = (0,) * params.ndim
    return replace(params, output_padding=none, output_size=None, full_size=None, activation=None, slope=0.0)


def make_params(ndim: int, **arguments: Any) -> Params:
    """Check and normalise the geometry arguments of an operator with `ndim` spatial axes."""
    return (_cached_params if is_plain(arguments.values()) else _make_params)(ndim, **arguments)


def is_plain(values: Iterable[object]) -> bool:
    """Whether equal arguments mean the same, so that they can be the key of a cache: True is not taken for 1."""
    for value in values:
        if type(value) not in _PLAIN and not (isinstance(value, tuple) and all(type(i) is int for i in value)):
            return False
    return True


def _make_params(
    ndim: int,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    output_size: IntOrInts | None = None,
    dilation: IntOrInts = 1,
    groups: int = 1,
    data_format: str = "channels_first",
    activation: Activation = None,
) -> Params:
    data_format = as_data_format(data_format)
    spatial, full_size = as_output_size(output_size, ndim, data_format)
    name, slope = as_activation(activation)
    params = Params(
        stride=as_ints("stride", stride, ndim, least=1),
        padding=as_padding(padding, ndim),
        output_padding=as_ints("output_padding", output_padding, ndim, least=0),
        output_size=spatial,
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


def as_data_format(value: object) -> str:
    """Return the name of a layout."""
    if not isinstance(value, str) or value not in DATA_FORMATS:
        expected = f"data_format must be one of {_listed(DATA_FORMATS)}, got {value!r}"
        raise ValueError(expected + did_you_mean(value, DATA_FORMATS))
    return value


def as_groups(value: object) -> int:
    """Return a number of groups."""
    groups = _as_int(value)
    if groups is None or groups < 1:
        raise ValueError(f"groups must be an int >= 1, got {value!r}")
    return groups


def _as_int(value: object) -> int | None:
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":  # NumPy 1.26 takes its own for an index
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type] # raises where it is none
    except TypeError:
        return None


def as_ints(name: str, value: object, ndim: int, least: int) -> Ints:
    """Return one int per spatial axis, each at least `least`."""
    one = _as_int(value)
    if one is not None:
        values: tuple[int | None, ...] = (one,) * ndim
    elif isinstance(value, str) or not _is_sequence(value):
        values = (None,)
    else:
        values = tuple(_as_int(v) for v in value)
        values = values * ndim if len(values) == 1 else values  # as PyTorch does
    if len(values) != ndim or any(v is None or v < least for v in values):
        whole = ", or the result's whole shape" if name == "output_size" else ""
        raise ValueError(
            f"{name} must be an int or {ndim} ints (one per spatial axis), each >= {least}{whole}, got {value!r}"
        )
    return values  # type: ignore[return-value]


def as_output_size(value: object, ndim: int, data_format: str) -> tuple[Ints | None, Ints | None]:
    """Return the spatial sizes, and the whole shape where `value` is one, like ``skip.shape`` in a U-Net."""
    if value is None:
        return None, None
    if not (_is_sequence(value) and len(value) in (ndim + 1, ndim + 2)):
        return as_ints("output_size", value, ndim, least=1), None
    full = tuple(-1 if (size := _as_int(v)) is None else size for v in value)
    start = len(full) - ndim - (data_format == "channels_last")
    spatial = full[start : start + ndim]
    if min(full) < 0 or min(spatial) < 1:
        as_ints("output_size", value, ndim, least=1)  # raises
    return spatial, full


def as_padding(value: object, ndim: int) -> tuple[tuple[int, int], ...] | None:
    """Return one (low, high) pair per spatial axis, or None for "same"."""
    if isinstance(value, str):
        if value == "same":
            return None
        if value == "valid":
            return ((0, 0),) * ndim
    expected = (
        f"padding must be an int >= 0, {ndim} ints (one per spatial axis), {ndim} (low, high) pairs, "
        f"'valid' or 'same', got {value!r}" + did_you_mean(value, ("valid", "same"))
    )
    sequence = tuple(value) if _is_sequence(value) else ()
    one = _as_int(sequence[0] if len(sequence) == 1 else value)
    pairs = [_as_pair(entry) for entry in sequence] if one is None else [(one, one)] * ndim
    if len(pairs) != ndim or None in pairs:
        raise ValueError(expected)
    found = tuple(pair for pair in pairs if pair is not None)
    if min(map(min, found)) < 0:
        raise ValueError(expected + "; negative padding is not supported, pad the result instead")
    return found


def _as_pair(value: object) -> tuple[int, int] | None:
    """Return what is cut from both ends of an axis: an int twice, or two ints; None where it is neither."""
    low = high = _as_int(value)
    if low is None and _is_sequence(value) and len(value) == 2:
        low, high = map(_as_int, value)
    return None if low is None or high is None else (low, high)


def as_activation(value: object) -> tuple[str | None, float]:
    """Return an activation's name and slope."""
    if value is None:
        return None, 0.0
    name = value
    if isinstance(value, tuple | list) and len(value) == 2:
        name, slope = value
        if isinstance(name, str) and name == "leaky_relu":
            return "leaky_relu", _as_slope(slope)
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ValueError(
            f"activation must be None, one of {_listed(ACTIVATIONS)} or ('leaky_relu', slope), got {value!r}"
            + did_you_mean(name, ACTIVATIONS)
        )
    return value, ACTIVATIONS[value]


def _as_slope(value: object) -> float:
    try:
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
    except OverflowError:  # of an int
        pass
    raise ValueError(f"activation's slope must be a number that a float can hold, got {value!r}")


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    if type(value).__name__ == "ndarray" and hasattr(value, "ndim"):
        return bool(value.ndim)
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
