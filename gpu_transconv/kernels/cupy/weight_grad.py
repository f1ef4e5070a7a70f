"""The gradient by the weight: which kernel, into how many parts the pixels are cut, and the launches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from ...problem.dtypes import DTYPES
from ...problem.plan import Plan
from ...problem.product import by_phase, outer
from .choose import busy, direct_slowdown, resident_blocks, shapes_for
from .geometry import geometry_bytes, index_bytes, pack_product
from .launch_plan import (
    NULL,
    OUT,
    THREADS,
    WEIGHT,
    Argument,
    Buffer,
    Bytes,
    KernelLaunch,
    LaunchPlan,
    Scalar,
    X,
    grid_over,
    index_scalar,
    typed,
)
from .tile_shapes import C_TYPES, SUM_BYTES, DeviceProperties, Tile, TileShape

#: Bytes of scratch memory for the partial sums, which also bounds the number of parts.
WORKSPACE_BYTES = 32 << 20
#: Pixels whose products are summed one after the other at most, if the workspace allows it: in float32 the error grows
#: with their number, and so much stays far below what the tolerance of the tests has for one sum.
_MOST_PIXELS = 1 << 14
#: Chunks that a part has at least, so that its beginning and its stores do not outweigh it; an estimate.
_LEAST_CHUNKS = 16
#: Pixels of a part of the direct kernel at least: some for each of its threads; an estimate.
_LEAST_PIXELS = 1024
#: Parts at most: below the limit of a grid's second axis.
_MOST_PARTS = 1 << 14
#: Chunks' time that a tile takes for its tables and its stores; an estimate, as are the next two.
_TILE_CHUNKS = 4
#: Multiply-adds' time of a read of the direct kernel, and of finding a pixel's place.
_READ_WORK, _PLACE_WORK = 6, 40
#: Threads of a block of the direct kernel, as its launch bounds in weight_grad_direct.cuh have it.
_DIRECT_THREADS = 128
#: Sums and fetched elements of a thread for which 255 registers are enough, as the cubins show: 96 are, 112 are not.
_MOST_HELD = 100
#: Blocks of the direct kernel that run at once on a multiprocessor, as its launch bounds have it.
_DIRECT_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class WeightTiles:
    """Tiles over the products of all taps, and the parts of the pixels."""

    plan: Plan
    tile: Tile
    read: str  # how channels are read, an `Input` of loaders.cuh
    tiles: int  # of one tap, in all groups
    parts: int
    cost: float  # multiply-adds that take as long at the arithmetic's peak, on a device that is full


@dataclass(frozen=True, slots=True)
class DirectWeights:
    """The kernel without tiles: channels and taps of a block, the number of blocks, and the parts of the pixels."""

    plan: Plan
    channels: int
    taps: int
    blocks: int
    parts: int
    cost: float  # in ordinary multiply-adds


WeightKernel: TypeAlias = WeightTiles | DirectWeights


def _weights(plan: Plan) -> int:
    return plan.weight_bytes // DTYPES[plan.dtype].size


def _sum_bytes(plan: Plan) -> int:
    return SUM_BYTES.get(plan.dtype, DTYPES[plan.dtype].size)


def _parts(plan: Plan, blocks: int, resident: int, units: int, least: int, most: int) -> int:
    """Parts of `units` pixels or chunks: enough to fill the device, none of more than `most` nor fewer than `least`."""
    wanted = max(-(-resident // blocks), -(-units // most))
    bound = min(WORKSPACE_BYTES // (_weights(plan) * _sum_bytes(plan)), _MOST_PARTS, units // least)
    parts = max(1, min(wanted, bound))
    return -(-units // -(-units // parts)) if units else 1


def fit_weight_tiles(plan: Plan, shape: TileShape, device: DeviceProperties, taps_inside: bool = False) -> WeightTiles:
    """Lay tiles of one shape over the products; with `taps_inside` a block goes through all taps."""
    rows, columns, count, depth = outer(plan)
    tile = Tile(shape, plan.dtype, "PLANES")
    tiles = plan.groups * -(-rows // shape.rows) * -(-columns // shape.pixels)
    chunks, resident = -(-depth // tile.depth), resident_blocks(shape, device)
    blocks = tiles if taps_inside else tiles * count
    parts = _parts(plan, blocks, resident, chunks, _LEAST_CHUNKS, -(-_MOST_PIXELS // tile.depth))
    work = tiles * count * (chunks + parts * _TILE_CHUNKS)
    effort = work * shape.rows * shape.pixels * tile.depth / shape.efficiency
    cost = effort / max(busy(blocks * parts, resident), 1e-9)
    if tile.panel_shared(index_bytes(plan)) > device.shared_per_block:
        cost = math.inf
    return WeightTiles(plan, tile, _read(plan), tiles, parts, cost)


def fit_direct_weights(plan: Plan, device: DeviceProperties) -> DirectWeights:
    """Lay the direct kernel's shares over a plan, and predict their cost."""
    rows, columns, count, depth = outer(plan)
    channels, taps = next((n for n in (1, 2, 4) if n >= columns), 4), 4 if plan.kernel[2] > 1 else 1
    blocks = plan.groups * rows * -(-columns // channels) * count // plan.kernel[2] * -(-plan.kernel[2] // taps)
    resident = device.multiprocessors * _DIRECT_BLOCKS
    parts = _parts(plan, blocks, resident, depth, _LEAST_PIXELS, _MOST_PIXELS * _DIRECT_THREADS)
    each = channels * taps
    effort = float(blocks) * depth * (each + _READ_WORK * (1 + each) + _PLACE_WORK)
    return DirectWeights(plan, channels, taps, blocks, parts, effort / max(busy(blocks * parts, resident), 1e-9))


def fit_best_tiles(plan: Plan, device: DeviceProperties, taps_inside: bool = False) -> WeightTiles:
    """Lay the tiles that should cost least."""
    tiled = (fit_weight_tiles(plan, shape, device, taps_inside) for shape in weight_shapes(plan, device))
    return min(tiled, key=lambda fitted: fitted.cost)


def weight_shapes(plan: Plan, device: DeviceProperties) -> tuple[TileShape, ...]:
    """Tiles whose sums leave a thread registers for what it fetches, which is much of half types by element."""
    shapes = shapes_for(plan, device)
    if _read(plan) == "PIXELS_16" or plan.dtype not in SUM_BYTES:
        return shapes

    def held(shape: TileShape) -> int:
        fetched = (shape.rows + shape.pixels) * Tile(shape, plan.dtype, "PLANES").depth
        return (shape.rows * shape.pixels + fetched) // shape.threads

    return tuple(shape for shape in shapes if held(shape) <= _MOST_HELD)


def _read(plan: Plan) -> str:
    """How channels are read, an `Input` of loaders.cuh."""
    rows, columns, *_ = outer(plan)
    width = 16 // DTYPES[plan.dtype].size
    wide = width > 1 and rows % width == columns % width == 0
    return ("PIXELS_16" if wide else "PIXELS") if plan.channels_last else "PLANES"


@lru_cache(maxsize=1024)
def choose_weight_grad(plan: Plan, device: DeviceProperties) -> WeightKernel:
    """Pick the gather kernel that should cost least."""
    best, direct = fit_best_tiles(plan, device), fit_direct_weights(plan, device)
    return direct if direct.cost * direct_slowdown(plan, device) < best.cost else best


@lru_cache(maxsize=1024)
def weight_gather_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch gather: the best kernel for the device, or, for tests, tiles of one shape; then the parts are added."""
    if not plan.batch:
        return _zeros(plan)
    chosen = fit_weight_tiles(plan, shape, device) if shape else choose_weight_grad(plan, device)
    parts: Argument = NULL if chosen.parts == 1 else _partial_sums(plan, chosen.parts)
    arguments = (X, WEIGHT, OUT, parts)
    if isinstance(chosen, DirectWeights):
        kernel = typed("weight_grad_direct", plan, C_TYPES[plan.dtype], chosen.channels, chosen.taps)
        shared = chosen.channels * chosen.taps * _DIRECT_THREADS * _sum_bytes(plan)
        launch = KernelLaunch(
            kernel, "weight_grad_direct.cuh", (chosen.blocks, chosen.parts, 1), (_DIRECT_THREADS, 1, 1), shared,
            (_geometry(plan), *arguments, index_scalar(plan, _weights(plan))),
        )  # fmt: skip
    else:
        kernel = typed("weight_grad_tile", plan, chosen.tile.name, f"gtc::{chosen.read}")
        launch = _tiles(chosen, kernel, outer(plan).number * chosen.tiles, arguments)
    if chosen.parts == 1:
        return LaunchPlan((), (), (launch,))
    return LaunchPlan((), (), (launch, _add_parts(plan, parts, chosen.parts)))


@lru_cache(maxsize=1024)
def weight_atomic_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch scatter by atomics: zeros, what each part of the pixels adds, then the rounding where there is any."""
    chosen = fit_weight_tiles(plan, shape, device, True) if shape else fit_best_tiles(plan, device, True)
    if not plan.batch:
        return _zeros(plan)
    if chosen.parts == 1:
        return LaunchPlan((), (), (_scatter(chosen, NULL, atomic=True),))
    if plan.accumulate == plan.dtype:
        return LaunchPlan((), (), (_add_parts(plan, NULL, 0), _scatter(chosen, OUT, atomic=True)))
    sums = Buffer("sums", _weights(plan) * _sum_bytes(plan), zeroed=True)
    return LaunchPlan((), (), (_scatter(chosen, sums, atomic=True), _add_parts(plan, sums, 1)))


@lru_cache(maxsize=1024)
def weight_parts_launches(plan: Plan, device: DeviceProperties, shape: TileShape | None = None) -> LaunchPlan:
    """Launch scatter into copies of the gradient, one for each part of the pixels, added in their order."""
    chosen = fit_weight_tiles(plan, shape, device, True) if shape else fit_best_tiles(plan, device, True)
    if not plan.batch:
        return _zeros(plan)
    if chosen.parts == 1:
        return LaunchPlan((), (), (_scatter(chosen, NULL, atomic=False),))
    parts = _partial_sums(plan, chosen.parts)
    return LaunchPlan((), (), (_scatter(chosen, parts, atomic=False), _add_parts(plan, parts, chosen.parts)))


def _geometry(plan: Plan) -> Bytes:
    return Bytes(geometry_bytes(pack_product(by_phase(plan))))


def _partial_sums(plan: Plan, parts: int) -> Buffer:
    return Buffer("parts", parts * _weights(plan) * _sum_bytes(plan))


def _tiles(chosen: WeightTiles, kernel: str, blocks: int, arguments: tuple[Argument, ...]) -> KernelLaunch:
    plan = chosen.plan
    shared, block = chosen.tile.panel_shared(index_bytes(plan)), (chosen.tile.shape.threads, 1, 1)
    every = (_geometry(plan), *arguments, index_scalar(plan, _weights(plan)))
    return KernelLaunch(kernel, "weight_grad.cuh", (blocks, chosen.parts, 1), block, shared, every)


def _scatter(chosen: WeightTiles, sums: Argument, atomic: bool) -> KernelLaunch:
    types = chosen.tile.name, f"gtc::{chosen.read}", str(atomic).lower()
    kernel = typed("weight_grad_scatter", chosen.plan, *types)
    return _tiles(chosen, kernel, chosen.tiles, (X, WEIGHT, OUT, sums))


def _add_parts(plan: Plan, parts: Argument, count: int) -> KernelLaunch:
    kernel = typed("weight_grad_add_parts", plan, C_TYPES[plan.dtype])
    arguments = (parts, OUT, index_scalar(plan, _weights(plan)), Scalar("int32", count))
    return KernelLaunch(kernel, "weight_grad.cuh", grid_over(_weights(plan)), (THREADS, 1, 1), 0, arguments)


def _zeros(plan: Plan) -> LaunchPlan:
    return LaunchPlan((), (), (_add_parts(plan, NULL, 0),))
