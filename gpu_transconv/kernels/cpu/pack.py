"""Bring weights and bias into a `WeightOrder`, once for all plans that have it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...arrays.pool import outputs
from ...arrays.views import Array
from .arguments import Arguments, Table, flatten
from .complexes import real_parts, real_weight
from .depthwise import channel_boxes, channel_rows
from .emit.registers import VECTOR_BYTES
from .few import gather_filters, scatter_pixels
from .gemm.layout import Layout
from .gemm.pack_weight import Weights, pack_weight, scratch_size
from .geometry import make_geometry
from .runtime.parallel import run_parts
from .runtime.threads import thread_count
from .runtime.workspace import SMALL, stored, workspace
from .weight_order import WeightOrder, points_layout, rows_layout, stamps_layout

#: No channel.
_NONE = np.arange(0)


class TileWeights(NamedTuple):
    """Weights and bias in the order of a kernel's tiles."""

    weight: Array
    bias: Array


class Packed(NamedTuple):
    """Weights as the kernels take them."""

    #: None where every channel is computed element by element.
    tiles: TileWeights | None
    #: Output channels that are computed element by element: all where a kernel has no tiles, else those of which some
    #: weights are not finite. Times the zeros around the input, these would make NaN where by definition there is none.
    elementwise: Table


def pack(order: WeightOrder, weight: Array, bias: Array | None) -> Packed:
    """Pack finite weights, with zeros in place of the output channels that have others."""
    if order.swapped:
        return _pack_swapped(order, weight)
    parts, channels = 1, order.groups * weight.shape[1]
    if order.pack is None:
        return Packed(None, np.arange(channels))
    if weight.dtype.kind == "c":
        parts, weight, bias = 2, real_weight(weight), None if bias is None else real_parts(bias)
    used, columns = _used(weight, order), weight.shape[1]
    values = _values(order, order.groups * columns, bias)
    packed = order.pack(order, used, values)
    if packed is not None:
        return Packed(TileWeights(*packed), _NONE)
    every = np.arange(channels)
    finite = used.reshape(order.groups, order.cin, columns, -1).copy()
    wrong = (~np.isfinite(finite)).any((1, 3)).reshape(-1, parts).any(1)
    if wrong.all():
        return Packed(None, every)
    np.copyto(finite, 0, where=wrong.repeat(parts).reshape(order.groups, 1, columns, 1))
    packed = order.pack(order, finite.reshape(used.shape), values)
    assert packed is not None
    return Packed(TileWeights(*packed), every[wrong])


def pack_once(order: WeightOrder, channels: int, weight: Array, bias: Array | None) -> tuple[Array, Array] | None:
    """Pack finite floats for one call, perhaps as they are; None where only `pack` can."""
    if order.pack is None or order.taps is not None or weight.dtype.name not in ("float32", "float64"):
        return None
    as_it_is = bias is not None and bias.size == order.groups * order.cout
    return order.pack(order, weight, bias if as_it_is else _values(order, channels, bias))


def _pack_swapped(order: WeightOrder, weight: Array) -> Packed:
    """Pack the weights of a gradient by the input: on the way into the tiles, or else swapped before."""
    as_they_are = order.taps is None and weight.shape[0] == order.groups * order.cout
    if as_they_are and order.pack in (pack_rows, pack_stamps, pack_lines):
        packed = order.pack(order, weight, np.zeros(order.groups * order.cout, order.accumulate))
        if packed is not None:
            return Packed(TileWeights(*packed), _NONE)
    return pack(order._replace(swapped=False), _swap(order, weight), None)


