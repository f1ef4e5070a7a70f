"""What a kernel should cost, counted in vector operations per output block, with no measuring.

The constants were read off one machine once (see docs/speed/performance.md); only ratios between kernels matter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, groupby

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.product import by_phase
from ..emit.registers import VECTOR_BYTES
from ..emit.row_ir import STRIDES
from ..geometry import fits_boxes
from .winograd import products_by_phase, saving, winograd_products
from .zones import choose_zones

#: Vector operations for a vector copied into a panel: a read, a write, and its share of the row's ends.
_COPY = 3.0
#: The same for a vector copied from channels last to first. Fitted: boxes take 1.2 to 1.6 times as long as without.
_TURN = 20.0
#: How much longer it takes to copy every so many-th element than as many neighbours, by shuffles; and by gathering,
#: which is for the steps without shuffles of their own. Chosen, not measured.
_THINNED, _GATHERED = 1.5, 8.0
#: What a tile takes for each tap besides its products, over those of one channel, where a panel is thinned out: matrix
#: products of espcn_equiv_x3 take 18.3 ms in runs, which sum taps and channels as one, and 22 ms in boxes.
_TAP = 0.2
#: Channels of an input with a step up to which boxes sum over taps and channels in one loop. Measured: with one channel
#: espcn_equiv_x3 takes 14.9 ms and not 17.1, with two monai_unet_t 6.0 and not 7.1; three make no difference.
_FLAT = 8
#: Places of a source block up to which boxes have a panel for each: with 1,024, fcn32s_up32 took 120 ms in boxes, and
#: 63 in runs.
_PLACES = 64
#: Input channels of a panel of gather in boxes. Chosen, not measured.
PANEL_CHANNELS = 64
#: Rows up to which gather in boxes interleaves results into pixels of channels. Chosen, not measured.
_LAST = 128
#: Vector operations for a vector of a tile that is added to sums in cache instead of being stored once.
_ADD = 5.0
#: Vector operations for an outer tap in scatter, for each vector of each channel besides its products. Fitted to eleven
#: layers of one and two output channels, 1.6 (9 x 9 taps) to 7.6, whose time was half or a third more than expected.
_OUTER_TAP = 4.0
#: How much more a product costs in boxes, which keep less of the weights close than runs of blocks do.
_BOX = 1.1
#: The same where the next panel comes in meanwhile. Fitted: boxes take 0.88 (torch41382) and 0.99 (encodec24_up4, both
#: 64 to 32 channels) times as long as runs, and 1.02 with twice the channels (hifigan_v1_up3).
_MOVING_BOX = 1.04
#: The same where the input has a step, which boxes copy once, and runs for every tap: with up to 64 channels, which are
#: one panel; with more, whose sums are put down in between; and where channels and taps are one loop. Fitted to eleven
#: layers: boxes take 0.94 (encodec24_up4, 32 channels) to 1.06 (encodec24_up1, 256) times as long as runs, and 0.84
#: with three channels (dcgan_l4_rgb).
_ONE_PANEL, _PANELS, _ONE_LOOP = 1.0, 1.06, 0.9
#: Rows of a tile below which it waits for its columns.
_ROWS = 2.0
#: Channels in, and channels out, from which computing blocks in pairs pays.
_MANY, _SEVERAL = 48, 12
#: Products per channel up to which it does.
_PHASES = 256
#: Vector operations for a row of a stamp of one channel, its taps on the innermost axis, that is added to the results:
#: 5 cycles, as many as 80 products take in vectors of 16.
_STAMP = 80.0
#: Vector operations in which a weight arrives from the caches: 1.5 cycles, see the log in docs/speed/performance.md.
_ARRIVAL = 1.5
#: Vector operations for a vector of a panel by the number of axes in pairs, whose inputs are differences. Fitted to 12
#: layers of 48 and 64 channels, of which pairs of two axes take 0.80 to 1.37 of the time of none: the choice is within
#: 0.04 of the best.
_DIFFERENCES = _COPY, 8.0, 12.0
#: Share of the time at which pairs must stay below to be worth it.
_WORTH = 0.95


def useful_products(plan: Plan) -> float:
    """Products per block of outputs of a group, none saved and none wasted."""
    product = by_phase(plan)
    return float(plan.in_channels // plan.groups * product.rows * product.taps)


@lru_cache(maxsize=1024)
def cost_of_runs(plan: Plan) -> float:
    """Cost of gather in runs of blocks."""
    axes = by_phase(plan).axes
    copied = math.prod(len(axis.shifts()) for axis in axes) * (plan.in_channels // plan.groups)
    products = _products_of_gather(plan) * (1.0 if paired_axes(plan) else choose_zones(plan).share)
    return products + _COPY * _thinned(axes) * copied


@lru_cache(maxsize=1024)
def cost_of_boxes(plan: Plan) -> float:
    """Cost of gather in boxes, infinite where it does not take the plan."""
    axes, (cin, cout) = by_phase(plan).axes, _channels(plan)
    places = math.prod(axis.step for axis in axes)
    if not fits_boxes(axes) or places > _PLACES:
        return math.inf
    widened, margin = _widened(axes[2]), _margin(axes) * places * _thinned(axes)
    if not plan.channels_last:
        box = (
            (_BOX if plan.dtype != plan.accumulate else _MOVING_BOX)
            if places == 1
            else _filled(axes, _lanes(plan)) * _box_with_step(axes, cin)
        )
        return box * widened * _products_of_gather(plan) + _COPY * margin * cin
    if plan.groups == 1 and cout * axes[2].stride * axes[1].stride <= _LAST:
        return _BOX * widened * useful_products(plan) * _waiting(_rows(axes[2], cout)) + _TURN * margin * cin
    return math.inf


def _box_with_step(axes: tuple[Axis, Axis, Axis], cin: int) -> float:
    """How much more a product costs in boxes where the input has a step."""
    if flat_channels(axes, cin):
        return _ONE_LOOP
    return (_ONE_PANEL if cin <= PANEL_CHANNELS else _PANELS) * (1 + _TAP / cin)


def flat_channels(axes: tuple[Axis, Axis, Axis], cin: int) -> bool:
    """Whether boxes of an input with a step sum over its channels and taps in one loop: where channels are few."""
    return cin <= _FLAT and any(axis.step > 1 for axis in axes)


@lru_cache(maxsize=1024)
def cost_of_stamps(plan: Plan) -> float | None:
    """Cost of scatter; None where there is no estimate: channels last, and where boxes would be too large."""
    axes, (cin, cout) = by_phase(plan).axes, _channels(plan)
    places = math.prod(axis.step for axis in axes)
    if not fits_boxes(axes) or plan.channels_last or places > _PLACES:
        return None
    sums = _ADD * by_phase(plan).rows * by_phase(plan).taps * math.ceil(cin / 64)
    products = _fill(plan) * useful_products(plan) * _waiting(cout * axes[2].kernel)
    products += _OUTER_TAP * cin * axes[0].kernel * axes[1].kernel
    return _BOX * _widened(axes[2]) * (products + sums) + _COPY * _margin(axes) * places * _thinned(axes) * cin


@lru_cache(maxsize=1024)
def cost_of_lines(plan: Plan) -> float:
    """Cost of scatter along lines of memory, whose rows are inputs: no zeros, and no vector that is not full."""
    product, inputs = by_phase(plan), math.prod(plan.in_spatial)
    stamps = _STAMP / (plan.in_channels // plan.groups * product.axes[2].kernel)
    return useful_products(plan) * inputs / math.prod(axis.blocks for axis in product.axes) * (1 + stamps)


def _fill(plan: Plan) -> float:
    """How many blocks there are room for in the vectors of all blocks, over those that there are."""
    blocks = max(plan.batch, 1) * math.prod(axis.blocks for axis in by_phase(plan).axes)
    return math.ceil(blocks / _lanes(plan)) * _lanes(plan) / blocks


def _products_of_gather(plan: Plan) -> float:
    """Cost of the products of gather's tiles alone."""
    rows = _rows(by_phase(plan).axes[2], _channels(plan)[1])
    if plan.channels_last:  # rows come in whole vectors
        lane = _lanes(plan)
        return useful_products(plan) * math.ceil(rows / lane) * lane / rows
    return _fill(plan) * useful_products(plan) * _waiting(rows)


