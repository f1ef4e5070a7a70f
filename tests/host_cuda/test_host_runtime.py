"""The host runner itself: it runs right kernels to the right result, and reports what is wrong with wrong ones."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from host_checks import edited, requires_compiler
from host_runner import KernelFaultError, device_array, run_kernel, to_device

pytestmark = requires_compiler

SAMPLES = Path(__file__).parent / "kernels" / "samples.cuh"
HALVES = {"gtc::half": np.float16, "gtc::bfloat16": ml_dtypes.bfloat16}
RNG = np.random.default_rng(5)


def matrix_product(source=SAMPLES, rows=37, columns=21, depth=70, shared_bytes=4 * 1024):
    a, b = (to_device(RNG.random(shape, np.float32)) for shape in ((rows, depth), (depth, columns)))
    c = device_array((rows, columns), np.float32)
    sizes = [np.int32(size) for size in (rows, columns, depth)]
    grid = (-(-columns // 16), -(-rows // 16), 1)
    run_kernel(source, "samples::matrix_product", grid, (16, 16, 1), [a, b, c, *sizes], shared_bytes, ["a", "b", "c"])
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)


def mma_product(half, source=SAMPLES):
    a, b = (to_device(RNG.standard_normal(shape).astype(HALVES[half])) for shape in ((16, 48), (48, 8)))
    c = device_array((16, 8), np.float32)
    bits = [array.view(np.uint16) for array in (a, b)]
    run_kernel(source, f"samples::mma_product<{half}>", (1, 1, 1), (32, 1, 1), [*bits, c, np.int32(48)], 1024)
    np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-4, atol=1e-4)


def tf32_product(source=SAMPLES):
    a, b = (to_device(RNG.integers(-1000, 1000, shape).astype(np.float32)) for shape in ((16, 8), (8, 8)))
    c = device_array((16, 8), np.float32)
    run_kernel(source, "samples::tf32_product", (1, 1, 1), (32, 1, 1), [a, b, c])
    np.testing.assert_array_equal(c, a @ b)


def histogram(source=SAMPLES):
    values = to_device(RNG.integers(0, 10, 3000).astype(np.int32))
    counts = to_device(np.zeros(10, np.float32))
    run_kernel(
        source, "samples::histogram", (3, 1, 1), (64, 1, 1), [values, counts, np.int32(3000)], names=["v", "n", ""]
    )
    np.testing.assert_array_equal(counts, np.bincount(values, minlength=10))


def block_sum(source=SAMPLES, shared_bytes=128):
    values = to_device(RNG.integers(0, 100, 4 * 160).astype(np.float32))
    sums = device_array(4, np.float32)
    run_kernel(source, "samples::block_sum", (4, 1, 1), (160, 1, 1), [values, sums], shared_bytes, ["values", "sums"])
    np.testing.assert_array_equal(sums, values.reshape(4, -1).sum(1))


def test_asynchronous_copies_and_barriers():
    matrix_product()


@pytest.mark.parametrize("half", HALVES)
def test_matrix_instruction(half):
    mma_product(half)


def test_tf32_matrix_instruction():
    tf32_product()


def test_atomics():
    histogram()


def test_shuffles():
    block_sum()


@pytest.mark.parametrize("half", HALVES)
def test_half_conversions(half):
    every = to_device(np.arange(2**16).astype(np.uint16))
    wide, back = device_array(2**16, np.float32), device_array(2**16, np.uint16)
    arguments = [every, wide, back, np.int32(2**16)]
    run_kernel(SAMPLES, f"samples::round_trip<{half}>", (1, 1, 1), (256, 1, 1), arguments)
    want = every.view(HALVES[half]).astype(np.float32)
    np.testing.assert_array_equal(wide, want)
    np.testing.assert_array_equal(back[~np.isnan(want)], every[~np.isnan(want)])

    # Between every two neighbours: the middle, and a little to both sides of it.
    finite = np.sort(want[np.isfinite(want)])
    middle = (finite[1:].astype(np.float64) + finite[:-1]) / 2
    numbers = np.concatenate([middle, middle * (1 + 2e-7), middle * (1 - 2e-7), [65519, 65520, 3.3e38, np.inf, 1e-45]])
    numbers = to_device(numbers.astype(np.float32))
    halves = device_array(numbers.shape, np.uint16)
    arguments = [numbers, halves, np.int32(numbers.size)]
    run_kernel(SAMPLES, f"samples::narrow<{half}>", (1, 1, 1), (256, 1, 1), arguments)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(halves.view(HALVES[half]), numbers.astype(HALVES[half]))


#: What is broken, how, the run that must notice, and a word of the fault (none: a wrong result).
BROKEN = {
    "barrier before use": ("__syncthreads();  // the tiles are there", "", matrix_product, "race"),
    "barrier after use": ("__syncthreads();  // and done with", "", matrix_product, "race"),
    "wait": ("copy_async_wait<1>();", "", matrix_product, "asynchronous copy"),
    "wait for the wrong copies": ("copy_async_wait<1>", "copy_async_wait<2>", matrix_product, "asynchronous copy"),
    "commit": ("    copy_async_commit();\n", "", matrix_product, "asynchronous copy"),
    "edge of a store": ("row < rows && column < columns)", "row <= rows && column < columns)", matrix_product, "c["),
    "edge of a load": ("k + y < depth &&", "k + y <= depth &&", matrix_product, "b["),
    "lane that stores": ("c + row * columns + column", "c + column * rows + row", matrix_product, ""),
    "barrier that some miss": ("sum);\n}", "sum);\n    if (x) __syncthreads();\n}", matrix_product, "waits"),
    "swapped fragment": (
        "mma_m16n8k16(sum, left, ",
        "SWAP(left[1], left[2]); mma_m16n8k16(sum, left,",
        mma_product,
        "",
    ),
    "transposed fragment": ("load_matrix_x4_transposed(", "load_matrix_x4(", mma_product, ""),
    "misaligned row": ("lane % 16 * 16 + lane", "lane % 16 * 12 + lane", mma_product, "misaligned"),
    "warp barrier": ("        __syncwarp();\n        uint32_t", "        uint32_t", mma_product, "race"),
    "swapped tf32 fragment": ("(lane / 4 + 8 * (i % 2)) * 8", "(lane / 4 + 8 * (i / 2)) * 8", tf32_product, ""),
    "atomic": ("atomic_add(counts + values[i], 1.0f)", "counts[values[i]] += 1.0f", histogram, "race"),
    "grid's stride": ("i += gridDim.x * blockDim.x", "i += blockDim.x", histogram, ""),
    "end of an array": ("i < count; i += gridDim", "i <= count; i += gridDim", histogram, "v["),
    "two blocks, one place": ("sum[blockIdx.x] = all", "sum[0] = all", block_sum, "race"),
    "write to an input": ("sum[blockIdx.x] = all", "const_cast<float*>(values)[0] = all", block_sum, "input"),
    "lane left out": ("if (threadIdx.x % 32 == 0) shared", "if (threadIdx.x % 64 == 0) shared", block_sum, ""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_kernels_are_caught(what, tmp_path):
    old, new, run, complaint = BROKEN[what]
    source = edited(SAMPLES, old, new, tmp_path)
    arguments = ["gtc::half"] if run is mma_product else []
    with pytest.raises(AssertionError) as caught:
        run(*arguments, source=source)
    assert caught.type is (KernelFaultError if complaint else AssertionError)
    assert complaint in str(caught.value)


def test_shared_memory_beyond_the_blocks_own():
    with pytest.raises(KernelFaultError, match="shared memory at byte 16; the block has 16"):
        block_sum(shared_bytes=16)


def test_a_fault_leaves_the_runner_usable(tmp_path):
    source = edited(SAMPLES, *BROKEN["barrier that some miss"][:2], tmp_path)
    for _ in range(3):
        with pytest.raises(KernelFaultError, match=r"block \(0, 0, 0\), thread \(\d+, 1?\d, 0\): waits"):
            matrix_product(source)
        matrix_product()
