"""What to launch, as data: kernel, grid, block, shared memory and arguments, worked out without a device.

The launcher gives these launches to CuPy; the host build of the kernels executes the same ones on NumPy buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import stamps
from .choose import DIRECT_THREADS, DirectGather, TiledProduct, choose_gather, fit_tiles, shapes_for
from .geometry import PackedProduct, geometry_bytes, index_bytes, index_type, is_covered, pack_product
from .owned_boxes import cut_output
from .tensor_map import TensorMap
from .tile_shapes import C_TYPES, PIECE, DeviceProperties, Tile, TileShape


@dataclass(frozen=True, slots=True)
class Buffer:
    """A pointer: one of the caller's arrays (x, weight, bias, out), `packed`, or scratch memory of this call.

    The caller's arrays have ``size`` 0. The others hold `size` bytes, all zero at first where `zeroed`, and are
    aligned to 256 bytes. Launches of one call that name the same scratch memory share it.
    """

    name: str
    size: int = 0
    zeroed: bool = False


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, by C type: int32, int64, float32, or pointer (only ever null)."""

    type: str
    value: float


@dataclass(frozen=True, slots=True)
class Bytes:
    """A struct by value."""

    value: bytes


Argument: TypeAlias = Buffer | Scalar | Bytes | TensorMap


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """One kernel launch: `kernel` is a name expression of the file `source` in src/, `shared` counts bytes."""

    kernel: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """Everything of one formulation: packing, once for many inputs, and the launches of every call.

    `layout` names how the weights are packed: calls with equal layouts can share them. Without `pack` the kernels
    read the weights as the caller has them.
    """

    layout: tuple[object, ...]
    pack: tuple[KernelLaunch, ...]
    launch: tuple[KernelLaunch, ...]

    @property
    def buffers(self) -> frozenset[Buffer]:
        """Memory that is not the caller's: packed weights and scratch memory."""
        arguments = (argument for one in (*self.pack, *self.launch) for argument in one.arguments)
        return frozenset(argument for argument in arguments if isinstance(argument, Buffer) and argument.size)


#: Works out the launches of one formulation and variant.
Planner: TypeAlias = Callable[[Plan, DeviceProperties], LaunchPlan]

#: The caller's arrays, and what stands for one that is not there.
X, WEIGHT, OUT, NULL = Buffer("x"), Buffer("weight"), Buffer("out"), Scalar("pointer", 0)
#: Bytes of PackedHeader in geometry.cuh: as much as an allocation is aligned to, so that the weights are too.
HEADER = 256
#: Threads per block of the kernels whose threads go over many elements each, and the most blocks: more than are
#: resident on any device.
THREADS, _MOST_BLOCKS = 256, 1 << 16


def plan_launches(
    plan: Plan, packed: PackedProduct | None, launch: tuple[KernelLaunch, ...], pack: str = "pack_weight"
) -> LaunchPlan:
    """Put the launches of a call, none for an empty batch, together with the one that packs weights for them."""
    if plan.batch == 0:
        launch = ()
    if packed is None:
        return LaunchPlan((), (), launch)
    frame, axes = packed.product.frame, packed.product.axes
    units = frame and tuple((axis.units, axis.taps, axis.phases) for axis in frame)
    strides = tuple(axis.stride for axis in axes) if frame else None
    layout = (packed.product.is_swapped, plan.precision, packed.pixels_first, units, strides)
    return LaunchPlan(layout, (_pack(pack, packed),), launch)


def _pack(kernel: str, packed: PackedProduct) -> KernelLaunch:
    plan = packed.plan
    kernel = typed(kernel, plan, C_TYPES[plan.dtype], str(plan.precision == "tf32").lower())
    arguments = (Bytes(geometry_bytes(packed)), WEIGHT, packed_weight(packed))
    return KernelLaunch(kernel, "pack.cuh", grid_over(packed.elements), (THREADS, 1, 1), 0, arguments)


