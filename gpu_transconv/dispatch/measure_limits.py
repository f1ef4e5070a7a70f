"""Measure what a machine can do at best: fused multiplications and additions, memory traffic, launches."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..arrays import Array, HostArray
from ..arrays.memory import cuda_memory
from . import device as devices
from .limits import DeviceLimits, keep, shipped
from .select import invalidate

#: By compute capability: float32 lanes of a multiprocessor, and how many times as many multiply-adds a clock its
#: matrix units do on dense halves that are summed in float32. Lanes: CUDA C++ Programming Guide, "Arithmetic
#: Instructions". Ratio: NVIDIA's architecture white papers (V100, TU102, A100, GA102, AD102, H100, B200, RTX
#: Blackwell), multiply-adds per clock and multiprocessor, 512, 512, 1024, 512, 512, 2048, 4096, 512, over the lanes.
#: GeForce boards of 7.5, 8.6, 8.9 and 12.0 have half of that; what they say of themselves does not tell.
_LANES_AND_MATRIX = {
    (7, 0): (64, 8), (7, 5): (64, 8), (8, 0): (64, 16), (8, 6): (128, 4), (8, 9): (128, 4), (9, 0): (128, 16),
    (10, 0): (128, 32), (12, 0): (128, 4),
}  # fmt: skip


def measure(device: str = "cpu") -> DeviceLimits:
    """Measure a device, "cpu" or "cuda", and keep its limits on disk; about three seconds."""
    found = measure_cpu(devices.threads()) if device == "cpu" else measure_cuda(shipped(device))
    kept = keep(device, found)
    invalidate()
    return kept


def measure_cpu(
    threads: int, ways: Mapping[str, Mapping[str, float]] | None = None, copy_bytes: int = 2**26, tries: int = 3
) -> DeviceLimits:
    """Measure the CPU with `threads` threads; the half types without a peak of their own have float32's."""
    ways = ways or peak_ways(threads, tries)
    with ThreadPoolExecutor(threads) as pool:
        copy = _copy_gb_per_s(copy_bytes, threads, pool, tries)
    peak = {dtype: max(found.values()) for dtype, found in ways.items()}
    peak = dict.fromkeys(("float16", "bfloat16"), peak["float32"]) | peak
    return DeviceLimits("cpu", threads, peak, copy, _launch_seconds(), measured=True)


def peak_ways(threads: int, tries: int) -> dict[str, dict[str, float]]:
    """GFLOP/s of float32 and float64 by a chain of vector instructions, and by NumPy's product of matrices.

    The latter takes all processors, and counts where as many threads are asked for. A CPU that multiplies couples of
    bfloat16 numbers has a chain for these too.
    """
    ways = {}
    with ThreadPoolExecutor(threads) as pool:
        for dtype in ("float32", "float64"):
            ways[dtype] = {"fma_chain": _fma_gflops(dtype, threads, pool, tries)}
            if threads >= numba.config.NUMBA_DEFAULT_NUM_THREADS:
                ways[dtype]["matrix_product"] = _product_gflops(dtype, tries)
        if binding.get_host_cpu_features().get("avx512bf16"):
            ways["bfloat16"] = {"couples_chain": _fma_gflops("bfloat16", threads, pool, tries)}
    return ways


