"""The CUDA device: events, graphs, PyTorch with cuDNN beside the package."""

from __future__ import annotations

import itertools
import math
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import gpu_transconv as gtc

from . import machine
from .compile_ahead import compile_ahead, launches_of
from .measure import FORMULATIONS, OURS, PEERS, PRECISIONS, Contender, Contenders, Task, Times

_MOST_COPIES = 16
#: No device's clock is much faster.
_CYCLES_PER_SECOND = 2e9
#: Blocks of a result's size that are filled with NaN and given back, more than a call takes.
_POISONED_BLOCKS = 4


class CudaDevice:
    """The current CUDA device.

    Raises
    ------
    RuntimeError
        If PyTorch has no CUDA device here.
    """

    place = "cuda"

    def __init__(self, backend: str = "cupy", seed: int = 0) -> None:
        import torch

        if self.place == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f"PyTorch {torch.__version__} sees no CUDA device; nvidia-smi shows what the driver does"
            )
        self._backend, self._seed = backend, seed
        self._layer: tuple[Any, ...] = ()

    @staticmethod
    def is_healthy() -> bool:
        """Whether this process's context still works; after an illegal access it never does again."""
        import torch

        try:
            torch.cuda.synchronize()
            return bool(torch.ones(1, device="cuda").item() == 1.0)
        except Exception:
            return False

    def conditions(self) -> dict[str, Any]:
        """Clocks, temperature, power and driver, now."""
        return machine.ask_driver()

    @staticmethod
    def step_names() -> list[str]:
        """Names of what `step` can do, most important first; needs no device."""
        return machine.step_names()

    def step(self, name: str) -> dict[str, Any]:
        """One step of a probe, see `machine`."""
        return machine.step(self, name)

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

    def clock_host(self, call: Callable[[], Any], count: int) -> float:
        """Time calls on the host alone, the device being idle at first."""
        import torch

        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        seconds = time.perf_counter() - start
        torch.cuda.synchronize()
        return seconds / count

    def clock_graph(self, call: Callable[[], Any], calls: int, replays: int) -> list[float]:
        """Time replays of a graph of several calls between two events, after one that is not timed."""
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = [call() for _ in range(calls)]
        times = self.clock_calls(graph.replay, replays + 1).device_ms[1:]
        del kept
        return [ms / calls for ms in times]

    def profile(self, call: Callable[[], Any]) -> None:
        """Call once between the profiler's start and stop."""
        import torch

        torch.cuda.synchronize()
        torch.cuda.cudart().cudaProfilerStart()
        call()
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaProfilerStop()

    def poisoned(self, expected: Any, task: Task) -> Any:
        """A result as the package makes it, all NaN."""
        import torch

        shape = expected.movedim(1, -1).shape if task.data_format == "channels_last" else expected.shape
        dtype = getattr(torch, PRECISIONS[task.precision][0])
        return torch.full(shape, math.nan, dtype=dtype, device=self.place)

    def poison_free_memory(self, expected: Any, task: Task) -> None:
        """PyTorch's allocator hands out first what has just been given back, and this has all its results."""
        blocks = [self.poisoned(expected, task) for _ in range(_POISONED_BLOCKS)]
        del blocks

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
        machine.set_tf32(False)
        torch.backends.cudnn.benchmark = False
        expected = function(x.float(), weight.float(), bias.float(), **task.layer.geometry)
        builds: dict[str, Callable[[], Contender]] = {}
        if not (last and task.layer.ndim == 1):  # torch has no such memory format for one axis
            peer_weight = _formatted(weight, last)
            for name in PEERS:
                builds[name] = lambda name=name: _peer(function, xs, turn, peer_weight, bias, task, name, tf32)
        own = [x.movedim(1, -1) if last else x for x in xs]
        for name in OURS:
            builds[name] = lambda name=name: self._ours(own, turn, weight, bias, task, name, last)
        return Contenders(expected, builds, len(xs))

    def compile_ahead(self, tasks: Sequence[Task], seconds: float) -> dict[str, Any]:
        """Compile the kernels of all `tasks`, as many as `seconds` allow; only CuPy's compiler works in threads."""
        if self._backend != "cupy":
            return {}
        if self._backend != "cupy":  # the others compile as they go
            return {"kernels": 0, "compiled": 0, "failed": {}, "seconds": 0.0}
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
        self, xs: Sequence[Any], turn: Any, weight: Any, bias: Any, task: Task, name: str, last: bool
    ) -> Contender:
        precision = "tf32" if PRECISIONS[task.precision][1] else "highest"
        layer = gtc.ConvTranspose(
            weight, bias, **task.layer.geometry, **FORMULATIONS[name], data_format=task.data_format,
            precision=precision, backend=self._backend,
        )  # fmt: skip
        if last:  # results are compared channels first
            return Contender(
                lambda: layer(xs[next(turn)]).movedim(-1, 1),
                lambda out: layer(xs[next(turn)], out=out).movedim(-1, 1),
            )
        return Contender(lambda: layer(xs[next(turn)]), lambda out: layer(xs[next(turn)], out=out))


def _peer(
    function: Any, xs: Sequence[Any], turn: Any, weight: Any, bias: Any, task: Task, name: str, tf32: bool
) -> Contender:
    import torch

    machine.set_tf32(tf32)
    torch.backends.cudnn.benchmark = name == "cudnn_search"
    torch.backends.cudnn.benchmark_limit = 0  # 0 is no limit to what the search tries
    geometry = task.layer.geometry
    return Contender(lambda: function(xs[next(turn)], weight, bias, **geometry))


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