def packed_weight(packed: PackedProduct) -> Buffer:
    """The packed weights: a header, which must be zero before, then the elements."""
    return Buffer("packed", HEADER + packed.elements * DTYPES[packed.plan.dtype].size, zeroed=True)


def bias_of(plan: Plan) -> Argument:
    """The bias, or a null pointer."""
    return Buffer("bias") if plan.has_bias else NULL


def index_scalar(plan: Plan, value: int) -> Scalar:
    """A number of the kernels' type of indices."""
    return Scalar("int32" if index_type(plan) == "int" else "int64", value)


def grid_over(elements: int) -> tuple[int, int, int]:
    """Grid of a kernel whose threads go over so many elements."""
    return max(1, min(_MOST_BLOCKS, -(-elements // THREADS))), 1, 1


def typed(kernel: str, plan: Plan, *types: object) -> str:
    """Name expression of a kernel: its template's arguments, the last of them the type of indices."""
    return f"gtc::{kernel}<{','.join(map(str, types))},{index_type(plan)}>"


@lru_cache(maxsize=1024)
def gather_launches(
    plan: Plan, device: DeviceProperties, shape: TileShape | None = None, packed: PackedProduct | None = None
) -> LaunchPlan:
    """Launch gather; the best kernel for the device, or, for tests, tiles of one shape over one product."""
    chosen = fit_tiles(packed, shape, device) if packed and shape else choose_gather(plan, device)
    if isinstance(chosen, DirectGather):
        return direct_launches(plan, chosen)
    return plan_launches(plan, chosen.packed, _gather_tiles(chosen))


def direct_launches(plan: Plan, chosen: DirectGather) -> LaunchPlan:
    """Launch gather without tiles."""
    name = "gather_rows" if chosen.row_stride else "gather_direct"
    sizes = [chosen.row_stride, chosen.channels] if chosen.row_stride else [chosen.channels, chosen.pixels]
    computed, grid = chosen.packed.plan, (-(-chosen.shares // DIRECT_THREADS), 1, 1)
    kernel = typed(name, computed, C_TYPES[plan.dtype], *sizes)
    geometry, shares = Bytes(geometry_bytes(chosen.packed)), Scalar("int64", chosen.shares)
    arguments = (geometry, X, WEIGHT, bias_of(computed), OUT, shares)
    launch = KernelLaunch(kernel, f"{name}.cuh", grid, (DIRECT_THREADS, 1, 1), 0, arguments)
    return plan_launches(plan, None, (launch,))


def _gather_tiles(chosen: TiledProduct) -> tuple[KernelLaunch, ...]:
    """Sum the tiles; where the reduction is split, into scratch memory, and add the parts."""
    plan, tile, shape = chosen.packed.plan, chosen.tile, chosen.tile.shape
    geometry, block = Bytes(geometry_bytes(chosen.packed)), (shape.threads, 1, 1)
    rows, shared = index_scalar(plan, chosen.row_tiles), tile.shared(index_bytes(plan))
    parts: Argument = NULL
    if chosen.parts > 1:
        parts = Buffer("parts", chosen.parts * chosen.tiles * shape.rows * shape.pixels * tile.sum_bytes)
    first = KernelLaunch(
        typed("gather_tile", plan, tile.name), "gather.cuh", (chosen.tiles, chosen.parts, 1), block, shared,
        (geometry, X, packed_weight(chosen.packed), bias_of(plan), OUT, parts, rows),
    )  # fmt: skip
    if chosen.parts == 1:
        return (first,)
    piece = Tile(PIECE, plan.dtype, "PLANES")
    pieces = chosen.tiles * (shape.rows // PIECE.rows) * (shape.pixels // PIECE.pixels)
    numbers = (Scalar("int32", number) for number in (chosen.parts, shape.rows, shape.pixels))
    add = KernelLaunch(
        typed("gather_add_parts", plan, piece.name), "gather.cuh", (pieces, 1, 1), (PIECE.threads, 1, 1),
        piece.shared(index_bytes(plan)), (geometry, parts, bias_of(plan), OUT, rows, *numbers),
    )  # fmt: skip
    return first, add


@lru_cache(maxsize=1024)
def scatter_atomic_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch scatter by atomics: zeros or the bias, the stamps, then activation and rounding where there are any.

    Stamps that do not overlap are stored instead, over the bias where they leave gaps.
    """
    chosen = _fit_stamps(plan, device, shape)
    size = plan.output_bytes // DTYPES[plan.dtype].size
    exclusive = all(axis.has_disjoint_stamps for axis in plan.axes)
    geometry, bias = Bytes(geometry_bytes(chosen.packed)), bias_of(plan)
    if exclusive:
        stamp = _scatter_atomic(plan, chosen, exclusive, (bias, OUT, NULL))
        if all(is_covered(axis) for axis in plan.axes):
            return plan_launches(plan, chosen.packed, (stamp,))
        begin = elementwise("scatter_begin", plan, size, geometry, bias, OUT, Scalar("int32", 1))
        return plan_launches(plan, chosen.packed, (begin, stamp))
    widened = plan.accumulate != plan.dtype
    sums = Buffer("sums", size * chosen.tile.sum_bytes, zeroed=True) if widened else OUT
    launch = [_scatter_atomic(plan, chosen, exclusive, (NULL, NULL, sums))]
    if not widened:
        launch.insert(0, elementwise("scatter_begin", plan, size, geometry, bias, OUT, Scalar("int32", 0)))
    if widened or plan.activation:
        launch.append(elementwise("scatter_finish", plan, size, geometry, sums, bias if widened else NULL, OUT))
    return plan_launches(plan, chosen.packed, tuple(launch))


def _fit_stamps(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> TiledProduct:
    """Lay the tiles that cost least, or those of one shape, over the product of all stamps."""
    packed = pack_product(stamps(plan))
    shapes = (shape,) if shape else shapes_for(plan, device)
    return min((fit_tiles(packed, s, device) for s in shapes), key=lambda product: product.cost)


def _scatter_atomic(
    plan: Plan, chosen: TiledProduct, exclusive: bool, targets: tuple[Argument, Argument, Argument]
) -> KernelLaunch:
    """Make the stamps; `targets` are bias, output and sums."""
    kernel = typed("scatter_atomic", plan, chosen.tile.name, str(exclusive).lower())
    packed, geometry = packed_weight(chosen.packed), Bytes(geometry_bytes(chosen.packed))
    arguments = (geometry, X, packed, *targets, index_scalar(plan, chosen.row_tiles))
    block, shared = (chosen.tile.shape.threads, 1, 1), chosen.tile.shared(index_bytes(plan))
    return KernelLaunch(kernel, "scatter.cuh", (chosen.tiles, 1, 1), block, shared, arguments)


def elementwise(kernel: str, plan: Plan, size: int, *arguments: Argument) -> KernelLaunch:
    """Launch a kernel of scatter.cuh whose threads go over all results."""
    name = typed(kernel, plan, C_TYPES[plan.dtype])
    return KernelLaunch(name, "scatter.cuh", grid_over(size), (THREADS, 1, 1), 0, arguments)


@lru_cache(maxsize=1024)
def scatter_owned_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch scatter into boxes of the output that have one owner each."""
    owned = cut_output(plan, device, shape)
    tile, geometry = owned.tile, Bytes(geometry_bytes(owned.packed))
    arguments = (geometry, Bytes(owned.numbers), X, packed_weight(owned.packed), bias_of(plan), OUT)
    kernel, shared = typed("scatter_owned", plan, tile.name), tile.shared(index_bytes(plan)) + owned.sum_bytes
    block = (tile.shape.threads, 1, 1)
    launch = KernelLaunch(kernel, "scatter_owned.cuh", (owned.blocks, 1, 1), block, shared, arguments)
    return plan_launches(plan, owned.packed, (launch,))
