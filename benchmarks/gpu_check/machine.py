"""What a GPU machine is and can do: versions, driver, clocks, limits, and one call of every kernel against PyTorch."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

import gpu_transconv as gtc

from . import conformance
from .conformance import PROBES
from .measure import PRECISIONS, first_line

_PACKAGES = (
    "gpu_transconv", "numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "triton", "rich",
    "platformdirs", "pytest", "pytest-xdist", "hypothesis", "ml_dtypes", "cuda-bindings", "nvidia-nvvm",
)  # fmt: skip
_COPY_BYTES = 2**30
_PRODUCT_SIZE = {"float32": 4096, "tf32": 8192, "float16": 8192, "bfloat16": 8192}
#: What nvidia-smi is asked for.
_QUERY = (
    "name", "compute_cap", "driver_version",
    "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "temperature.gpu",
    "power.draw", "power.limit", "clocks_throttle_reasons.active", "ecc.mode.current", "mig.mode.current",
)  # fmt: skip
_FACTS = ("versions", "driver", "device", "libnvvm", "nvrtc")
#: Backend -> what its calls are tried in.
_CALLS = {"cupy": ("float32", "tf32", "float16", "bfloat16"), "numba-cuda": ("float32", "float16")}
_OPERATIONS = ("forward", "input_grad", "weight_grad")
_KINDS = {
    "gather": {"formulation": "gather"},
    "scatter_atomic": {"formulation": "scatter", "deterministic": False},
    "scatter_owned": {"formulation": "scatter", "deterministic": True},
}
#: Shapes of x and weight of those calls: every channel count of a tile, and pixels on both sides of a tile's edge.
_X, _WEIGHT = (2, 24, 17, 30), (24, 40, 4, 4)
_GEOMETRY = {"stride": 2, "padding": 1}
_ALLOWED = {"float32": 1e-5, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 4e-2}


def ask_driver() -> dict[str, str]:
    """What nvidia-smi says of the first device; a note where there is none."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return {"note": first_line(error)}
    return dict(zip(_QUERY, (word.strip() for word in done.stdout.splitlines()[0].split(",")), strict=False))


def step_names() -> list[str]:
    """Steps of a probe, most important first."""
    products = [f"product {precision}" for precision in PRECISIONS]
    calls = [
        f"call {backend} {operation} {kind} {precision}"
        for operation in _OPERATIONS
        for backend, precisions in _CALLS.items()
        for precision in precisions
        for kind in _KINDS
    ]
    return [*_FACTS, *_conformance(), "copy", *products, *calls]


def _conformance() -> list[str]:
    """On capability 9.0, before all else that runs there: what its matrix unit and tensor copies do."""
    return [f"matrix_unit {probe.name}" for probe in PROBES] if ask_driver().get("compute_cap") == "9.0" else []


def step(device: Any, name: str) -> dict[str, Any]:
    """Do one step; what is found, with a ``status`` where something is compared."""
    kind, *words = name.split()
    facts: dict[str, Callable[[], dict[str, Any]]] = {
        "versions": versions,
        "driver": ask_driver,
        "device": device_facts,
        "libnvvm": _libnvvm,
        "nvrtc": _nvrtc,
        "copy": lambda: {"gb_per_s": copy_gb_per_s(device)},
    }
    if kind in facts:
        return facts[kind]()
    if kind == "matrix_unit":
        return conformance.run(words[0])
    if kind == "product":
        return {"tflops": product_tflops(device, words[0])}
    return _call(*words)


def versions() -> dict[str, str]:
    """Versions of Python, CUDA, cuDNN and of the installed packages that take part."""
    import torch

    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda), "system": platform.platform()}
    found |= {"cudnn": str(torch.backends.cudnn.version()), "numpy": np.__version__}
    return found | {p.name: p.version for p in metadata.distributions() if p.name in _PACKAGES}


