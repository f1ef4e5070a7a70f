"""What the kernel for Hopper needs beside CuPy, from NVIDIA's own bindings: NVRTC for sm_90a, and encoded tensor maps.

CuPy compiles for the device's capability, without the instructions of its architecture alone, and encodes no maps.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ... import cache_folder
from .memory import CupyArray
from .tensor_map import TensorMap

#: 128 bytes that only the driver reads.
EncodedMap: TypeAlias = np.ndarray[tuple[int], np.dtype[np.void]]
#: Maps that are kept: of so many plans, each on a few arrays.
_MOST_MAPS = 1024


def warpgroups_available(capability: tuple[int, int]) -> bool:
    """Whether a device has products of a warpgroup, and this environment what compiles them and encodes maps."""
    return capability == (9, 0) and find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


def machine_code(source: str, options: tuple[str, ...], name: str) -> tuple[Path, str]:
    """Compile a kernel, or find it in the cache folder: a file of machine code, and the kernel's name in it.

    Raises
    ------
    RuntimeError
        If NVRTC refuses the source, with its log.
    """
    from cuda.bindings import nvrtc

    version = nvrtc.nvrtcVersion()[1:]
    key = hashlib.sha256("\0".join((source, *options, name, *map(str, version))).encode()).hexdigest()[:24]
    path = cache_folder.folder() / "machine_code" / f"{key}.cubin"
    try:
        cubin = path.read_bytes()
    except OSError:
        cubin = compile_cubin(source, options, name)
        path = _keep(path, cubin)
    found = re.search(rb"\.text\.(\w+)\0", cubin)
    if found is None:
        raise RuntimeError(f"no kernel in the machine code of {name}")
    return path, found[1].decode()


def _keep(path: Path, content: bytes) -> Path:
    """Write a file so that no process sees a part of it; where the folder refuses, a temporary one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        cache_folder.warn_once(f"{path} cannot be written, so that kernels are compiled in every process: {error}")
        handle, name = tempfile.mkstemp(".cubin")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return Path(name)
    return path


def compile_cubin(source: str, options: tuple[str, ...], name: str) -> bytes:
    """Compile one kernel of a source."""
    from cuda.bindings import nvrtc as api

    def call(function: Any, *arguments: Any) -> Any:
        error, *values = function(*arguments)
        if error != api.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"cannot compile {name} with {' '.join(options)}: {error.name}\n{log()}")
        return values[0] if values else None

    def log() -> str:
        size = api.nvrtcGetProgramLogSize(program)[1]
        text = bytearray(size + 1)
        api.nvrtcGetProgramLog(program, text)
        return bytes(text).rstrip(b"\0").decode()

    program = call(api.nvrtcCreateProgram, source.encode(), b"kernel.cu", 0, [], [])
    call(api.nvrtcAddNameExpression, program, name.encode())
    call(api.nvrtcCompileProgram, program, len(options), [option.encode() for option in options])
    cubin = bytearray(call(api.nvrtcGetCUBINSize, program))
    call(api.nvrtcGetCUBIN, program, cubin)
    call(api.nvrtcDestroyProgram, program)
    return bytes(cubin)


def map_of(tensor: TensorMap, array: CupyArray) -> EncodedMap:
    """Return the map of an array, as CuPy passes it by value."""
    return encode(tensor, array.data.ptr)


@lru_cache(maxsize=_MOST_MAPS)
def encode(tensor: TensorMap, address: int) -> EncodedMap:
    """Encode the map of an array at an address.

    Raises
    ------
    RuntimeError
        If the driver refuses it.
    """
    from cuda.bindings import driver

    integers = [driver.cuuint64_t(number) for number in (*tensor.sizes, *tensor.strides)]
    small = [driver.cuuint32_t(number) for number in (*tensor.box, *tensor.steps)]
    # Elements are only moved, as whole numbers of their size.
    error, encoded = driver.cuTensorMapEncodeTiled(
        getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_UINT{8 * tensor.item}"),
        5, address, integers[:5], integers[5:], small[:5], small[5:],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(driver.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{tensor.swizzle}B"),
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )  # fmt: skip
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the driver refuses {tensor} at {address:#x}: {error.name}")
    content = ctypes.string_at(encoded.getPtr(), 128)
    return np.frombuffer(content, np.dtype((np.void, len(content)))).copy()
