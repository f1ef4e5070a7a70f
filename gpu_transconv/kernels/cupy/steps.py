"""What to launch, as data: kernel, grid, block, shared memory and arguments, worked out without a device.

The launcher gives these steps to CuPy; the host build of the kernels executes the same ones on NumPy buffers.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from .geometry import View, index_type, is_covered, pack_geometry, stamp_view
from .ownership import own
from .shapes import C_TYPES, DeviceFacts, Shape
from .tiles import Direct, Product, choose, fit, index_bytes, shapes_for

__all__ = [
    "Argument",
    "Buffer",
    "Bytes",
    "DeviceFacts",
    "Scalar",
    "Step",
    "Steps",
    "steps_gather",
    "steps_scatter_atomic",
    "steps_scatter_tiles",
]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A pointer: one of the caller's arrays (x, weight, bias, out), `packed`, or scratch memory of this call.

    The caller's arrays have ``size`` 0. The others hold `size` bytes, all zero at first where `zeroed`, and are
    aligned to 256 bytes. Steps of one call that name the same scratch memory share it.
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


Argument: TypeAlias = Buffer | Scalar | Bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel launch: `kernel` is a name expression of the source file `source`."""

    kernel: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything of one formulation: packing, once for many inputs, and the launches of every call.

    `layout` names how the weights are packed: calls with equal layouts can share them. Without `pack` the kernels
    read the weights as the caller has them.
    """

    layout: tuple[object, ...]
    pack: tuple[Step, ...]
    launch: tuple[Step, ...]


_X, _WEIGHT, _OUT = Buffer("x"), Buffer("weight"), Buffer("out")
_HEADER = 256
_THREADS = 256
#: Blocks of the kernels whose threads go over many elements each.
_MOST_BLOCKS = 1 << 16


def _steps(plan: Plan, view: View | None, launch: tuple[Step, ...]) -> Steps:
    if plan.batch == 0:
        launch = ()
    if view is None:
        return Steps((), (), launch)
    lines = view.lines and tuple((line.units, line.taps) for line in view.lines)
    layout = (plan.precision, view.pixels_first, lines, tuple(axis.stride for axis in view.axes) if lines else None)
    return Steps(layout, (_pack(view),), launch)


def _pack(view: View) -> Step:
    plan = view.plan
    kernel = _typed("pack_weight", plan, C_TYPES[plan.dtype], str(plan.precision == "tf32").lower())
    grid = _grid(view.packed_elements)
    return Step(kernel, "pack.cuh", grid, (_THREADS, 1, 1), 0, (Bytes(pack_geometry(view)), _WEIGHT, packed(view)))


def packed(view: View) -> Buffer:
    """The packed weights: a header, which must be zero before, then the elements."""
    return Buffer("packed", _HEADER + view.packed_elements * DTYPES[view.plan.dtype].size, zeroed=True)


def _bias(plan: Plan) -> Argument:
    return Buffer("bias") if plan.has_bias else Scalar("pointer", 0)


def _index(plan: Plan, value: int) -> Scalar:
    return Scalar("int32" if index_type(plan) == "int" else "int64", value)


def _grid(elements: int) -> tuple[int, int, int]:
    return max(1, min(_MOST_BLOCKS, -(-elements // _THREADS))), 1, 1


def _typed(kernel: str, plan: Plan, *types: object) -> str:
    return f"gtc::{kernel}<{','.join(map(str, types))},{index_type(plan)}>"


@lru_cache(maxsize=1024)
def steps_gather(plan: Plan, device: DeviceFacts, shape: Shape | None = None, view: View | None = None) -> Steps:
    """Launch gather; the best kernel for the device, or, for tests, tiles of one shape and view."""
    chosen = fit(view, shape, device) if view and shape else choose(plan, device)
    if isinstance(chosen, Direct):
        return _steps(plan, None, (_direct(plan, chosen),))
    return _steps(plan, chosen.view, _product(plan, chosen))


def _direct(plan: Plan, chosen: Direct) -> Step:
    kernel = _typed("gather_direct", plan, C_TYPES[plan.dtype], chosen.channels, chosen.pixels)
    arguments = (Bytes(pack_geometry(chosen.view)), _X, _WEIGHT, _bias(plan), _OUT, Scalar("int64", chosen.shares))
    return Step(kernel, "direct.cuh", (-(-chosen.shares // 128), 1, 1), (128, 1, 1), 0, arguments)


def _product(plan: Plan, chosen: Product) -> tuple[Step, ...]:
    tile, shape = chosen.tile, chosen.tile.shape
    geometry, block = Bytes(pack_geometry(chosen.view)), (shape.threads, 1, 1)
    rows = _index(plan, chosen.row_tiles)
    parts: Argument = Scalar("pointer", 0)
    if chosen.parts > 1:
        parts = Buffer("parts", chosen.parts * chosen.tiles * shape.rows * shape.pixels * tile.sum_bytes)
    first = Step(
        _typed("gather_tile", plan, tile.name), "gather.cuh", (chosen.tiles, chosen.parts, 1), block,
        tile.shared(index_bytes(plan)), (geometry, _X, packed(chosen.view), _bias(plan), _OUT, parts, rows),
    )  # fmt: skip
    if chosen.parts == 1:
        return (first,)
    add = Step(
        _typed("gather_add_parts", plan, tile.name), "gather.cuh", (chosen.tiles, 1, 1), block,
        tile.shared(index_bytes(plan)), (geometry, parts, _bias(plan), _OUT, rows, Scalar("int32", chosen.parts)),
    )  # fmt: skip
    return first, add


@lru_cache(maxsize=1024)
def steps_scatter_atomic(plan: Plan, device: DeviceFacts, shape: Shape | None = None) -> Steps:
    """Launch scatter by atomics: zeros or the bias, the stamps, then activation and rounding where there are any.

    Stamps that do not overlap are stored instead, over the bias where they leave gaps.
    """
    view = stamp_view(plan)
    products = [fit(view, s, device) for s in ([shape] if shape else shapes_for(plan, device))]
    chosen = min(products, key=lambda product: product.cost)
    size = plan.output_bytes // DTYPES[plan.dtype].size
    exclusive = all(axis.has_disjoint_stamps for axis in plan.axes)
    widened = plan.accumulate != plan.dtype and not exclusive
    geometry, bias, null = Bytes(pack_geometry(view)), _bias(plan), Scalar("pointer", 0)
    sums = Buffer("sums", size * chosen.tile.sum_bytes, zeroed=True) if widened else _OUT
    stamps = Step(
        _typed("scatter_atomic", plan, chosen.tile.name, str(exclusive).lower()), "scatter.cuh", (chosen.tiles, 1, 1),
        (chosen.tile.shape.threads, 1, 1), chosen.tile.shared(index_bytes(plan)),
        (geometry, _X, packed(view), *((bias, _OUT, null) if exclusive else (null, null, sums)),
         _index(plan, chosen.row_tiles)),
    )  # fmt: skip
    launch = [stamps]
    if exclusive:
        if not all(is_covered(axis) for axis in plan.axes):
            launch.insert(0, _elementwise("scatter_begin", plan, size, geometry, bias, _OUT, Scalar("int32", 1)))
        return _steps(plan, view, tuple(launch))
    if not widened:
        launch.insert(0, _elementwise("scatter_begin", plan, size, geometry, bias, _OUT, Scalar("int32", 0)))
    if widened or plan.activation:
        launch.append(_elementwise("scatter_finish", plan, size, geometry, sums, bias if widened else null, _OUT))
    return _steps(plan, view, tuple(launch))


def _elementwise(kernel: str, plan: Plan, size: int, *arguments: Argument) -> Step:
    name = _typed(kernel, plan, C_TYPES[plan.dtype])
    return Step(name, "scatter.cuh", _grid(size), (_THREADS, 1, 1), 0, arguments)


@lru_cache(maxsize=1024)
def steps_scatter_tiles(plan: Plan, device: DeviceFacts, shape: Shape | None = None) -> Steps:
    """Launch scatter into tiles of the output that have one owner each."""
    owned = own(plan, device, shape)
    tile, letter = owned.tile, "i" if index_type(plan) == "int" else "q"
    cut = struct.pack(f"=11{letter}", *owned.out, *owned.inputs, *owned.tiles, owned.channels, owned.channel_tiles)
    shared = tile.shared(index_bytes(plan)) + owned.channels * math.prod(owned.out) * tile.sum_bytes
    blocks = plan.batch * plan.groups * owned.channel_tiles * math.prod(owned.tiles)
    arguments = (Bytes(pack_geometry(owned.view)), Bytes(cut), _X, packed(owned.view), _bias(plan), _OUT)
    kernel = _typed("scatter_tiles", plan, tile.name)
    step = Step(kernel, "scatter_tiles.cuh", (blocks, 1, 1), (tile.shape.threads, 1, 1), shared, arguments)
    return _steps(plan, owned.view, (step,))