def measure_cuda(known: DeviceLimits, copy_bytes: int = 2**28) -> DeviceLimits:
    """Measure copies and launches on the current CUDA device; peaks come from what it says of itself."""
    memory = cuda_memory()
    large, small = ([memory.empty((size,), "float32") for _ in range(2)] for size in (copy_bytes // 4, 1))
    end = np.empty(1, np.float32)

    def seconds(pair: list[Array], calls: int) -> float:
        def run() -> None:
            for _ in range(calls):
                memory.copy_to(*pair)
            memory.copy_to(small[0], end)  # waits

        return _best_seconds(run, 3)

    copies = (seconds(large, 9) - seconds(large, 1)) / 8
    launches = (seconds(small, 101) - seconds(small, 1)) / 100
    peak, units = _cuda_peak(known)
    return DeviceLimits("cuda", units, peak, 2 * copy_bytes / copies / 1e9, max(launches, 1e-6), measured=True)


def _cuda_peak(known: DeviceLimits) -> tuple[dict[str, float], int]:
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return known.peak_gflops, known.units
    attributes = cupy.cuda.Device().attributes
    capability = attributes["ComputeCapabilityMajor"], attributes["ComputeCapabilityMinor"]
    units, ratio = attributes["MultiProcessorCount"], attributes.get("SingleToDoublePrecisionPerfRatio", 32)
    return device_peak(capability, units, attributes["ClockRate"] * 1e3, ratio), units


def device_peak(capability: tuple[int, int], units: int, clock: float, double_ratio: float) -> dict[str, float]:
    """GFLOP/s of a CUDA device by dtype and precision, from what it says of itself.

    Parameters
    ----------
    capability
        Compute capability, major and minor; one that is not known counts as the last known one before it.
    units, clock
        Multiprocessors, and their clock in Hz.
    double_ratio
        How many times as fast float32 is as float64.
    """
    lanes, ratio = _LANES_AND_MATRIX[max((c for c in _LANES_AND_MATRIX if c <= capability), default=(7, 0))]
    single = 2 * lanes * units * clock / 1e9
    half = ratio * single
    tf32 = half / 2 if capability >= (8, 0) else single
    return {"float32": single, "float64": single / double_ratio, "float16": half, "bfloat16": half, "tf32": tf32}


def _launch_seconds() -> float:
    """Seconds of entering a compiled function with one array."""
    array = np.ones(1, np.float32)

    @njit("void(float32[::1])")
    def touch(values: HostArray) -> None:
        values[0] += 1

    def run() -> None:
        for _ in range(1000):
            touch(array)

    return _best_seconds(run, 5) / 1000


def _best_seconds(run: Callable[[], object], tries: int) -> float:
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
    return width // (8 if dtype == "float64" else 4), accumulators


def _make_fma_chain(dtype: str) -> Callable[[int, float, float], float]:
    lanes, accumulators = _vector_shape(dtype)
    scalar = types.float64 if dtype == "float64" else types.float32

    @intrinsic
    def chain(
        _context: object, _repeats: types.Type, _factor: types.Type, _term: types.Type
    ) -> tuple[types.Type, Callable[..., ir.Value]]:
        def codegen(
            _target: object, builder: ir.IRBuilder, _signature: types.Type, args: Sequence[ir.Value]
        ) -> ir.Value:
            repeats, factor, term = args
            vector = ir.VectorType(factor.type, lanes)
            name = f"llvm.fma.v{lanes}f{64 if dtype == 'float64' else 32}"
            factors, terms = (_broadcast(builder, value, vector) for value in (factor, term))
            if dtype == "bfloat16":
                name, words = "llvm.x86.avx512bf16.dpbf16ps.512", ir.VectorType(ir.IntType(32), lanes)
                factors, terms = (builder.bitcast(value, words) for value in (factors, terms))
            kind = ir.FunctionType(vector, [vector, factors.type, terms.type])
            multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)
            sums = [cgutils.alloca_once(builder, vector) for _ in range(accumulators)]
            for i, total in enumerate(sums):  # all different, or the compiler keeps only one
                builder.store(ir.Constant(vector, [float(i)] * lanes), total)
            with cgutils.for_range(builder, repeats):
                for total in sums:
                    builder.store(builder.call(multiply_add, [builder.load(total), factors, terms]), total)
            result = builder.load(sums[0])
            for total in sums[1:]:
                result = builder.fadd(result, builder.load(total))
            return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

        return scalar(types.int64, scalar, scalar), codegen

    @njit(scalar(types.int64, scalar, scalar), nogil=True)
    def run(repeats: int, factor: float, term: float) -> float:
        return chain(repeats, factor, term)

    return run


def _broadcast(builder: ir.IRBuilder, value: ir.Value, vector: ir.Type) -> ir.Value:
    zero = ir.Constant(ir.IntType(32), 0)
    one_lane = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one_lane, one_lane, mask)


def _fma_gflops(dtype: str, threads: int, pool: ThreadPoolExecutor, tries: int) -> float:
    lanes, accumulators = _vector_shape(dtype)
    chain, repeats = _make_fma_chain(dtype), 2_000_000
    seconds = _best_seconds(lambda: list(pool.map(lambda _: chain(repeats, 0.5, 0.25), range(threads))), tries)
    operations = 4 if dtype == "bfloat16" else 2
    return operations * lanes * accumulators * repeats * threads / seconds / 1e9


def _product_gflops(dtype: str, tries: int, size: int = 512) -> float:
    a, b, out = (np.ones((size, size), dtype) for _ in range(3))
    return 2 * size**3 / _best_seconds(lambda: np.matmul(a, b, out=out), 4 * tries) / 1e9


def _copy_gb_per_s(size: int, threads: int, pool: ThreadPoolExecutor, tries: int) -> float:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    seconds = _best_seconds(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)), tries)
    return 2 * size / seconds / 1e9