def _rows(axis: Axis, cout: int) -> float:
    """Rows of a tile, in the mean: those of a run of phases of the innermost axis."""
    return cout * axis.stride / _runs(axis)


def _channels(plan: Plan) -> tuple[int, int]:
    return plan.in_channels // plan.groups, plan.out_channels // plan.groups


def _margin(axes: tuple[Axis, Axis, Axis]) -> float:
    """How much more input a box reads than it has blocks, by the margins of its outer axes."""
    return math.prod(1 + min(1.0, (_sources(axis) - 1) / 8) for axis in axes[:2])


def _widened(axis: Axis) -> float:
    """How much longer the rows of a panel are than those of the output's blocks."""
    return (axis.blocks + _sources(axis) - 1) / axis.blocks


def _filled(axes: tuple[Axis, Axis, Axis], lanes: int) -> float:
    """How many times as many columns the vectors of a small map have as its rows with their margins."""
    columns = axes[1].blocks * (axes[2].blocks + _sources(axes[2]) - 1)
    return -(-columns // lanes) * lanes / columns


def _sources(axis: Axis) -> int:
    """Inputs of one place that an output block reads."""
    return len({axis.source_of(tap)[0] for tap in range(axis.kernel)})


def _thinned(axes: tuple[Axis, Axis, Axis]) -> float:
    step = axes[2].step
    return 1.0 if step == 1 else _THINNED if step in STRIDES else _GATHERED


@lru_cache(maxsize=512)
def paired_axes(plan: Plan) -> tuple[int, ...]:
    """Axes on which gather computes blocks in pairs, which only `precision` "fast" allows."""
    if (
        plan.precision != "fast"
        or plan.channels_last
        or plan.in_channels // plan.groups < _MANY
        or plan.out_channels // plan.groups < _SEVERAL
    ):
        return ()
    axes = by_phase(plan).axes
    if any(axis.step > 1 for axis in axes):
        return ()
    able = [i for i in (1, 2) if saving(axes[i])]
    if math.prod(axes[i].stride * (3 if i in able else 1) for i in (1, 2)) > _PHASES:
        return ()
    lane = _lanes(plan)

    def cost(paired: tuple[int, ...]) -> float:
        """Vector operations per pair of channels, or the time in which the weights arrive."""
        blocks = math.prod(-(-axis.blocks // (2 if i in paired else 1)) for i, axis in enumerate(axes))
        weights = math.prod(axis.kernel * (2 - 2 * saving(axis) if i in paired else 1) for i, axis in enumerate(axes))
        each = (winograd_products if i in paired else products_by_phase for i in range(3))
        inputs = math.prod(len(products(axis).inputs) for products, axis in zip(each, axes, strict=True))
        vectors, copy = math.ceil(plan.batch * blocks / lane), _DIFFERENCES[len(paired)]
        products = weights * max(_ARRIVAL, vectors) + copy * inputs * vectors / (plan.out_channels // plan.groups)
        return products * (1.0 if paired else _WORTH)

    return min(((), *combinations(able, 1), tuple(able)), key=cost)


def _lanes(plan: Plan) -> int:
    return VECTOR_BYTES // DTYPES[plan.accumulate].size


def _waiting(rows: float) -> float:
    return max(rows, _ROWS) / rows


def _runs(axis: Axis) -> int:
    """Number of runs of neighbouring phases that read the input at the same shifts."""
    shifts = ([shift for _, shift in taps] for taps in axis.taps_by_phase())
    return sum(1 for _ in groupby(shifts))
