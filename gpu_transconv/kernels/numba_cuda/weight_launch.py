"""Launch the gradient by the weight: which tile, and the scratch memory for partial sums."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ...problem.plan import Plan
from ...problem.sides import stamping
from ..kernel import Description, Operand
from . import choose, memory
from .compiled import kernel_name
from .cuda import Device, current_device
from .enqueue import Choice, Launch, elementwise, plain, prepare
from .traits import Cut, Tile
from .weight_cut import atomic_cuts, gather_cut, owned_cuts, parts_of_gather, work_of_weight


class Pass(NamedTuple):
    """One launch, and which part of the gradient it computes."""

    launch: Launch
    cut: Cut


def launch_gather(plan: Plan, x: Operand, grad: Operand, bias: None, out: Operand, packed: None) -> None:
    """Fill `out` by the gather formulation; the contract is `gpu_transconv.kernels.kernel.Kernel`."""
    x, grad, out = x.ravel(), grad.ravel(), out.ravel()
    device = current_device()
    ((run, cut),) = _gather(plan, device)
    if cut.parts == 1:
        run(x, grad, out)
        return
    with memory.workspace(device.number, cut.parts * cut.elements, plan.accumulate) as sums:
        run(x, grad, sums)
        elementwise("add_parts", plan, device, cut.elements, cut)(sums, out)


def launch_scatter_owned(plan: Plan, x: Operand, grad: Operand, bias: None, out: Operand, packed: None) -> None:
    """Fill `out` by scatter into copies of it, whose tiles have one owner each."""
    x, grad, out = x.ravel(), grad.ravel(), out.ravel()
    device = current_device()
    passes = _owned(plan, device)
    with memory.workspace(device.number, max(cut.parts * cut.elements for _, cut in passes), plan.accumulate) as sums:
        for run, cut in passes:
            run(x, grad, sums)
            elementwise("add_parts", plan, device, cut.elements, cut)(sums, out[cut.start : cut.start + cut.elements])


def launch_scatter_atomic(plan: Plan, x: Operand, grad: Operand, bias: None, out: Operand, packed: None) -> None:
    """Fill `out` by atomic additions; half types are summed in a workspace, in float32."""
    x, grad, out = x.ravel(), grad.ravel(), out.ravel()
    device = current_device()
    passes = _atomic(plan, device)
    if plan.dtype == plan.accumulate:
        ((run, cut),) = passes
        elementwise("scatter_fill", plan, device, cut.elements, cut)(grad, out)
        run(x, grad, out)
        return
    with memory.workspace(device.number, max(cut.elements for _, cut in passes), plan.accumulate) as sums:
        for run, cut in passes:
            part = out[cut.start : cut.start + cut.elements]
            elementwise("scatter_fill", plan, device, cut.elements, cut)(grad, sums)
            run(x, grad, sums)
            elementwise("scatter_finish", plan, device, cut.elements, cut)(sums, plan.slope, part)


def describe_gather(plan: Plan) -> Description:
    """Name the kernel that runs, and the memory of partial sums."""
    tile = _gather_tile(plan, current_device())
    cut = gather_cut(plan, tile)
    name = "weight_gather" if cut.parts == 1 else "weight_parts"
    return _describe(name, plan, tile, cut.parts * cut.elements if cut.parts > 1 else 0)


def describe_scatter_owned(plan: Plan) -> Description:
    """Name the kernel that runs, and the memory of the copies."""
    tile = _scatter_tile(plan, current_device())
    return _describe("weight_owned", plan, tile, max(cut.parts * cut.elements for cut in owned_cuts(plan, tile)))


def describe_scatter_atomic(plan: Plan) -> Description:
    """Name the kernel that runs, and the memory in which half types are summed."""
    tile = _scatter_tile(plan, current_device())
    in_place = plan.dtype == plan.accumulate
    return _describe("weight_atomic", plan, tile, 0 if in_place else max(c.elements for c in atomic_cuts(plan, tile)))


def gather_ratio(plan: Plan) -> float:
    """Work over the useful operations, with idle multiprocessors."""
    device = current_device()
    work = work_of_weight(plan, parts_of_gather(plan)[0])
    return choose.idle_ratio(choose.tile_count(_gather_tile(plan, device), work), device)


def scatter_ratio(plan: Plan) -> float:
    """The same of the scatters, whose launches have as many blocks for every copy."""
    device = current_device()
    tiles = choose.tile_count(_scatter_tile(plan, device), work_of_weight(plan, 1))
    return choose.SCATTER_WORK * choose.idle_ratio(tiles, device)


def _describe(name: str, plan: Plan, tile: Tile, sums: int) -> Description:
    return Description(kernel_name(name, replace(plain(plan), tile=tile)), sums * choose.item_size(plan))


def _gather_tile(plan: Plan, device: Device) -> Tile:
    work = work_of_weight(plan, parts_of_gather(plan)[0])
    return choose.choose_tile(choose.stamp_tiles(device), device, work)


def _scatter_tile(plan: Plan, device: Device) -> Tile:
    """Tiles as if there were one copy, so that the number of copies does not depend on them."""
    return choose.choose_tile(choose.stamp_tiles(device), device, work_of_weight(plan, 1))


@lru_cache(maxsize=1024)
def _gather(plan: Plan, device: Device) -> list[Pass]:
    tile = _gather_tile(plan, device)
    cut = gather_cut(plan, tile)
    return _prepare("weight_gather" if cut.parts == 1 else "weight_parts", plan, device, tile, [cut])


@lru_cache(maxsize=1024)
def _owned(plan: Plan, device: Device) -> list[Pass]:
    tile = _scatter_tile(plan, device)
    return _prepare("weight_owned", plan, device, tile, owned_cuts(plan, tile))


@lru_cache(maxsize=1024)
def _atomic(plan: Plan, device: Device) -> list[Pass]:
    tile = _scatter_tile(plan, device)
    return _prepare("weight_atomic", plan, device, tile, atomic_cuts(plan, tile))


def _prepare(name: str, plan: Plan, device: Device, tile: Tile, cuts: list[Cut]) -> list[Pass]:
    traits = replace(plain(plan), tile=tile)
    columns = choose.tile_count(tile, choose.Work(1, work_of_weight(plan, 1).columns, 1))
    chosen = [Choice(name, traits, columns * cut.row_tiles * cut.parts, tile.threads) for cut in cuts]
    return [Pass(prepare(stamping(plan), device, one, cut=cut), cut) for one, cut in zip(chosen, cuts, strict=True)]
