"""Launch the CPU kernels: flat views, tables, half types widened, one parallel region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ...arrays import Array
from ...plan import Plan
from .gather import gather
from .geometry import Geometry, make_geometry
from .scatter import scatter
from .threads import parallel_region

#: Pieces of work per thread, so that a slow piece does not leave the other threads idle.
_PIECES = 4


def launch_gather(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array) -> None:
    """Fill `out` by the gather formulation; the contract is in `gpu_transconv.kernels`."""
    _launch(gather, lambda g, pieces: pieces, plan, x, weight, bias, out)


def launch_scatter(plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array) -> None:
    """Fill `out` by the scatter formulation; the contract is in `gpu_transconv.kernels`."""
    _launch(scatter, _tiles_per_channel, plan, x, weight, bias, out)


def _tiles_per_channel(g: Geometry, pieces: int) -> int:
    channels = g.batch * g.groups * g.cout
    return max(1, min(-(-pieces // channels), max(g.out_d, g.out_h, g.out_w) // 64))


def _launch(
    kernel: Any, split: Callable[[Geometry, int], int], plan: Plan, x: Array, weight: Array, bias: Array | None, out: Array
) -> None:
    if plan.batch == 0:
        return
    sums = out if plan.dtype == plan.accumulate else np.empty(out.shape, plan.accumulate)
    if bias is None:
        bias = np.zeros(plan.out_channels, x.dtype)
    x, weight, bias = (array.astype(plan.accumulate, copy=False) for array in (x, weight, bias))
    geometry = make_geometry(plan)
    with parallel_region():
        pieces = split(geometry, _PIECES * numba.get_num_threads())
        kernel(x.reshape(-1), weight.reshape(-1), bias, sums.reshape(-1), geometry, pieces)
    if sums is not out:
        with np.errstate(over="ignore"):  # a sum beyond the half type's range is infinite, as in the definition
            out[...] = sums
