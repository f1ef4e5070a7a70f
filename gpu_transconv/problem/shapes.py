"""Whether the shapes of the arrays fit each other, the arguments, and 64-bit arithmetic on indices."""

from __future__ import annotations

import math
from typing import TypeAlias

from .arguments import Params
from .dtypes import DTYPES

Shape: TypeAlias = tuple[int, ...]
#: Bound of every position on an axis, cut off or not, and of an array's bytes: more than any memory, with room for
#: index arithmetic in 64 bits.
POSITIONS = 2**48


def spatial_axes(weight: Shape) -> int:
    """Count the spatial axes of a weight of that shape, which must be 1, 2 or 3."""
    if not 3 <= len(weight) <= 5:
        raise ValueError(f"weight must have 3, 4 or 5 axes (Cin, Cout // groups, *kernel), got shape {tuple(weight)}")
    return len(weight) - 2


def check_weight(params: Params, weight: Shape, bias: Shape | None) -> None:
    """Raise `ValueError` unless the shapes of weight and bias fit each other and `params`."""
    if len(weight) != params.ndim + 2:
        raise ValueError(f"weight must have {params.ndim + 2} axes (Cin, Cout // groups, *kernel), got shape {weight}")
    if min(weight) < 1:
        raise ValueError(f"weight must not have an empty axis, got shape {weight}")
    if weight[0] % params.groups:
        raise ValueError(f"groups must divide the {weight[0]} input channels, got {params.groups}")
    out_channels = weight[1] * params.groups
    if bias is not None and bias != (out_channels,):
        raise ValueError(f"bias must have shape ({out_channels},), one value per output channel, got {bias}")


def check_shapes(params: Params, x: Shape, weight: Shape, bias: Shape | None) -> None:
    """Raise `ValueError` unless the arrays' shapes fit each other and `params`."""
    check_weight(params, weight, bias)
    ndim = params.ndim
    if len(x) not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"x must have {ndim + 2} axes (batch, channels and {ndim} spatial, in the order of data_format) "
            f"or {ndim + 1} without the batch, got shape {x}"
        )
    channels = x[-1] if params.data_format == "channels_last" else x[-1 - ndim]
    if channels != weight[0]:
        raise ValueError(
            f"x must have as many channels as weight has rows, got {_count(channels, 'channel')} in x of shape {x} "
            f"({params.data_format}) and weight of shape {weight}" + _cure_of_channels(params, channels, x, weight)
        )
    if min(x[1:] if len(x) == ndim + 2 else x) < 1:
        raise ValueError(f"x must not have an empty channel or spatial axis, got shape {x}")


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


def check_bytes(name: str, shape: Shape, dtype: str, limit: int = POSITIONS, whose: str = "the limit is") -> None:
    """Raise `MemoryError` where an array of that shape, of one image at least, needs more than `limit` bytes."""
    needed = math.prod(max(size, 1) for size in shape) * DTYPES[dtype].size
    if needed > limit:
        raise MemoryError(f"the {name} of shape {shape} and dtype {dtype} needs {needed:,} bytes; {whose} {limit:,}")
