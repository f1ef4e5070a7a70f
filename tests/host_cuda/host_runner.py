"""Run CUDA kernels on NumPy arrays: every access checked, see runtime.cpp."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from host_compiler import Kernel, load_kernel, runtime

from gpu_transconv.kernels.cupy.launch_plan import Argument, Buffer, Bytes, KernelLaunch
from gpu_transconv.kernels.cupy.tensor_map import TensorMap

Triple = tuple[int, int, int]

#: Free bytes on both sides of an array, so that none adjoins another.
_MARGIN = 4096
_ALIGNMENT = 256
_MESSAGE_BYTES = 512


class KernelFaultError(AssertionError):
    """A kernel accessed what it must not, raced, or waits for ever."""


class _Region(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("item", ctypes.c_uint32),
        ("writable", ctypes.c_uint32),
    )


def device_array(shape: Any, dtype: Any) -> np.ndarray:
    """Make an array of NaN patterns, aligned as the device's allocator would, with free memory around it."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.full(size + 2 * _MARGIN + _ALIGNMENT, 0xFF, np.uint8)
    start = _MARGIN + -(memory.ctypes.data + _MARGIN) % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def to_device(array: np.ndarray) -> np.ndarray:
    """Copy an array to where a kernel may read it."""
    copy = device_array(array.shape, array.dtype)
    copy[...] = array
    return copy


def run_kernel(
    source: Path,
    name: str,
    grid: Triple,
    block: Triple,
    arguments: Sequence[Any],
    shared_bytes: int = 0,
    names: Sequence[str] = (),
    races: bool = True,
    order: int = 0,
    read_by_maps: Sequence[np.ndarray] = (),
) -> None:
    """Run a kernel to its end.

    Parameters
    ----------
    source, name
        File of the kernel, and the C++ expression that names it there.
    arguments
        Arrays (of `device_array`, or any contiguous ones), None for a null pointer, NumPy scalars and bytes for what
        is passed by value.
    names
        What faults call the arguments.
    races
        Whether unordered accesses are looked for, and not only those outside the arrays.
    order
        Threads, and asynchronous copies, take their turns by chance where it is not 0; equal numbers, equal order.
    read_by_maps
        Arrays that are no arguments, but that tensor maps among them are of.

    Raises
    ------
    KernelFaultError
        At the first access that must not be, or where threads wait for others that never come.
    """
    kernel = load_kernel(source, name)
    values = _values(kernel, arguments)
    regions = _regions(kernel, arguments, names)
    regions += [_Region(b"x", array.ctypes.data, array.nbytes, array.itemsize, 0) for array in read_by_maps]
    smallest = min((region.item for region in regions if region.item > 1), default=2)  # scratch memory is bytes
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    failed = runtime().cuda_on_host_launch(
        kernel.library.entry,
        (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values)),
        (ctypes.c_uint * 3)(*grid),
        (ctypes.c_uint * 3)(*block),
        ctypes.c_uint(shared_bytes),
        (_Region * len(regions))(*regions),
        ctypes.c_uint(len(regions)),
        ctypes.c_uint(1 if smallest < 4 else 2),
        ctypes.c_int(races),
        ctypes.c_uint64(order * 0x9E3779B97F4A7C15 % 2**64),
        message,
        ctypes.c_uint(_MESSAGE_BYTES),
    )
    if failed:
        raise KernelFaultError(f"{name}: {message.value.decode()}")


def run_launches(
    launches: Iterable[KernelLaunch],
    folder: Path,
    arrays: Mapping[str, np.ndarray | None],
    races: bool = True,
    order: int = 0,
) -> None:
    """Run the launches of one call in order; `arrays` holds the caller's arrays, scratch memory is made here."""
    launches = list(launches)
    found = dict(arrays)
    for buffer in (argument for launch in launches for argument in launch.arguments if isinstance(argument, Buffer)):
        if buffer.name not in found:
            found[buffer.name] = device_array(buffer.size, np.uint8)
            if buffer.zeroed:
                found[buffer.name][:] = 0
        elif buffer.name not in arrays:
            assert found[buffer.name].size == buffer.size, f"scratch memory {buffer.name} has two sizes"
    for launch in launches:
        arguments = [_argument(argument, found) for argument in launch.arguments]
        names = [argument.name if isinstance(argument, Buffer) else "" for argument in launch.arguments]
        source = folder / launch.source
        run_kernel(source, launch.kernel, launch.grid, launch.block, arguments, launch.shared, names, races, order)


def _argument(argument: Argument, arrays: Mapping[str, np.ndarray | None]) -> Any:
    if isinstance(argument, Buffer):
        return arrays[argument.name]
    if isinstance(argument, Bytes):
        return argument.value
    if isinstance(argument, TensorMap):
        return tensor_map_bytes(argument, arrays[argument.buffer].ctypes.data)
    return None if argument.type == "pointer" else np.dtype(argument.type).type(argument.value)


def tensor_map_bytes(tensor: TensorMap, address: int) -> bytes:
    """Lay a tensor map out as struct TensorMap of hopper_on_host.h."""
    assert tensor.fault is None, tensor.fault
    assert address % 16 == 0, "the driver takes addresses that are multiples of 16"
    numbers = (*tensor.sizes, *tensor.box, *tensor.steps, tensor.item, tensor.swizzle)
    return struct.pack("@5Q17I5I", address, *tensor.strides, *numbers, *[0] * 5)


def _values(kernel: Kernel, arguments: Sequence[Any]) -> list[Any]:
    """The arguments' bytes; where a size is not the parameter's, the kernel would read something else."""
    assert len(arguments) == len(kernel.parameter_bytes), (
        f"{kernel.name} takes {len(kernel.parameter_bytes)} arguments, got {len(arguments)}"
    )
    values = []
    for i, (argument, size, kind) in enumerate(
        zip(arguments, kernel.parameter_bytes, kernel.parameter_kinds, strict=True)
    ):
        pointer = argument is None or isinstance(argument, np.ndarray)
        assert pointer == (kind != "v"), (
            f"{kernel.name}: argument {i} is {type(argument).__name__}, expected kind {kind}"
        )
        address = argument.ctypes.data if isinstance(argument, np.ndarray) else 0
        content = address.to_bytes(8, "little") if pointer else np.asarray(argument).tobytes()
        assert len(content) == size, f"{kernel.name}: argument {i} has {len(content)} bytes, the parameter {size}"
        aligned = (ctypes.c_uint64 * (-(-size // 8) + 1))()  # structs hold numbers of up to eight bytes
        ctypes.memmove(aligned, content, size)
        values.append(aligned)
    return values


def _regions(kernel: Kernel, arguments: Sequence[Any], names: Sequence[str]) -> list[_Region]:
    """The arrays among the arguments, once each; what only constant pointers name may not be written."""
    found: dict[int, _Region] = {}
    for i, (argument, kind) in enumerate(zip(arguments, kernel.parameter_kinds, strict=True)):
        if argument is None or kind == "v" or not argument.size:
            continue
        base = argument.ctypes.data
        name = (names[i] if names else f"argument {i}").encode()
        region = found.setdefault(base, _Region(name, base, argument.nbytes, argument.itemsize, 0))
        region.writable |= kind == "p"
    return list(found.values())
