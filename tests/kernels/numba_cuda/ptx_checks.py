"""Compile Numba-CUDA kernels to PTX, and assemble that, without a driver."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from support.kept import installed, kept, sources

from gpu_transconv.kernels import numba_cuda

Capability = tuple[int, int]
#: From Turing to Blackwell, one of each generation.
COMPUTE_CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0), (12, 0))
#: The oldest and the newest.
ENDS = (COMPUTE_CAPABILITIES[0], COMPUTE_CAPABILITIES[-1])
#: What a block may have on all of these without asking for more.
MOST_REGISTERS, MOST_SHARED = 65536, 48 * 1024
#: Instructions that are indivisible; `bar.red` is a barrier, `.shared.` a memory space.
_ATOMIC = re.compile(r"(?<![\w.])(?:atom|red)\.")


@dataclass(frozen=True)
class Assembled:
    """One kernel on one compute capability: its PTX, and what the assembler says of it."""

    ptx: str
    registers: int
    shared: int
    stack: int
    spilled: int

    @property
    def is_atomic(self) -> bool:
        """Whether it has an atomic instruction."""
        return bool(_ATOMIC.search(self.ptx))


def compile_all(
    make: Callable[[], Any], signature: Any, capabilities: tuple[Capability, ...], folder: Path, *key: str
) -> list[tuple[Capability, Assembled]]:
    """Compile what `make` makes for compute capabilities, or find what an earlier run has kept.

    What it makes may depend on the sources of the kernels and on `key` alone.
    """
    versions = installed("numba", "numba-cuda", "nvidia-cuda-nvcc", "nvidia-cuda-nvvm", "nvidia-nvvm")
    written = sources(Path(numba_cuda.__file__).parent, "*.py")
    return kept(
        lambda: list(_compile_all(make(), signature, capabilities, folder)),
        *("ptx", versions, _assembler(), written, str(signature), str(capabilities), *key),
    )


def _compile_all(
    kernel: Any, signature: Any, capabilities: tuple[Capability, ...], folder: Path
) -> Iterator[tuple[Capability, Assembled]]:
    """Compile for compute capabilities.

    The front end, which takes a third of the time for five of them and knows no architecture, runs once:
    `numba.cuda.compile_ptx`, which does the same for one compute capability, would run it each time.
    """
    from numba.cuda import compiler

    library, _ = compiler._compile_pyfunc_with_fixup(
        kernel, signature, debug=None, lineinfo=False, device=False, fastmath=False, cc=(7, 5), opt=None,
        abi="numba", abi_info=None, forceinline=False, launch_bounds=None, lto=False,
    )  # fmt: skip
    for capability in capabilities:
        yield capability, _assemble(library.get_asm_str(cc=capability), capability, folder)


def _assemble(ptx: str, capability: tuple[int, int], folder: Path) -> Assembled:
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    architecture = "sm_{}{}".format(*capability)
    assert f".target {architecture}" in ptx
    command = [
        _assembler(),
        "--verbose",
        f"--gpu-name={architecture}",
        source,
        "--output-file",
        folder / "kernel.cubin",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def figure(pattern: str) -> int:
        found = re.search(pattern, done.stderr)
        return int(found[1]) if found else 0

    return Assembled(
        ptx,
        registers=figure(r"Used (\d+) registers"),
        shared=figure(r"(\d+) bytes smem"),
        stack=figure(r"(\d+) bytes stack frame"),
        spilled=figure(r"(\d+) bytes spill stores") + figure(r"(\d+) bytes spill loads"),
    )


@lru_cache(maxsize=1)
def _assembler() -> str:
    from cuda import pathfinder

    found = pathfinder.find_nvidia_binary_utility("ptxas")
    if found is None:
        pytest.fail("ptxas was not found; pip install nvidia-cuda-nvcc")
    return str(found)