def _swap(order: WeightOrder, weight: Array) -> Array:
    """The weights of `gpu_transconv.problem.rewrites.correlation`."""
    rows, columns, *kernel = weight.shape
    taps = weight.reshape(order.groups, rows // order.groups, columns, -1)
    swapped = np.ascontiguousarray(taps.swapaxes(1, 2)[..., ::-1])
    return swapped.reshape(order.groups * columns, rows // order.groups, *kernel)


def _used(weight: Array, order: WeightOrder) -> Array:
    """The weights of the taps that the order uses, contiguous."""
    if order.taps is None:
        return weight
    lifted = weight.reshape(*weight.shape[:2], *(1,) * (5 - weight.ndim), *weight.shape[2:])
    return np.ascontiguousarray(lifted[(..., *(slice(*ends) for ends in order.taps))])


def _values(order: WeightOrder, channels: int, bias: Array | None) -> Array:
    """The bias of every channel of the order, which may have several for one of the caller's."""
    count = order.groups * order.cout
    if bias is None:
        return np.zeros(count, order.accumulate)
    return bias.astype(order.accumulate).repeat(count // channels)


def pack_channels_last(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of a depthwise layer, channels last; what is not finite does no harm where there are no tiles."""
    return channel_rows.pack(order.plan, weight, values)


def pack_filters(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of a depthwise layer, channels first: of each channel its filters in the order of their use."""
    filters = weight.reshape(order.groups * order.cout, -1)
    ordered = filters[:, channel_boxes.order(order.axes)].astype(order.accumulate)
    return (ordered.reshape(-1), values) if np.isfinite(ordered).all() else None


def pack_dots(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights of few output channels, channels last; what is not finite does no harm there."""
    return gather_filters.pack(order.axes, weight, values)


def pack_taps(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of a depthwise layer as they are, channel by channel."""
    taps = weight.astype(order.accumulate).reshape(-1)
    return (taps, values) if np.isfinite(taps).all() else None


def pack_lines(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights of a gradient by the input as they are; what is not finite shows in the results."""
    return (weight if order.swapped else _swap(order, weight)).reshape(-1), values


def pack_as_it_is(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights of the rows of scatter along lines, which multiplies no zeros: what is not finite does no harm there."""
    return stored(weight), values


def pack_phases(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    """The same where phases are channels, which all have the bias of one."""
    return stored(weight), values.repeat(order.axes[2].stride)


def pack_pixels(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights of stamps of pixels, which multiply no zeros: what is not finite does no harm there."""
    return scatter_pixels.pack(weight, values)


def pack_rows(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of the rows of gather, and the bias that each row starts with."""
    packed = _pack_sets(order, weight)
    if packed is None:
        return None
    padded = np.zeros(values.size + 1, order.accumulate)
    padded[:-1] = values
    return packed, padded[_row_channels(order)]


@lru_cache(maxsize=64)
def _row_channels(order: WeightOrder) -> Table:
    """By row of gather, group after group, the channel whose bias it starts with or -1, and as much for a vector."""
    rows = rows_layout(order).row_channels
    groups = np.arange(order.groups)[:, None] * order.cout
    return np.append(np.where(rows < 0, -1, groups + rows).reshape(-1), np.full(VECTOR_BYTES, -1))


def pack_stamps(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of the rows of scatter."""
    packed = _pack_sets(order, weight)
    return None if packed is None else (packed, values)


def pack_points(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of the strips of gather by lists."""
    packed = _pack_sets(order, weight)
    return None if packed is None else (packed, values)


def _pack_sets(order: WeightOrder, weight: Array) -> Array | None:
    """Weights in the order of the sets of its layout, or None if some are not finite."""
    if order.coupled and order.cin % 2:  # the last channel is the second of a couple
        weight = np.insert(weight, order.cin - 1, 0, 1 if order.swapped else 0)
        order = order._replace(cin=order.cin + 1)
    arguments, scratch, size = _arguments(order)
    dtype = np.dtype(order.accumulate)
    packed = outputs.empty((size,), dtype, size * dtype.itemsize)
    threads = 1 if weight.nbytes < SMALL else thread_count()
    work = workspace((threads, scratch), dtype)
    source = stored(weight)
    finite = run_parts(pack_weight, threads, source, packed, packed[:0], source[:0], arguments.table, work) == 0
    return packed if finite else None


def _layout_of(order: WeightOrder) -> Layout:
    if order.pack is pack_points:
        return points_layout(order)
    return stamps_layout(order)[0] if order.pack is pack_stamps else rows_layout(order)


@lru_cache(maxsize=64)
def _arguments(order: WeightOrder) -> tuple[Arguments, int, int]:
    """What the packing kernel reads besides the weights; elements of a thread's scratch memory, and of the result."""
    layout = _layout_of(order)
    if order.swapped:  # the taps run backwards
        last = math.prod(order.plan.kernel) - 1
        layout = layout._replace(sources=np.where(layout.sources < 0, -1, last - layout.sources))
    arguments = flatten(Weights(make_geometry(order.plan), layout, int(order.swapped), order.unit))
    size = layout.weights * order.groups * order.cin // order.unit
    return arguments, scratch_size(layout, math.prod(order.plan.kernel)), size
