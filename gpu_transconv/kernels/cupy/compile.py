"""From a kernel's name to the kernel: one self-contained source, compiled once per device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Protocol

from .hopper_driver import machine_code
from .launch_plan import KernelLaunch
from .memory import refuse_capture

#: File of src/ -> the architecture that it is compiled for, where it has instructions of that one alone, for which CuPy
#: does not compile.
ARCHITECTURES = {"hopper_gather.cuh": "sm_90a", "hopper_probe.cuh": "sm_90a"}
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"\n', re.MULTILINE)


class CompiledKernel(Protocol):
    """A kernel as CuPy launches it, on the current stream."""

    def __call__(
        self, grid: tuple[int, int, int], block: tuple[int, int, int], args: tuple[object, ...], /, *, shared_mem: int
    ) -> None:
        """Enqueue the kernel; `shared_mem` counts bytes."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a compiler is given: NVRTC through CuPy here, and without a driver in the tests."""

    source: str
    options: tuple[str, ...]
    name: str  # expression of the kernel


@lru_cache(maxsize=16)
def read_source(name: str) -> str:
    """Return a .cuh file of src/ with the files that it includes in their places, each once.

    So a cache that knows the source's text knows everything that it is compiled from.
    """
    seen: set[str] = set()

    def expand(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = resources.files(__package__).joinpath("src", file).read_text(encoding="utf-8")
        parts = _INCLUDE.split(text.replace("#pragma once\n", "\n"))
        lines, line = [f'#line 1 "{file}"\n', parts[0]], parts[0].count("\n") + 1
        for include, rest in zip(parts[1::2], parts[2::2], strict=True):
            line += 1
            lines += [expand(include), f'#line {line} "{file}"\n', rest]
            line += rest.count("\n")
        return "".join(lines)

    return expand(name)


def program_of(source: str, kernel: str) -> Program:
    """Source, options and name expression of a kernel of the file `source`."""
    return Program(f"// {kernel}\n{read_source(source)}", ("-std=c++17",), kernel)


@lru_cache(maxsize=512)
def compiled(source: str, kernel: str, device: int) -> CompiledKernel:
    """Compile a kernel for the current device, whose number is `device`; CuPy keeps the binary on disk.

    All launches of a kernel share one function of the driver's, and with it one limit of dynamic shared memory. So
    the limit is what the device has, whatever the first launch needs.

    Raises
    ------
    RuntimeError
        If NVRTC refuses the source, with its log, or the stream is being captured, when no module can be loaded.
    """
    import cupy

    refuse_capture(f"the kernel {kernel} has not been compiled yet")
    program = program_of(source, kernel)
    name = program.name
    try:
        if source in ARCHITECTURES:
            path, name = machine_code(program.source, (*program.options, f"-arch={ARCHITECTURES[source]}"), name)
            module = cupy.RawModule(path=str(path))
        else:
            module = cupy.RawModule(code=program.source, options=program.options, name_expressions=(name,))
        function = module.get_function(name)
    except cupy.cuda.compiler.CompileException as error:
        capability = cupy.cuda.Device(device).compute_capability
        raise RuntimeError(f"cannot compile {kernel} of {source} for sm_{capability}:\n{error}") from error
    function.max_dynamic_shared_size_bytes = most_shared(device) - function.shared_size_bytes
    found: CompiledKernel = function
    return found


def most_shared(device: int) -> int:
    """Bytes of shared memory that a block may have at most."""
    import cupy

    attributes = cupy.cuda.Device(device).attributes
    most: int = attributes.get("MaxSharedMemoryPerBlockOptin", attributes["MaxSharedMemoryPerBlock"])
    return most


def warm_up(launches: Iterable[KernelLaunch], device: int) -> None:
    """Compile kernels ahead of their first launch."""
    for launch in launches:
        compiled(launch.source, launch.kernel, device)
