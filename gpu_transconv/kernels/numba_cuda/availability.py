"""Whether the backend can run here, and if not, what is missing and where to get it."""

from __future__ import annotations

import os
from importlib.util import find_spec

_INSTALL = "pip install 'numba-cuda[cu13]>=0.30.4,<0.31' (or [cu12], by the driver's CUDA version)"
_SIMULATOR = "or set NUMBA_ENABLE_CUDASIM=1 to run in Numba's simulator, which is slow and needs no GPU"
#: What compiles, by the name that NVIDIA's finder knows: its own name, and the wheel that has it.
_COMPILERS = {"nvvm": ("libNVVM", "nvidia-nvvm"), "nvrtc": ("NVRTC", "nvidia-cuda-nvrtc")}


def status() -> str | None:
    """Return None where the backend can run here, else what is missing; does not import Numba."""
    if find_spec("numba_cuda") is None:
        return f"the package numba-cuda is not installed; {_INSTALL}"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return None
    try:
        devices = _count_devices()
    except Exception as error:
        reason = " ".join(str(error).split())
        return (
            f"the CUDA driver cannot be used ({reason}); install NVIDIA's driver on a machine with a GPU, {_SIMULATOR}"
        )
    if not devices:
        return f"the CUDA driver sees no device; make one visible (CUDA_VISIBLE_DEVICES), {_SIMULATOR}"
    return next(filter(None, map(_missing, _COMPILERS)), None)


def _missing(library: str) -> str | None:
    """Return None where a library that compiles can be loaded, else why not and what to do."""
    title, package = _COMPILERS[library]
    try:
        _load(library)
    except Exception as error:
        reason = " ".join(str(error).split())
        return (
            f"{title}, which compiles the kernels, cannot be found ({reason}); pip install {package}, or set "
            f"CUDA_HOME to the folder of a CUDA toolkit; {_INSTALL} brings it too"
        )
    return None


def _count_devices() -> int:
    """Ask the driver, by NVIDIA's bindings, which Numba-CUDA brings."""
    from cuda.bindings import driver

    (started,) = driver.cuInit(0)
    if started != driver.CUresult.CUDA_SUCCESS and started != driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise RuntimeError(f"cuInit: {started.name}")
    return int(driver.cuDeviceGetCount()[1] or 0) if started == driver.CUresult.CUDA_SUCCESS else 0


def _load(library: str) -> None:
    from cuda import pathfinder

    pathfinder.load_nvidia_dynamic_lib(library)
