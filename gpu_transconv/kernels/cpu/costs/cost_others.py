"""What kernels should cost in problems that those of `cost` were not fitted to.

These are types of 16 bits, an input with a step, as it has in the gradient by the input, and sums of one order. Only
what differs between the kernels is counted: their products and what they copy.
"""

from __future__ import annotations

from ....problem.plan import Plan
from ..boxes.box_partition import PANEL_CHANNELS, flat_channels
from ..emit.row_ir import STRIDES
from ..gemm.zones import choose_zones
from ..tiles.filter_tile import FILTER_ROWS
from ..tiles.stencil_tile import LINES, most_taps
from .sizes import Sizes

#: Vector operations for a vector copied into a panel: a read, a write, and its share of the row's ends; and for one
#: copied from channels last to first, fitted: boxes take 1.2 to 1.6 times as long as without.
_COPY, _TURN = 3.0, 20.0
#: How much longer it takes to copy every so many-th element than as many neighbours, by shuffles; and by gathering,
#: which is for the steps without shuffles of their own. Chosen, not measured.
_THINNED, _GATHERED = 1.5, 8.0
#: What a tile takes for each tap besides its products, over those of one channel, where a panel is thinned out: matrix
#: products of espcn_equiv_x3 take 18.3 ms in runs, which sum taps and channels as one, and 22 ms in boxes.
_TAP = 0.2
#: How much more a product costs in boxes and in scatter, which keep less of the weights close than runs of blocks do;
#: and in boxes whose next panel comes in meanwhile. Fitted: they take 0.88 (torch41382) and 0.99 (encodec24_up4, both
#: 64 to 32 channels) times as long as runs, and 1.02 with twice the channels (hifigan_v1_up3).
_BOX, _MOVING_BOX = 1.1, 1.04
#: The same where the input has a step, which boxes copy once, and runs for every tap: with up to 64 channels, which are
#: one panel; with more, whose sums are put down in between; and where channels and taps are one loop. Fitted to eleven
#: layers: boxes take 0.94 (encodec24_up4, 32 channels) to 1.06 (encodec24_up1, 256) times as long as runs, and 0.84
#: with three channels (dcgan_l4_rgb).
_ONE_PANEL, _PANELS, _ONE_LOOP = 1.0, 1.06, 0.9
#: Vector operations for a vector of a tile that is added to sums in cache instead of being stored once, and for an
#: outer tap in scatter, for each vector of each channel.
_ADD, _OUTER_TAP = 5.0, 4.0
#: Vector operations for a set, a tap on d and a part of the taps on the height, for each vector of each channel of
#: stencils besides its products. Fitted to twelve layers: 1.6 (9 x 9 taps) to 4.0 (3 x 3, two rows).
_STEP = 3.0
#: The same where a tap on the height is alone in its phase, so that lines share nothing. Fitted to three random layers,
#: 2.8 to 4.6, which take 0.77 to 0.87 times as long in boxes.
_ALONE = 3.0
#: Products that take as long as adding up the lanes of a vector, and what else a sum takes once. Fitted to six layers.
_ADD_UP = 80.0
#: Rows of a tile below which it waits for its columns.
_ROWS = 2.0


def is_other(plan: Plan, sizes: Sizes) -> bool:
    """Whether a plan is such a problem."""
    return plan.dtype != plan.accumulate or sizes.places > 1 or plan.fixed_order


def cost_of_runs(plan: Plan, sizes: Sizes) -> float:
    """Cost of gather in runs of blocks."""
    return choose_zones(plan).share * _products(plan, sizes) + _copies(sizes, _COPY * sizes.slots)


def cost_of_boxes(plan: Plan, sizes: Sizes) -> float:
    """Cost of gather in boxes."""
    if plan.channels_last:
        products = _BOX * sizes.useful * _waiting(sizes.rows)
        return _widened(sizes) * products + _copies(sizes, _TURN * _margin(sizes) * sizes.places)
    if sizes.places == 1:
        more = _BOX if plan.dtype != plan.accumulate else _MOVING_BOX
    elif flat_channels(sizes.axes, sizes.cin):
        more = _ONE_LOOP * _filled(sizes)
    else:
        more = (_ONE_PANEL if sizes.cin <= PANEL_CHANNELS else _PANELS) * (1 + _TAP / sizes.cin) * _filled(sizes)
    return more * _widened(sizes) * _products(plan, sizes) + _copies(sizes, _COPY * _margin(sizes) * sizes.places)


