"""What the costs of all kernels count from: the sizes of a plan, and what its taps make of them."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from ....problem.axis import Axis
from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import kernel_axes
from ..emit.registers import VECTOR_BYTES


class AxisTaps(NamedTuple):
    """What costs depend on of an axis, whatever its sizes."""

    shifts: int  # that differ
    span: int  # source blocks from the first to the last that a block reads, but one
    sources: int  # source blocks that a block reads
    runs: tuple[tuple[int, int], ...]  # of neighbouring phases that read the input at the same shifts: phases, taps
    counts: tuple[int, ...]  # taps of the phases that have some


class Sizes(NamedTuple):
    """A plan as costs see it; what is said of channels is for each group."""

    axes: tuple[Axis, Axis, Axis]
    counts: tuple[int, int, int]  # blocks on each axis
    taps: tuple[AxisTaps, AxisTaps, AxisTaps]
    in_pixels: int  # of all images
    groups: int
    cin: int
    cout: int
    lanes: int
    images: int
    lines: int  # rows of blocks, of all images
    blocks: int  # of all images
    vectors: float  # of blocks
    volume: int  # taps
    useful: float  # products per block, none saved and none wasted
    places: int  # of a source block
    slots: int  # shifts of the input that differ
    phases: int
    tapped: int  # phases that have taps
    outer: int  # phases of the outer axes
    rows: float  # of a set of phases, in the mean
    results: float  # vectors of outputs


@lru_cache(maxsize=1024)
def sizes_of(plan: Plan) -> Sizes:
    """Count what the costs of all kernels have in common."""
    axes, lanes, images = kernel_axes(plan), VECTOR_BYTES // DTYPES[plan.accumulate].size, max(plan.batch, 1)
    d, h, w = axes
    taps_d, taps_h, taps_w = (_taps_of(axis) for axis in axes)
    counts = (d.blocks, h.blocks, w.blocks)
    cin, cout = plan.in_channels // plan.groups, plan.out_channels // plan.groups
    lines = images * counts[0] * counts[1]
    blocks, volume = lines * counts[2], d.kernel * h.kernel * w.kernel
    in_d, in_h, in_w = plan.in_spatial
    outputs = images * d.output_size * h.output_size * w.output_size
    return Sizes(
        axes, counts, (taps_d, taps_h, taps_w), images * in_d * in_h * in_w, plan.groups, cin, cout, lanes, images,
        lines, blocks, blocks / lanes, volume, float(cin * cout * volume), d.step * h.step * w.step,
        taps_d.shifts * taps_h.shifts * taps_w.shifts, d.stride * h.stride * w.stride,
        len(taps_d.counts) * len(taps_h.counts) * len(taps_w.counts), d.stride * h.stride,
        cout * w.stride / len(taps_w.runs), outputs * cout / lanes,
    )  # fmt: skip


def _taps_of(axis: Axis) -> AxisTaps:
    return _count_taps(axis.kernel, axis.stride, axis.dilation, axis.pad_low, axis.step)


@lru_cache(maxsize=256)
def _count_taps(kernel: int, stride: int, dilation: int, pad_low: int, step: int) -> AxisTaps:
    axis = Axis(1, kernel, stride, dilation, pad_low, 1, step)
    by_phase = [tuple(shift for _, shift in taps) for taps in axis.taps_by_phase()]
    return AxisTaps(
        len(axis.shifts()), axis.reach().span, len({axis.source_of(tap)[0] for tap in range(kernel)}),
        tuple((len(list(run)), len(shifts)) for shifts, run in groupby(by_phase)),
        tuple(len(shifts) for shifts in by_phase if shifts),
    )  # fmt: skip
