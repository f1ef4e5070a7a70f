"""Compile ahead what gather needs: every kernel of a dtype and format, whatever the shapes will be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from ...problem.dtypes import DTYPES
from ..kernel import Step
from .choose import ROW_STRIDES, inputs_of, row_lanes, shapes_of, uses_tensor_cores
from .compile import compiled
from .launch import current_device, device_properties
from .tile_shapes import C_TYPES, PIECE, DeviceProperties, Tile


def gather_kernels(
    dtype: str, precision: str, channels_last: bool, device: DeviceProperties
) -> Iterator[tuple[str, str]]:
    """Source file and name of each, for arrays that 32-bit indices reach."""
    for shape in shapes_of(dtype, precision, channels_last, device):
        for read in inputs_of(shape, dtype, channels_last):
            yield "gather.cuh", f"gtc::gather_tile<{Tile(shape, dtype, read).name},int>"
    yield "gather.cuh", f"gtc::gather_add_parts<{Tile(PIECE, dtype, 'PLANES').name},int>"
    yield "pack.cuh", f"gtc::pack_weight<{C_TYPES[dtype]},{str(precision == 'tf32').lower()},int>"
    for channels in (1, 4):
        yield "gather_direct.cuh", f"gtc::gather_direct<{C_TYPES[dtype]},{channels},4,int>"
    lanes = row_lanes(dtype) if channels_last else 1
    for stride in ROW_STRIDES if lanes > 1 or not channels_last else ():
        yield "gather_rows.cuh", f"gtc::gather_rows<{C_TYPES[dtype]},{stride},{lanes},int>"


def hopper_kernels(
    dtype: str, precision: str, channels_last: bool, device: DeviceProperties
) -> Iterator[tuple[str, str]]:
    """Source file and name of each kernel for Hopper's matrix unit, where the device has it."""
    if not device.has_warpgroups or dtype not in ("float16", "bfloat16", "float32"):
        return
    kinds = ("2,2",) if (dtype, precision) == ("float32", "highest") else ("2", "4")
    for kind in kinds:
        yield "hopper_pack.cuh", f"gtc::hopper_steps<{kind[0]}>"
        yield "hopper_pack.cuh", f"gtc::hopper_pack<{C_TYPES[dtype]},{kind}>"
        for way in ("LOAD",) if dtype == "float32" else ("COPY", "LOAD"):
            source = f"gtc::{way}_{'LAST' if channels_last else 'FIRST'}"
            yield "hopper_gather.cuh", f"gtc::hopper_gather<{C_TYPES[dtype]},{source},{kind}>"


def place() -> str:
    """Folder in which CuPy keeps machine code."""
    import cupy

    folder: str = cupy.cuda.compiler.get_cache_dir()
    return folder


def steps(dtypes: Iterable[str]) -> list[Step]:
    """List what calls with these dtypes need on the current device, each once."""
    number = current_device()
    device = device_properties(number)
    found: dict[tuple[str, str], Step] = {}
    for dtype in (dtype for dtype in dtypes if dtype in C_TYPES):
        precisions = ["highest", "tf32"] if uses_tensor_cores(dtype, "tf32", device) else ["highest"]
        for precision in precisions if DTYPES[dtype].size == 4 else ["highest"]:
            for channels_last in (False, True):
                every = gather_kernels(dtype, precision, channels_last, device)
                for source, name in (*every, *hopper_kernels(dtype, precision, channels_last, device)):
                    found[source, name] = Step(
                        name.removeprefix("gtc::"), dtype, partial(compiled, source, name, number)
                    )
    return list(found.values())
