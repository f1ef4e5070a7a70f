"""Bring weights and bias into a `WeightOrder`, once for all plans that have it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...arrays.pool import outputs
from ...arrays.views import Array
from . import channel_boxes, depthwise_last
from .complexes import real_parts, real_weight
from .geometry import make_geometry
from .layout import Layout
from .packing import VECTOR_BYTES
from .parallel import run_parts
from .tables import Arguments, Table, flatten
from .threads import thread_count
from .weight_order import DEPTHWISE, DEPTHWISE_LAST, ELEMENTWISE, ROWS, STAMPS, WeightOrder, rows_layout, stamps_layout
from .weights import pack_weight, scratch_size
from .workspace import SMALL, stored, workspace


class Packed(NamedTuple):
    """Weights and bias in the order of a kernel, or None where it has no tiles."""

    weight: Array | None
    bias: Array | None
    #: Output channels that are computed element by element, because some of their weights are not finite: times the
    #: zeros around the input, these would make NaN where by definition there is none.
    elementwise: Table


def pack(order: WeightOrder, weight: Array, bias: Array | None) -> Packed:
    """Pack finite weights, with zeros in place of the output channels that have others."""
    every = np.arange(order.groups * weight.shape[1])
    if order.order == ELEMENTWISE:
        return Packed(None, None, every)
    parts = 1
    if weight.dtype.kind == "c":
        parts, weight, bias = 2, real_weight(weight), None if bias is None else real_parts(bias)
    used, columns = _used(weight, order), weight.shape[1]
    values = _values(order, order.groups * columns, bias)
    packed = _PACKERS[order.order](order, used, values)
    if packed is not None:
        return Packed(packed[0], packed[1], every[:0])
    finite = used.reshape(order.groups, order.cin, columns, -1).copy()
    wrong = (~np.isfinite(finite)).any((1, 3)).reshape(-1, parts).any(1)
    if wrong.all():
        return Packed(None, None, every)
    np.copyto(finite, 0, where=wrong.repeat(parts).reshape(order.groups, 1, columns, 1))
    packed = _PACKERS[order.order](order, finite.reshape(used.shape), values)
    assert packed is not None
    return Packed(packed[0], packed[1], every[wrong])


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


def _pack_depthwise_last(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array]:
    return depthwise_last.pack(order.plan, weight), values


def _pack_depthwise(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    filters = weight.reshape(order.groups * order.cout, -1)
    ordered = filters[:, channel_boxes.order(order.axes)].astype(order.accumulate)
    return (ordered.reshape(-1), values) if np.isfinite(ordered).all() else None


def _pack_rows(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    layout = rows_layout(order)
    packed = _pack_tiles(order, layout, weight)
    if packed is None:
        return None
    padded = np.zeros((order.groups, order.cout + 1), order.accumulate)  # row channel -1: zero
    padded[:, :-1] = values.reshape(order.groups, -1)
    rows = padded[:, layout.row_channels].reshape(-1)
    return packed, np.concatenate([rows, np.zeros(VECTOR_BYTES, rows.dtype)])


def _pack_stamps(order: WeightOrder, weight: Array, values: Array) -> tuple[Array, Array] | None:
    packed = _pack_tiles(order, stamps_layout(order)[0], weight)
    return None if packed is None else (packed, values)


def _pack_tiles(order: WeightOrder, layout: Layout, weight: Array) -> Array | None:
    """Weights in the order of `layout`, or None if some are not finite."""
    size, dtype = layout.weights * order.groups * order.cin, np.dtype(order.accumulate)
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
    layout = stamps_layout(order)[0] if order.order == STAMPS else rows_layout(order)
    return flatten(make_geometry(order.plan), layout), scratch_size(layout, math.prod(order.plan.kernel))


_PACKERS: dict[str, Any] = {
    DEPTHWISE_LAST: _pack_depthwise_last,
    DEPTHWISE: _pack_depthwise,
    STAMPS: _pack_stamps,
    ROWS: _pack_rows,
}