def device_facts() -> dict[str, Any]:
    """Name and sizes of the device."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cache_bytes": properties.L2_cache_size,
    }


def measure_machine(device: Any) -> dict[str, Any]:
    """Name the device and measure its peaks: matrix products per precision, and a copy (bytes read plus written)."""
    peaks = {precision: product_tflops(device, precision) for precision in PRECISIONS}
    return device_facts() | {"copy_gb_per_s": copy_gb_per_s(device), "peak_tflops": peaks}


def copy_gb_per_s(device: Any) -> float:
    """Measure a copy on the device, bytes read plus written."""
    import torch

    source = torch.zeros(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / _median(device, lambda: target.copy_(source)) / 1e6


def product_tflops(device: Any, precision: str) -> float:
    """Measure PyTorch's matrix product."""
    import torch

    dtype, tf32 = PRECISIONS[precision]
    set_tf32(tf32)
    size = _PRODUCT_SIZE[precision]
    a, b = (torch.rand((size, size), device="cuda").to(getattr(torch, dtype)) for _ in range(2))
    return 2 * size**3 / _median(device, lambda: a @ b) / 1e9


def _median(device: Any, call: Callable[[], Any]) -> float:
    device.clock_calls(call, 3)
    return statistics.median(device.clock_calls(call, 15).device_ms)


def set_tf32(allowed: bool) -> None:
    """Whether PyTorch may round operands of float32 to TF32."""
    import torch

    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def _libnvvm() -> dict[str, Any]:
    """Numba-CUDA compiles and runs a kernel, for which it must find libNVVM."""
    from numba import cuda

    @cuda.jit  # type: ignore[untyped-decorator,unused-ignore]
    def fill(out: Any) -> None:
        out[cuda.threadIdx.x] = cuda.threadIdx.x

    out = cuda.device_array(32, np.float32)
    fill[1, 32](out)
    return {"status": "ok" if (out.copy_to_host() == np.arange(32)).all() else "wrong", "note": "a kernel of Numba"}


def _nvrtc() -> dict[str, Any]:
    """CuPy compiles and runs a kernel."""
    import cupy

    source = 'extern "C" __global__ void fill(float* out) { out[threadIdx.x] = threadIdx.x; }'
    out = cupy.empty(32, np.float32)
    cupy.RawKernel(source, "fill")((1,), (32,), (out,))
    major, minor = cupy.cuda.nvrtc.getVersion()
    return {"status": "ok" if (out.get() == np.arange(32)).all() else "wrong", "nvrtc": f"{major}.{minor}"}


def _call(backend: str, operation: str, kind: str, precision: str) -> dict[str, Any]:
    """One call of a kernel class beside PyTorch in float32 without TF32."""
    import torch

    set_tf32(False)
    generator = torch.Generator("cuda").manual_seed(1)
    dtype = getattr(torch, PRECISIONS[precision][0])
    x, weight = ((torch.rand(s, generator=generator, device="cuda") * 2 - 1).to(dtype) for s in (_X, _WEIGHT))
    y = torch.nn.functional.conv_transpose2d(x.float(), weight.float(), **_GEOMETRY)
    given = {**_GEOMETRY, **_KINDS[kind], "backend": backend}
    given["precision"] = "tf32" if PRECISIONS[precision][1] else "highest"
    if operation == "forward":
        got, expected = gtc.conv_transpose2d(x, weight, **given), y
    else:
        grad = (torch.rand(y.shape, generator=generator, device="cuda") * 2 - 1).to(dtype)
        if operation == "input_grad":
            got = gtc.conv_transpose_input_grad(grad, weight, **given)
            expected = torch.nn.functional.conv2d(grad.float(), weight.float(), **_GEOMETRY)
        else:
            got = gtc.conv_transpose_weight_grad(x, grad, kernel_size=_WEIGHT[2:], **given)
            expected = torch.nn.grad.conv2d_weight(grad.float(), _WEIGHT, x.float(), **_GEOMETRY)
    error = float((got.float() - expected).abs().max() / expected.abs().max())
    return {"status": "ok" if error <= _ALLOWED[precision] else "wrong", "error": error, "note": f"error {error:.2g}"}
