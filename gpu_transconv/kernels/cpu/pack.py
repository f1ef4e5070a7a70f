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
from .depthwise import channel_boxes, channels_last
from .emit.registers import VECTOR_BYTES
from .gemm.layout import Layout
from .gemm.pack_weight import Weights, pack_weight, scratch_size
from .geometry import make_geometry
from .runtime.parallel import run_parts
from .runtime.threads import thread_count
from .runtime.workspace import SMALL, stored, workspace
from .weight_order import WeightOrder, rows_layout, stamps_layout


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
    every = np.arange(order.groups * weight.shape[1])
    if order.pack is None:
        return Packed(None, every)
    parts = 1
    if weight.dtype.kind == "c":
        parts, weight, bias = 2, real_weight(weight), None if bias is None else real_parts(bias)
    used, columns = _used(weight, order), weight.shape[1]
    values = _values(order, order.groups * columns, bias)
    packed = order.pack(order, used, values)
    if packed is not None:
        return Packed(TileWeights(*packed), every[:0])
    finite = used.reshape(order.groups, order.cin, columns, -1).copy()
    wrong = (~np.isfinite(finite)).any((1, 3)).reshape(-1, parts).any(1)
    if wrong.all():
        return Packed(None, every)
    np.copyto(finite, 0, where=wrong.repeat(parts).reshape(order.groups, 1, columns, 1))
    packed = order.pack(order, finite.reshape(used.shape), values)
    assert packed is not None
    return Packed(TileWeights(*packed), every[wrong])


def _pack_swapped(order: WeightOrder, weight: Array) -> Packed:
    """Pack the weights of a gradient by the input: on the way into the tiles, or else swapped before."""
    as_they_are = order.taps is None and weight.shape[0] == order.groups * order.cout
    if as_they_are and order.pack in (pack_rows, pack_stamps, pack_lines):
        packed = order.pack(order, weight, np.zeros(order.groups * order.cout, order.accumulate))
        if packed is not None:
            return Packed(TileWeights(*packed), np.arange(0))
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


def pack_channels_last(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    """Weights of a depthwise layer, channels last; what is not finite does no harm there."""
    return channels_last.pack(order.plan, weight, values)


def pack_filters(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of a depthwise layer, channels first: of each channel its filters in the order of their use."""
    filters = weight.reshape(order.groups * order.cout, -1)
    ordered = filters[:, channel_boxes.order(order.axes)].astype(order.accumulate)
    return (ordered.reshape(-1), values) if np.isfinite(ordered).all() else None


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


def pack_rows(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of the rows of gather, and the bias that each row starts with."""
    layout = rows_layout(order)
    packed = _pack_sets(order, layout, weight)
    if packed is None:
        return None
    padded = np.zeros((order.groups, order.cout + 1), order.accumulate)  # row channel -1: zero
    padded[:, :-1] = values.reshape(order.groups, -1)
    rows = padded[:, layout.row_channels].reshape(-1)
    return packed, np.concatenate([rows, np.zeros(VECTOR_BYTES, rows.dtype)])


def pack_stamps(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    """Weights of the rows of scatter."""
    packed = _pack_sets(order, stamps_layout(order)[0], weight)
    return None if packed is None else (packed, values)


def _pack_sets(order: WeightOrder, layout: Layout, weight: Array) -> Array | None:
    """Weights in the order of the sets of `layout`, or None if some are not finite."""
    size, dtype = layout.weights * order.groups * order.cin // order.unit, np.dtype(order.accumulate)
    packed = outputs.empty((size,), dtype, size * dtype.itemsize)
    arguments, scratch = _arguments(order)
    threads = 1 if weight.nbytes < SMALL else thread_count()
    work = workspace((threads, scratch), dtype)
    source = stored(weight)
    finite = run_parts(pack_weight, threads, source, packed, packed[:0], source[:0], arguments.table, work) == 0
    return packed if finite else None


@lru_cache(maxsize=64)
def _arguments(order: WeightOrder) -> tuple[Arguments, int]:
    """What the packing kernel reads besides the weights, and the elements of scratch memory of a thread."""
    layout = stamps_layout(order)[0] if order.pack is pack_stamps else rows_layout(order)
    if order.swapped:  # the taps run backwards
        last = math.prod(order.plan.kernel) - 1
        layout = layout._replace(sources=np.where(layout.sources < 0, -1, last - layout.sources))
    arguments = flatten(Weights(make_geometry(order.plan), layout, int(order.swapped), order.unit))
    return arguments, scratch_size(layout, math.prod(order.plan.kernel))
