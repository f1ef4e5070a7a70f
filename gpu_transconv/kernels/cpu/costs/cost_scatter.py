"""What scatter should cost; see `cost` for the unit."""

from __future__ import annotations

import math
from functools import lru_cache

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..boxes.stamp_boxes import stamp_box
from ..gemm.blocking import PANEL_BYTES
from ..gemm.layout import PLANES
from ..geometry import fits_boxes
from ..runtime.caches import fitted
from ..tiles.gemm_tile import TILE_ROWS
from . import cost_others
from .cost import LINE, LOAD, MOVE, OUT, PLACES, ROW, beyond, count_boxes
from .sizes import sizes_of

#: A product; a vector of sums, begun with the bias and stored; a vector of input, for each chunk of channels; a tile;
#: a call.
_PRODUCT, _SUM, _ARRIVAL, _TILE, _CALL = 1.11, 30.0, 11.0, 490.0, 21000.0
#: Channels last: a vector that is copied and an output that is stored, both one element at a time.
_COPIED, _STORED = 70.0, 4.53
#: Along lines of memory: a product; a vector of stamps that begins with zeros; a row of a stamp of one channel that is
#: added to the results; a vector of inputs that is copied; a call. All but the call are 0.85 of the fit's, by the times
#: of these kernels and of lists on 19 small maps, one thread.
_LINE_PRODUCT, _ZEROS, _STAMP, _COPY, _LINE_CALL = 1.03, 18.0, 5.5, 6.0, 3700.0
#: A vector of weights from beyond the second-level cache.
FAR_WEIGHT = 0.984


@lru_cache(maxsize=1024)
def cost_of_stamps(plan: Plan) -> float:
    """Cost of scatter in boxes, infinite where these would be too large, or there is no estimate."""
    sizes = sizes_of(plan)
    if not fits_boxes(sizes.axes) or sizes.places > PLACES:
        return math.inf
    if cost_others.is_other(plan, sizes):
        return math.inf if plan.channels_last else cost_others.cost_of_stamps(sizes)
    (d, h, w), (span_d, span_h, span_w) = sizes.axes, (taps.span for taps in sizes.taps)
    chunks = -(-sizes.cout // max(1, PLANES // sizes.phases))
    channels = -(-sizes.cout // chunks)
    box = stamp_box(plan, by_phase(plan), chunks, channels * sizes.phases)
    boxes, vectors, moved, lines = count_boxes(sizes, box)
    pitch = box[2] + span_w
    panel = (box[0] + span_d) * ((box[1] + span_h) * pitch + 64)
    depth = max(1, min(sizes.cin, fitted(PANEL_BYTES) // (DTYPES[plan.accumulate].size * panel)))
    slabs, share, taps = -(-sizes.cin // depth), _share_of_taps(d) * _share_of_taps(h), d.kernel * h.kernel
    tiles = -(-channels * w.kernel // TILE_ROWS)
    cost = vectors * share * sizes.cin * (_PRODUCT * sizes.volume * sizes.cout + LOAD * taps * tiles * chunks)
    cost += _TILE * tiles * chunks * slabs * share * taps * boxes * box[0]
    cost += _SUM * vectors * sizes.cout * sizes.phases
    copy = _COPIED if plan.channels_last else MOVE
    cost += sizes.cin * chunks * moved * (copy + LINE / -(-pitch // sizes.lanes))
    cost += _ARRIVAL * chunks * sizes.in_pixels * sizes.cin / sizes.lanes
    cost += ROW * lines * sizes.cout * sizes.outer + OUT * sizes.results * beyond(plan.output_bytes)
    cost += _STORED * sizes.results * sizes.lanes if plan.channels_last else 0.0
    return (cost + _CALL / sizes.groups) / sizes.vectors


def _share_of_taps(axis: Axis) -> float:
    """Share of the taps of all blocks that exist, those of rows that lie inside."""
    return sum(len(axis.inputs_of(tap)) for tap in range(axis.kernel)) / (axis.kernel * axis.blocks)


@lru_cache(maxsize=1024)
def cost_of_lines(plan: Plan) -> float:
    """Cost of scatter along lines of memory, whose rows are inputs: no zeros, and no vector that is not full."""
    sizes = sizes_of(plan)
    weights = -(-sizes.cout * sizes.volume // sizes.lanes)  # of an input channel, in whole vectors
    inputs = sizes.in_pixels
    cost = inputs * weights * (_LINE_PRODUCT * sizes.cin + _ZEROS)
    cost += inputs * (_STAMP * sizes.volume * sizes.cout / sizes.axes[2].kernel + _COPY * sizes.cin / sizes.lanes)
    cost += FAR_WEIGHT * weights * sizes.cin * beyond(plan.weight_bytes)
    return (cost + _LINE_CALL / sizes.groups) / sizes.vectors
