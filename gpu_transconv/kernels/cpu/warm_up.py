"""Compile ahead what the first calls would compile: every kernel for the types that it gets with a dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from numba import types

from ...problem.dtypes import DTYPES
from ..kernel import Step
from . import input_grad, launch  # noqa: F401  (whose imports bring all kernels into KERNELS)
from .choose import ELEMENTWISE
from .emit.numbers import COUPLED, HALF_CODES
from .emit.registers import has_couples, has_masks
from .runtime import machine_code, notice
from .runtime.compiled import KERNELS, CompiledKernel, Signature
from .runtime.openmp import take_parts
from .runtime.parallel import on_numba_threads
from .runtime.team import dismiss, fork_join, is_possible, thread_entry
from .tiles.box_tile import box_table
from .tiles.channel_tile import channel_table
from .tiles.dot_tile import dot_table
from .tiles.filter_tile import filter_tiles
from .tiles.fir_tile import filter_table
from .tiles.flat_tile import flat_table
from .tiles.gemm_tile import tile_table
from .tiles.pixel_tile import pixel_table
from .tiles.stencil_tile import stencil_table
from .weight_grad.elementwise import elementwise_filters
from .weight_order import TILED

#: Kernels that start others, and how many numbers they get before the arguments of these.
_STARTERS = {on_numba_threads: 1, fork_join: 2}


def steps(dtypes: Iterable[str]) -> list[Step]:
    """List what calls with these dtypes need, each once."""
    notice.say_nothing()
    found: dict[object, Step] = {}
    for dtype in dtypes:
        tiles = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
        if tiles in TILED:
            for table in (
                tile_table, pixel_table, box_table, filter_table, flat_table, stencil_table, dot_table, channel_table,
                filter_tiles,
            ):  # fmt: skip
                sums = DTYPES[tiles].accumulate
                found.setdefault((table, sums), Step(table.__name__, dtype, partial(table, sums)))
        for find, half in _tables_of_halves(dtype):
            found[find, half] = Step(find.__name__, dtype, partial(find, sums, half))
        found.setdefault(take_parts, Step("take_parts", dtype, take_parts))
        if is_possible():
            found.setdefault(thread_entry, Step("thread_entry", dtype, thread_entry))
            found.setdefault(dismiss, Step("dismiss", dtype, partial(dismiss.compile, (types.int64, types.int64))))
        for name, kernel in KERNELS.items():
            if kernel is dismiss or (kernel is fork_join and not is_possible()):
                continue
            elementwise = kernel in (*ELEMENTWISE, elementwise_filters)
            kinds = {DTYPES[dtype].accumulate} if elementwise or kernel in _STARTERS else set()
            for stored in kinds if elementwise else kinds | ({tiles} & {*TILED}):
                for signature in signatures_of(kernel, stored):
                    found.setdefault((name, signature), Step(name, dtype, partial(kernel.compile, signature)))
    return list(found.values())


def _tables_of_halves(dtype: str) -> Iterator[tuple[Callable[..., int], int]]:
    """Tables of tiles for arrays of that type as they are stored, and kinds of these: see `numbers.HALF_CODES`."""
    if dtype in HALF_CODES and has_masks(2):
        for table in (box_table, stencil_table, filter_tiles, filter_table):
            yield table, HALF_CODES[dtype]
    if dtype == "bfloat16" and has_couples():
        yield from ((tile_table, True), (pixel_table, True), (box_table, COUPLED), (stencil_table, COUPLED))


def signatures_of(kernel: CompiledKernel, dtype: str) -> list[Signature]:
    """Types of the arguments that a kernel gets: arrays as they are stored, or in the type of their sums."""
    sums = getattr(types, DTYPES[dtype].accumulate)
    stored = types.uint16 if DTYPES[dtype].size == 2 else sums
    seconds = {sums}  # the weights, which are packed
    if kernel.__name__.startswith("weight_"):
        seconds = {stored}  # grad_output
    elif kernel in _STARTERS:
        seconds = {sums, stored}
    found: list[Signature] = []
    for second in sorted(seconds, key=str):
        arrays = [types.Array(kind, 1, "C") for kind in (stored, second, sums, stored)]
        part = (*arrays, types.Array(types.int64, 1, "C"), types.Array(sums, 2, "C"), types.int64)
        found.append((*[types.int64] * _STARTERS.get(kernel, 0), *part))
    return found


def place() -> str | None:
    """Folder that the machine code is in, or None where there is none."""
    return next((str(folder) for folder in machine_code.folders() if folder.is_dir()), None)
