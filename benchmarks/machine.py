"""What the machine can do at best, measured in the same run as the layers: operations and memory traffic."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_PACKAGES = ("gpu_transconv", "numpy", "numba", "llvmlite", "tbb", "torch", "onnxruntime", "openvino")


def measure_machine(threads: int, copy_bytes: int = 2**28, tries: int = 7) -> dict[str, Any]:
    """Name the machine and measure its peaks with `threads` threads.

    Returns
    -------
    dict
        ``peak_gflops`` per dtype, how each was reached, ``copy_gb_per_s``, bytes read plus bytes written, and
        ``busy``, the share of the cores' time that other processes took just before.
        The half types have float32's peak, in which the package computes them; a machine with half-precision
        products of its own can pass it.
    """
    busy = _busy_share()
    with ThreadPoolExecutor(threads) as pool:
        ways = {
            dtype: {
                "fma_chain": _fma_gflops(dtype, threads, pool, tries),
                "matrix_product": _product_gflops(dtype, tries),
            }
            for dtype in ("float32", "float64")
        }
        copy = _copy_gb_per_s(copy_bytes, threads, pool, tries)
    peak = {dtype: max(found.values()) for dtype, found in ways.items()}
    return {
        "cpu": _cpu_name(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "threads": threads,
        "busy": busy,
        "peak_gflops": peak | {"float16": peak["float32"], "bfloat16": peak["float32"]},
        "peak_by": ways,
        "copy_gb_per_s": copy,
    }


def usable_cores() -> int:
    """Number of cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that take part."""
    found = {"python": platform.python_version()}
    found |= {package.name: package.version for package in metadata.distributions() if package.name in _PACKAGES}
    return found


def roofline_seconds(plan: Any, machine: dict[str, Any]) -> tuple[float, str]:
    """Least time the machine needs for a plan, and whether operations (compute) or bytes (memory) set it."""
    compute = plan.flops / (machine["peak_gflops"][plan.dtype] * 1e9)
    memory = plan.bytes / (machine["copy_gb_per_s"] * 1e9)
    return (compute, "compute") if compute >= memory else (memory, "memory")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _busy_share(seconds: float = 0.3) -> float | None:
    def used_and_all() -> tuple[int, int]:
        words = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        ticks = [int(word) for word in words[:8]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # the fourth and fifth are idle time

    try:
        used, total = used_and_all()
        time.sleep(seconds)
        used_then, total_then = used_and_all()
    except OSError:  # not Linux
        return None
    return (used_then - used) / max(1, total_then - total)


def _best_seconds(run: Callable[[], Any], tries: int) -> float:
    run()
    best = math.inf
    for _ in range(tries):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _vector_shape(dtype: str) -> tuple[int, int]:
    """Lanes of the widest vector, and as many accumulators as hide the latency and stay in registers."""
    features = binding.get_host_cpu_features()
    width, accumulators = 16, 24
    if features.get("avx512f"):
        width, accumulators = 64, 24
    elif features.get("avx2"):
        width, accumulators = 32, 12
    return width // np.dtype(dtype).itemsize, accumulators


def _make_fma_chain(dtype: str) -> Callable[[int, float, float], float]:
    lanes, accumulators = _vector_shape(dtype)
    scalar = {"float32": types.float32, "float64": types.float64}[dtype]

    @intrinsic
    def chain(_context: Any, _repeats: Any, _factor: Any, _term: Any) -> Any:
        def codegen(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            repeats, factor, term = args
            vector = ir.VectorType(factor.type, lanes)
            bits = np.dtype(dtype).itemsize * 8
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{bits}"
            )
            factors, terms = (_broadcast(builder, value, vector) for value in (factor, term))
            sums = [cgutils.alloca_once(builder, vector) for _ in range(accumulators)]
            for i, total in enumerate(sums):  # all different, or the compiler keeps only one
                builder.store(ir.Constant(vector, [float(i)] * lanes), total)
            with cgutils.for_range(builder, repeats):
                for total in sums:
                    builder.store(builder.call(fma, [builder.load(total), factors, terms]), total)
            result = builder.load(sums[0])
            for total in sums[1:]:
                result = builder.fadd(result, builder.load(total))
            return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

        return scalar(types.int64, scalar, scalar), codegen

    @njit(scalar(types.int64, scalar, scalar), nogil=True)
    def run(repeats: int, factor: float, term: float) -> float:
        return chain(repeats, factor, term)

    return run


def _broadcast(builder: Any, value: Any, vector: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    one_lane = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one_lane, one_lane, mask)


def _fma_gflops(dtype: str, threads: int, pool: ThreadPoolExecutor, tries: int) -> float:
    lanes, accumulators = _vector_shape(dtype)
    chain, repeats = _make_fma_chain(dtype), 2_000_000
    seconds = _best_seconds(lambda: list(pool.map(lambda _: chain(repeats, 0.5, 0.25), range(threads))), tries)
    return 2 * lanes * accumulators * repeats * threads / seconds / 1e9


def _product_gflops(dtype: str, tries: int, size: int = 512) -> float:
    a, b, out = (np.ones((size, size), dtype) for _ in range(3))
    return 2 * size**3 / _best_seconds(lambda: np.matmul(a, b, out=out), 4 * tries) / 1e9


def _copy_gb_per_s(size: int, threads: int, pool: ThreadPoolExecutor, tries: int) -> float:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    seconds = _best_seconds(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)), tries)
    return 2 * size / seconds / 1e9
