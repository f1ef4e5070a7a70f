"""The gradient by x, scattered: the launches, and how many stamps they make.

Gathered it is the forward kernels' product of another problem, and `launch_plan.gather_launches` has it.
"""

from __future__ import annotations

from functools import lru_cache

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import tap_stamps
from .choose import TiledProduct, fit_tiles, shapes_for
from .geometry import PackedProduct, geometry_bytes, index_bytes, pack_product
from .launch_plan import (
    NULL,
    OUT,
    Argument,
    Buffer,
    Bytes,
    KernelLaunch,
    LaunchPlan,
    Scalar,
    X,
    elementwise,
    index_scalar,
    packed_weight,
    plan_launches,
    typed,
)
from .owned_boxes import cut_output
from .tile_shapes import DeviceProperties, Tile, TileShape


def fit_tap_stamps(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> TiledProduct:
    """Lay the tiles that cost least, or those of one shape, over the stamps of all phases."""
    packed = pack_product(tap_stamps(plan))
    shapes = (shape,) if shape else shapes_for(plan, device)
    return min((fit_tiles(packed, s, device) for s in shapes), key=lambda product: product.cost)


@lru_cache(maxsize=1024)
def input_atomic_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch scatter by atomics: zeros, the stamps of grad_output, then the rounding where there is any."""
    chosen = fit_tap_stamps(plan, device, shape)
    view, tile, geometry = chosen.packed.plan, chosen.tile, Bytes(geometry_bytes(chosen.packed))
    size = plan.input_bytes // DTYPES[plan.dtype].size
    widened = plan.accumulate != plan.dtype
    sums = Buffer("sums", size * tile.sum_bytes, zeroed=True) if widened else OUT
    add = KernelLaunch(
        typed("input_grad_atomic", view, tile.name), "input_grad_scatter.cuh", (chosen.tiles, 1, 1),
        (tile.shape.threads, 1, 1), _shared(chosen.packed, tile),
        (geometry, X, packed_weight(chosen.packed), sums, index_scalar(view, chosen.row_tiles)),
    )  # fmt: skip
    if widened:
        launch = (add, elementwise("scatter_finish", view, size, geometry, sums, NULL, OUT))
    else:
        launch = (elementwise("scatter_begin", view, size, geometry, NULL, OUT, Scalar("int32", 0)), add)
    return plan_launches(view, chosen.packed, launch, "pack_tap_stamps")


@lru_cache(maxsize=1024)
def input_owned_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch scatter into boxes of the gradient that have one owner each."""
    owned = cut_output(plan, device, shape)
    view, tile = owned.packed.plan, owned.tile
    arguments: tuple[Argument, ...] = (
        Bytes(geometry_bytes(owned.packed)), Bytes(owned.numbers), X, packed_weight(owned.packed), OUT,
    )  # fmt: skip
    launch = KernelLaunch(
        typed("input_grad_owned", view, tile.name), "input_grad_scatter.cuh", (owned.blocks, 1, 1),
        (tile.shape.threads, 1, 1), _shared(owned.packed, tile) + owned.sum_bytes, arguments,
    )  # fmt: skip
    return plan_launches(view, owned.packed, (launch,), "pack_tap_stamps")


def _shared(packed: PackedProduct, tile: Tile) -> int:
    """Bytes of shared memory of a tile and, behind it, of SourcePhase of source_phase.cuh."""
    index = index_bytes(packed.plan)
    return tile.shared(index) + source_phase_bytes(packed)


def source_phase_bytes(packed: PackedProduct) -> int:
    """Bytes of SourcePhase, a geometry and an offset, to the next multiple of 16."""
    return -(-(len(geometry_bytes(packed)) + 8) // 16) * 16
