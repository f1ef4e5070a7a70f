"""How scatter cuts small maps whose weights stay as they lie: see `scatter_points`."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ....problem.dtypes import DTYPES
from ....problem.plan import Plan
from ....problem.rewrites import is_plain
from ..emit.registers import VECTOR_BYTES
from ..geometry import Geometry
from ..partition import Partition, apart, even
from ..runtime.caches import fitted
from . import point_lists
from .meetings import count_meetings
from .point_lists import Points, cut_points, rows_of_sums

#: Bytes of the turned weights of a slab, which stay in the second-level cache. Measured: 128 KiB take 1.1 times as long
#: with 27 taps, whose sums are visited more often; with few inputs it makes no difference.
_SLAB = 384 * 1024
#: Bytes of the inputs of all taps up to which they are copied once, and not for each strip of channels. Measured: with
#: 768 KB of them, 192 to 192 channels, kernel 3, padded, on 4x4x4, take 0.87 ms so and 0.94 else.
_LISTED = 1 << 20
#: Taps up to which weights are turned: a slab of more has too few input channels. Chosen, not measured.
_TAPS = 128
#: Bytes of the sums of a strip up to which they stay in the second-level cache. Chosen, not measured.
_SUMS = 512 * 1024


class Strips(NamedTuple):
    """What is turned at a time; distances count elements."""

    listed: int  # whether the inputs of all taps are copied once
    apart: int  # from one tap of a slab to the next
    size: int  # of a slab
    tap: int  # from the weights of one tap to those of the next, where they lie in rows of output channels; else 0
    channel: int  # from the weights of an output channel to those of the next


class ScatterPoints(NamedTuple):
    """What the kernel `scatter_points` unpacks."""

    geometry: Geometry
    part: Partition
    points: Points
    strips: Strips


def takes(plan: Plan) -> bool:
    """Whether weights are turned: where there are lists, and the sums of a strip stay in the second-level cache."""
    sums = plan.batch * math.prod(plan.out_spatial) * 2 * VECTOR_BYTES
    # One tap needs no lists.
    return 1 < math.prod(plan.kernel) <= _TAPS and sums <= fitted(_SUMS) and point_lists.takes(plan)


def _lanes(plan: Plan) -> int:
    return VECTOR_BYTES // DTYPES[plan.accumulate].size


def depth_of(plan: Plan) -> int:
    """Input channels of a slab."""
    return even(plan.in_channels // plan.groups, max(8, fitted(_SLAB) // (2 * VECTOR_BYTES * math.prod(plan.kernel))))


def share_apart(plan: Plan) -> float:
    """Share of the taps whose inputs do not follow each other, as far as single axes tell."""
    inner = [axis for axis in plan.axes if axis.size > 1][plan.batch == 1 :]
    whole = [sum(len(axis.inputs_of(tap)) == axis.size for tap in range(axis.kernel)) / axis.kernel for axis in inner]
    return 1 - math.prod(whole)


def is_listed(plan: Plan) -> bool:
    """Whether the inputs of all taps are so few that they are copied once."""
    return count_meetings(plan) * plan.in_channels // plan.groups * DTYPES[plan.accumulate].size <= _LISTED


def cut_strips(plan: Plan, threads: int) -> ScatterPoints:
    """Share the problem out to `threads` threads; the order of every sum does not depend on their number."""
    geometry, part, points = cut_points(plan, threads)
    volume, lanes, depth = math.prod(plan.kernel), _lanes(plan), depth_of(plan)
    item = VECTOR_BYTES // lanes
    tap = apart(depth * 2 * lanes, item)
    first = points.starts[:, 0]
    counts = points.starts[:, -1] - first
    meets = counts > 0
    last = points.inputs[(first + counts - 1)[meets]]
    split = bool((last - points.inputs[first[meets]] >= counts[meets]).any()) or len(points.bounds) > 2
    listed = split and is_listed(plan)
    rows = points.inputs.size * points.pitch if listed else points.rows
    sums = int(rows_of_sums(points.tasks, points.bounds).max()) * 3 * lanes
    work = points.panel + rows + volume * tap + sums + 4 * lanes
    return ScatterPoints(
        geometry, part._replace(work=work), points._replace(depth=depth, rows=rows),
        Strips(int(listed), tap, volume * tap, 0, volume),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def phases_as_channels(plan: Plan) -> Plan | None:
    """One output channel of one long axis as a channel for each of its phases, which lie next to each other.

    None where the filter or the borders are no whole strides, or phases do not fill strips. The input is as before.
    """
    d, h, w = plan.axes
    whole = all(size % w.stride == 0 for size in (w.kernel, w.pad_low, w.output_size)) and w.dilation == 1
    one = plan.out_channels == 1 and plan.groups == 1 and not plan.channels_last and is_plain(d) and is_plain(h)
    if not (whole and one and w.stride >= 2 * _lanes(plan) and d.size == h.size == 1 < w.size and not plan.fixed_order):
        return None
    blocks = replace(
        w, kernel=w.kernel // w.stride, stride=1, pad_low=w.pad_low // w.stride, output_size=w.output_size // w.stride
    )
    return replace(plan, axes=(d, h, blocks), out_channels=w.stride, channels_last=True)


def takes_phases(plan: Plan) -> bool:
    """Whether phases are channels, with few inputs."""
    phases = phases_as_channels(plan)
    return phases is not None and takes(phases)


def cut_phases(plan: Plan, threads: int) -> ScatterPoints:
    """The same as `cut_strips` for a plan whose phases are channels."""
    phases = phases_as_channels(plan)
    assert phases is not None
    job, inputs = cut_strips(phases, threads), math.prod(plan.in_spatial)
    geometry = job.geometry._replace(x_channel=inputs, x_pixel=1)
    return job._replace(geometry=geometry, strips=job.strips._replace(tap=phases.out_channels, channel=1))
