"""Compile CUDA C++ kernels for the host: one shared library per kernel, kept on disk by the hash of its sources."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from gpu_transconv.kernels import cupy

HERE = Path(__file__).parent
CACHE = HERE / "__pycache__"
#: The package's kernels.
KERNELS = Path(cupy.__file__).parent / "src"
_RUNTIME_UNIT = "".join(
    f'#include "{name}.cpp"\n' for name in ("runtime", "memory", "matrix_instructions", "asynchronous", "warpgroup")
)
_RUNTIME_FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror")
_KERNEL_FLAGS = ("-std=c++17", "-O1", "-w", "-fno-strict-aliasing", "-fsanitize=thread", "-DGTC_HOST")
#: What the kernels' headers include of the standard library: a third of a compilation.
_STANDARD = "".join(f"#include <{name}>\n" for name in ("cmath", "cstddef", "cstdint", "cstring", "utility"))
_SHARED_FLAGS = ("-fPIC", "-fvisibility=hidden", "-U_FORTIFY_SOURCE", "-fcf-protection=none")


class CompileError(RuntimeError):
    """The compiler refused a kernel; the message is the compiler's."""


class Kernel(NamedTuple):
    """A compiled kernel: its entry point, and per parameter its size and kind."""

    name: str
    library: ctypes.CDLL
    parameter_bytes: tuple[int, ...]
    #: One letter per parameter: c, a pointer to what is only read; p, another pointer; v, a value.
    parameter_kinds: str


def missing() -> str | None:
    """Say why kernels cannot be compiled here, or None."""
    found = compiler()
    return None if found else "kernels on the host need a C++17 compiler: install g++, or name one in CXX"


@lru_cache(maxsize=1)
def compiler() -> str | None:
    """Path of the C++ compiler."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


@lru_cache(maxsize=1)
def _machine_flags() -> tuple[str, ...]:
    """Use the machine's fused multiply-add; elsewhere fma is a slow call."""
    info = Path("/proc/cpuinfo")
    return ("-mfma",) if info.exists() and " fma " in info.read_text() else ()


@lru_cache(maxsize=1)
def runtime() -> ctypes.CDLL:
    """Load the library that runs kernels; its names are visible to them."""
    texts = [path.read_text() for path in (*sorted(HERE.glob("*.cpp")), *sorted(HERE.glob("*.h")))]
    return ctypes.CDLL(str(_build("\0".join(texts), _RUNTIME_UNIT, _RUNTIME_FLAGS, HERE)), mode=ctypes.RTLD_GLOBAL)


@cache
def load_kernel(source: Path, name: str) -> Kernel:
    """Compile the kernel that the expression `name` names in `source`, or find it in the cache, and load it."""
    runtime()
    unit = f'#include "{source.name}"\n#include "kernel_entry.h"\nKERNEL({name})\n'
    flags = (*_KERNEL_FLAGS, *_machine_flags())
    library = ctypes.CDLL(str(_build(_texts(source.parent), unit, flags, source.parent)))
    count = ctypes.c_uint.in_dll(library, "parameter_count").value
    sizes = ctypes.POINTER(ctypes.c_uint).in_dll(library, "parameter_bytes")
    kinds = ctypes.c_char_p.in_dll(library, "parameter_kinds").value or b""
    return Kernel(name, library, tuple(sizes[i] for i in range(count)), kinds.decode())


@cache
def _texts(folder: Path) -> str:
    """Return all that a kernel of `folder` may include."""
    paths = [*sorted(folder.glob("*.cuh")), *sorted(KERNELS.glob("*.cuh")), *sorted(HERE.glob("*.h"))]
    return "\0".join(path.name + "\0" + path.read_text() for path in paths)


@lru_cache(maxsize=1)
def _version() -> str:
    if reason := missing():
        raise CompileError(reason)
    return subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=True).stdout


def _build(texts: str, unit: str, flags: tuple[str, ...], folder: Path) -> Path:
    """Compile `unit`, which includes files of `folder`; `texts` is all that it may include."""
    key = "\0".join((texts, unit, *flags, *_SHARED_FLAGS, _version()))
    path = CACHE / f"host_cuda_{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if path.exists():
        return path
    CACHE.mkdir(exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:  # another process may be compiling the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _compile(path, unit, flags, folder)
    return path


@cache
def _standard_headers(flags: tuple[str, ...]) -> tuple[str, ...]:
    """Options to read the standard headers ready made; only g++ does it in this way."""
    if "Free Software Foundation" not in _version():
        return ()
    key = "\0".join((_STANDARD, *flags, *_SHARED_FLAGS, _version()))
    header = CACHE / f"host_cuda_{hashlib.sha256(key.encode()).hexdigest()[:24]}.h"
    ready = header.with_suffix(".h.gch")
    with open(header.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            header.write_text(_STANDARD)
            made = header.with_suffix(f".{os.getpid()}.gch")
            command = [str(compiler()), *flags, *_SHARED_FLAGS, "-x", "c++-header", str(header), "-o", str(made)]
            _call(command, "")
            made.replace(ready)
    return "-include", str(header)


def _compile(path: Path, unit: str, flags: tuple[str, ...], folder: Path) -> None:
    made = path.with_suffix(f".{os.getpid()}.o")
    try:
        headers = _standard_headers(flags) if "-DGTC_HOST" in flags else ()
        includes = (*headers, f"-I{folder}", f"-I{KERNELS}", f"-I{HERE}")
        _call([str(compiler()), *flags, *_SHARED_FLAGS, *includes, "-c", "-o", str(made), "-x", "c++", "-"], unit)
        shared = made.with_suffix(".so")  # linked without the sanitizer, whose calls runtime.cpp takes
        _call([str(compiler()), "-shared", "-o", str(shared), str(made)], "")
        shared.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _call(command: list[str], text: str) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(command)}\n{text}\n{done.stderr}")