def cost_of_stencils(sizes: Sizes) -> float:
    """Cost of gather by lines that share their input."""
    _, count_h, count_w = sizes.counts
    steps = 0.0
    for phases, taps_w in sizes.taps[2].runs:
        rows = phases * sizes.cout
        for taps in sizes.taps[1].counts:
            products = max(rows * taps, _ALONE if taps == 1 else 0.0)
            steps += taps_w * products + _STEP * 8 / LINES * -(-taps // most_taps(rows))
    columns = -(-count_w // sizes.lanes) * sizes.lanes / count_w
    return sizes.cin * sizes.axes[0].kernel * steps * columns * max(1.0, LINES / count_h)


def cost_of_filters(plan: Plan, sizes: Sizes) -> float:
    """Cost of gather by filters."""
    d, h, _ = sizes.axes
    padded, inner = -(-sizes.cin // sizes.lanes) * sizes.lanes, 0.0
    # A pixel of floats or wider is in two cache lines, which take a cycle each.
    lines = 2 if plan.dtype == plan.accumulate else 1
    for phases, taps in sizes.taps[2].runs:
        rows = phases * sizes.cout
        outputs = FILTER_ROWS * 2 // rows
        inner += phases * taps * max(1.0, (lines * outputs + rows) / (outputs * rows))
    return sizes.cout * (d.kernel * h.kernel * inner * padded + sizes.phases * _ADD_UP)


def cost_of_stamps(sizes: Sizes) -> float:
    """Cost of scatter, channels first."""
    d, h, w = sizes.axes
    sums = _ADD * sizes.cout * sizes.volume * -(-sizes.cin // 64)
    products = _fill(sizes) * sizes.useful * _waiting(float(sizes.cout * w.kernel))
    products += _OUTER_TAP * sizes.cin * d.kernel * h.kernel
    return _BOX * _widened(sizes) * (products + sums) + _copies(sizes, _COPY * _margin(sizes) * sizes.places)


def _products(plan: Plan, sizes: Sizes) -> float:
    """Cost of the products of gather's tiles alone."""
    if plan.channels_last:  # rows come in whole vectors
        return sizes.useful * -(-sizes.rows // sizes.lanes) * sizes.lanes / sizes.rows
    return _fill(sizes) * sizes.useful * _waiting(sizes.rows)


def _fill(sizes: Sizes) -> float:
    """How many blocks there are room for in the vectors of all blocks, over those that there are."""
    return -(-sizes.blocks // sizes.lanes) * sizes.lanes / sizes.blocks


def _filled(sizes: Sizes) -> float:
    """How many times as many columns the vectors of a small map have as its rows with their margins."""
    columns = sizes.counts[1] * (sizes.counts[2] + sizes.taps[2].sources - 1)
    return -(-columns // sizes.lanes) * sizes.lanes / columns


def _waiting(rows: float) -> float:
    return max(rows, _ROWS) / rows


def _widened(sizes: Sizes) -> float:
    """How much longer the rows of a panel are than those of the output's blocks."""
    return (sizes.counts[2] + sizes.taps[2].sources - 1) / sizes.counts[2]


def _margin(sizes: Sizes) -> float:
    """How much more input a box reads than it has blocks, by the margins of its outer axes."""
    d, h, _ = sizes.taps
    return (1 + min(1.0, (d.sources - 1) / 8)) * (1 + min(1.0, (h.sources - 1) / 8))


def _copies(sizes: Sizes, vectors: float) -> float:
    """What it takes to copy all channels, each so many vectors."""
    step = sizes.axes[2].step
    return (1.0 if step == 1 else _THINNED if step in STRIDES else _GATHERED) * vectors * sizes.cin
