"""Measure what a machine can do at best: fused multiplications and additions, memory traffic, launches."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .machine import Figures
from .table import cuda_memory

#: CUDA cores per multiprocessor, and how many times as fast tensor cores are: the least of the supported ones.
_LANES, _TENSOR = 64, 4


def measure_cpu(
    threads: int, ways: Mapping[str, Mapping[str, float]] | None = None, copy_bytes: int = 2**26, tries: int = 3
) -> Figures:
    """Measure the CPU with `threads` threads; the half types have float32's peak, in which they are computed."""
    ways = ways or peak_ways(threads, tries)
    with ThreadPoolExecutor(threads) as pool:
        copy = _copy_gb_per_s(copy_bytes, threads, pool, tries)
    peak = {dtype: max(found.values()) for dtype, found in ways.items()}
    peak |= {"float16": peak["float32"], "bfloat16": peak["float32"]}
    return Figures("cpu", threads, peak, copy, _launch_seconds(), measured=True)


def peak_ways(threads: int, tries: int) -> dict[str, dict[str, float]]:
    """GFLOP/s of float32 and float64 by a chain of vector instructions, and by a product of matrices."""
    with ThreadPoolExecutor(threads) as pool:
        return {
            dtype: {
                "fma_chain": _fma_gflops(dtype, threads, pool, tries),
                "matrix_product": _product_gflops(dtype, tries),
            }
            for dtype in ("float32", "float64")
        }


def measure_cuda(known: Figures, copy_bytes: int = 2**28) -> Figures:
    """Measure copies and launches on the current CUDA device; peaks come from what it says of itself."""
    memory = cuda_memory()
    large, small = ([memory.empty((size,), "float32") for _ in range(2)] for size in (copy_bytes // 4, 1))
    end = np.empty(1, np.float32)

    def seconds(pair: list[Any], calls: int) -> float:
        def run() -> None:
            for _ in range(calls):
                memory.copy_to(*pair)
            memory.copy_to(small[0], end)  # waits

        return _best_seconds(run, 3)

    copies = (seconds(large, 9) - seconds(large, 1)) / 8
    launches = (seconds(small, 101) - seconds(small, 1)) / 100
    peak, units = _cuda_peak(known)
    return Figures("cuda", units, peak, 2 * copy_bytes / copies / 1e9, max(launches, 1e-6), measured=True)


def _cuda_peak(known: Figures) -> tuple[dict[str, float], int]:
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return known.peak_gflops, known.units
    facts = cupy.cuda.Device().attributes
    units, clock = facts["MultiProcessorCount"], facts["ClockRate"] * 1e3
    single = 2 * _LANES * units * clock / 1e9 * (2 if cupy.cuda.Device().compute_capability >= "80" else 1)
    half, ratio = _TENSOR * single, facts.get("SingleToDoublePrecisionPerfRatio", 32)
    peak = {"float32": single, "float64": single / ratio, "float16": half, "bfloat16": half, "tf32": half / 2}
    return peak, units


def _launch_seconds() -> float:
    """Seconds of entering a compiled function with one array."""
    array = np.ones(1, np.float32)

    @njit("void(float32[::1])")
    def touch(values: Any) -> None:
        values[0] += 1

    def run() -> None:
        for _ in range(1000):
            touch(array)

    return _best_seconds(run, 5) / 1000


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
