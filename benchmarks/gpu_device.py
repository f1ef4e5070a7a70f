"""The CUDA device for benchmarks.gpu_measure: events, peaks, and PyTorch with cuDNN beside the package."""

from __future__ import annotations

import itertools
import math
import platform
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np

import gpu_transconv as gtc

from .gpu_compile import compile_ahead, launches_of
from .gpu_measure import OURS, PEERS, PRECISIONS, Contenders, Task, Times

_PACKAGES = ("gpu_transconv", "numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "torch")
_COPY_BYTES = 2**30
_PRODUCT_SIZE = {"float32": 4096, "tf32": 8192, "float16": 8192, "bfloat16": 8192}
_MOST_COPIES = 16
#: No device's clock is much faster.
_CYCLES_PER_SECOND = 2e9


class CudaDevice:
    """The current CUDA device."""

    place = "cuda"

    def __init__(self, backend: str = "cupy", seed: int = 0) -> None:
        self._backend, self._seed = backend, seed
        self._layer: tuple[Any, ...] = ()

    def clock_calls(self, call: Callable[[], Any], count: int, ahead: float = 0.0) -> Times:
        """Time each call between two events on the current stream."""
        import torch

        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        if ahead > 0:
            torch.cuda._sleep(int(ahead * _CYCLES_PER_SECOND))
        start = time.perf_counter()
        for begin, end in pairs:
            begin.record()
            call()
            end.record()
        host = time.perf_counter() - start
        torch.cuda.synchronize()
        return Times([begin.elapsed_time(end) for begin, end in pairs], host)

    def cache_bytes(self) -> int:
        """Size of the second-level cache."""
        import torch

        return int(torch.cuda.get_device_properties(0).L2_cache_size)

    def error(self, result: Any, expected: Any) -> float:
        """Largest difference over the largest expected value."""
        if result.shape != expected.shape:
            return math.inf
        error = float((result.to(expected.dtype) - expected).abs().max() / expected.abs().max())
        return math.inf if math.isnan(error) else error

    def contenders(self, task: Task) -> Contenders:
        """Build the package's formulations and both modes of cuDNN on the same arrays."""
        import torch

        dtype, tf32 = PRECISIONS[task.precision]
        kind, last = getattr(torch, dtype), task.data_format == "channels_last"
        x, weight, bias = (array.to(kind) for array in self._arrays(task.layer))
        xs = _rotating(_contiguous(x, last), self.cache_bytes(), task)
        turn = itertools.cycle(range(len(xs)))
        function = getattr(torch.nn.functional, f"conv_transpose{task.layer.ndim}d")
        set_tf32(False)
        torch.backends.cudnn.benchmark = False
        expected = function(x.float(), weight.float(), bias.float(), **task.layer.geometry)
        builds: dict[str, Callable[[], Callable[[], Any]]] = {}
        if not (last and task.layer.ndim == 1):  # torch has no such memory format for one axis
            peer_weight = _formatted(weight, last)
            for name in PEERS:
                builds[name] = lambda name=name: _peer(function, xs, turn, peer_weight, bias, task, name, tf32)
        own = [x.movedim(1, -1) if last else x for x in xs]
        for name in OURS:
            builds[name] = lambda name=name: self._ours(own, turn, weight, bias, task, name, last)
        return Contenders(expected, builds)

    def compile_ahead(self, tasks: Sequence[Task], seconds: float) -> dict[str, Any]:
        """Compile the kernels of all `tasks`, as many as `seconds` allow; only CuPy's compiler works in threads."""
        if self._backend != "cupy":
            return {}
        from gpu_transconv.kernels.cupy.compile import warm_up
        from gpu_transconv.kernels.cupy.launch import device_properties

        return compile_ahead(launches_of(tasks, device_properties(0)), lambda launch: warm_up([launch], 0), seconds)

    def _arrays(self, layer: Any) -> Sequence[Any]:
        """Numbers between -1 and 1, the same in every precision and format."""
        import torch

        if not self._layer or self._layer[0] is not layer:
            generator = torch.Generator(self.place).manual_seed(zlib.crc32(layer.name.encode()) + self._seed)
            shapes = ((layer.n, layer.cin, *layer.spatial), layer.weight_shape, (layer.cout,))
            arrays = [torch.rand(shape, generator=generator, device=self.place) * 2 - 1 for shape in shapes]
            self._layer = (layer, arrays)
        return self._layer[1]

    def _ours(
        self, xs: Sequence[Any], turn: Any, weight: Any, bias: Any, task: Task, formulation: str, last: bool
    ) -> Callable[[], Any]:
        precision = "tf32" if PRECISIONS[task.precision][1] else "highest"
        layer = gtc.ConvTranspose(
            weight, bias, **task.layer.geometry, data_format=task.data_format, precision=precision,
            formulation=formulation, backend=self._backend,
        )  # fmt: skip
        return (lambda: layer(xs[next(turn)]).movedim(-1, 1)) if last else (lambda: layer(xs[next(turn)]))


def _peer(
    function: Any, xs: Sequence[Any], turn: Any, weight: Any, bias: Any, task: Task, name: str, tf32: bool
) -> Callable[[], Any]:
    import torch

    set_tf32(tf32)
    torch.backends.cudnn.benchmark = name == "cudnn_search"
    geometry = task.layer.geometry
    return lambda: function(xs[next(turn)], weight, bias, **geometry)


def _formatted(array: Any, last: bool) -> Any:
    import torch

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return array.contiguous(memory_format=formats[array.ndim]) if last and array.ndim in formats else array


def _contiguous(x: Any, last: bool) -> Any:
    """Contiguous in the data format; its shape is always channels first."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x.contiguous()


def _rotating(x: Any, cache: int, task: Task) -> list[Any]:
    """Copies of x, as many as it takes for a round of inputs and outputs to pass the second-level cache twice."""
    import torch

    copies = math.ceil(2 * cache / (task.plan.bytes + 1)) + 1
    return [x, *(x.clone(memory_format=torch.preserve_format) for _ in range(min(copies, _MOST_COPIES) - 1))]


def set_tf32(allowed: bool) -> None:
    """Whether PyTorch may round operands of float32 to TF32."""
    import torch

    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def measure_machine(device: CudaDevice) -> dict[str, Any]:
    """Name the device and measure its peaks: matrix products per precision, and a copy (bytes read plus written)."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cache_bytes": properties.L2_cache_size,
        "copy_gb_per_s": _copy_gb_per_s(device),
        "peak_tflops": {precision: _product_tflops(device, precision) for precision in PRECISIONS},
    }


def _copy_gb_per_s(device: CudaDevice) -> float:
    import torch

    source = torch.zeros(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / _median(device, lambda: target.copy_(source)) / 1e6


def _product_tflops(device: CudaDevice, precision: str) -> float:
    import torch

    dtype, tf32 = PRECISIONS[precision]
    set_tf32(tf32)
    size = _PRODUCT_SIZE[precision]
    a, b = (torch.rand((size, size), device="cuda").to(getattr(torch, dtype)) for _ in range(2))
    return 2 * size**3 / _median(device, lambda: a @ b) / 1e9


def _median(device: CudaDevice, call: Callable[[], Any]) -> float:
    device.clock_calls(call, 3)
    return statistics.median(device.clock_calls(call, 15).device_ms)


def versions() -> dict[str, str]:
    """Versions of Python, CUDA, cuDNN and of the installed packages that take part."""
    import torch

    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    found |= {"cudnn": str(torch.backends.cudnn.version()), "numpy": np.__version__}
    return found | {p.name: p.version for p in metadata.distributions() if p.name in _PACKAGES}
