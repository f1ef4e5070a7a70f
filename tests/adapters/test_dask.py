"""Chunked arrays: equal to the whole array however they are cut, and to the bit where a formulation is named."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from checks import refused
from selection import in_full, one_of

import gpu_transconv as gtc

da = pytest.importorskip("dask.array")
from gpu_transconv.dask import conv_transpose, worker  # noqa: E402
from gpu_transconv.dask.chunks import cut_axis  # noqa: E402
from gpu_transconv.problem.axis import Axis  # noqa: E402

TOLERANCE = {"float32": 5e-6, "float64": 1e-13}


class Problem(NamedTuple):
    """A random layer, its input, and two ways to cut that."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    keywords: dict[str, object]
    chunkings: list[tuple[tuple[int, ...], ...]]


def pieces(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """Cut an axis at random, more often than not into single elements."""
    found = []
    while size:
        found.append(int(rng.integers(1, size + 1)) if rng.random() < 0.5 else 1)
        size -= found[-1]
    return tuple(found)


def draw(number: int) -> Problem:
    rng = np.random.default_rng(number)
    ndim, groups = 1 + number % 3, int(rng.choice([1, 1, 2, 3]))
    channels, features = groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    kernel = rng.integers(1, 6 if ndim < 3 else 4, ndim).tolist()
    stride, dilation = rng.integers(1, 5, ndim).tolist(), rng.integers(1, 4, ndim).tolist()
    extra = [int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True)]
    spatial = rng.integers(2, 14 if ndim < 3 else 7, ndim).tolist()
    # Something is left of every axis.
    full = [(n - 1) * s + d * (k - 1) for n, s, d, k in zip(spatial, stride, dilation, kernel, strict=True)]
    padding = [(int(rng.integers(0, min(4, n // 2 + 1))), int(rng.integers(0, min(4, n // 2 + 1)))) for n in full]
    batch = [[], [1], [3]][number // 3 % 3]
    last = bool(rng.integers(2))
    shape = (*batch, *spatial, channels) if last else (*batch, channels, *spatial)
    dtype = ("float32", "float64")[number % 2]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in (shape, (channels, features, *kernel))]
    bias = rng.standard_normal(features * groups).astype(dtype) if rng.integers(2) else None
    keywords = {
        "stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": groups,
        "data_format": "channels_last" if last else "channels_first", "activation": (None, "relu")[number // 2 % 2],
    }  # fmt: skip
    return Problem(*arrays, bias, keywords, [tuple(pieces(rng, n) for n in shape) for _ in range(2)])


@pytest.mark.parametrize("number", one_of(15, range(300)))
def test_any_chunks_are_right(number):
    problem = draw(number)
    formulation = ("auto", "gather", "scatter")[number // 6 % 3]
    keywords = problem.keywords | {"formulation": formulation}
    whole = gtc.conv_transpose(problem.x, problem.weight, problem.bias, **keywords)
    results = []
    for chunks in (*problem.chunkings, problem.x.shape):
        y = conv_transpose(da.from_array(problem.x, chunks=chunks), problem.weight, problem.bias, **keywords)
        assert (y.shape, y.dtype) == (whole.shape, whole.dtype)
        results.append(y.compute(scheduler=("threads", "sync")[number % 2]))
        assert results[-1].shape == whole.shape  # and not only what the graph says
        error = np.abs(results[-1] - whole).max()
        assert error <= TOLERANCE[whole.dtype.name] * max(1.0, np.abs(whole).max())
    if formulation != "auto":
        assert all(np.array_equal(result, results[0]) for result in results)


def test_one_kernel_runs_where_a_formulation_is_named(launched):
    x, weight = np.ones((1, 4, 40), np.float32), np.ones((4, 4, 5), np.float32)
    y = conv_transpose(da.from_array(x, chunks=(1, 4, 7)), weight, stride=2, formulation="scatter")
    y.compute(scheduler="sync")
    assert launched == ["cpu/scatter"] * 6


@pytest.mark.parametrize("kernel", [1, 2])
def test_a_kernel_no_longer_than_the_stride_adds_a_task_a_chunk(kernel):
    x = da.ones((2, 4, 16, 16, 16), chunks=(1, 4, 8, 8, 4), dtype=np.float32)
    y = conv_transpose(x, np.ones((4, 2, *[kernel] * 3), np.float32), stride=2)
    tasks = [key for key in y.__dask_graph__() if key not in x.__dask_graph__()]
    weights = [key for key in tasks if isinstance(key, str)]
    assert len(weights) == 1  # the weights themselves
    assert len(tasks) - 1 == x.npartitions == 2 * 2 * 2 * 4
    short = 2 - kernel  # after the last input nothing is left of the stride
    assert y.chunks[2:] == ((16, 16 - short), (16, 16 - short), (8, 8, 8, 8 - short))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 1, 1), (4, 2, 1), (5, 2, 3), (3, 4, 1), (2, 2, 5)])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_a_piece_reads_what_reaches_it_and_no_more(kernel, stride, dilation, padding):
    """By the relation itself: the inputs that reach the outputs of a piece are its own, and the halo before them."""
    size, chunks = 20, (6, 7, 7)
    axis = Axis(size, kernel, stride, dilation, padding, (size - 1) * stride + dilation * (kernel - 1) + 1 - padding)
    cut = cut_axis(axis, chunks)
    assert cut.halo == (kernel - 1) * dilation // stride
    assert (sum(cut.inputs), sum(cut.outputs)) == (size, axis.output_size)
    start = first = 0
    for number, (inputs, outputs) in enumerate(zip(cut.inputs, cut.outputs, strict=True)):
        reaching = {i for i in range(size) for k in range(kernel) if first <= axis.output_of(i, k) < first + outputs}
        begin = start - (cut.halo if number else 0)
        assert reaching <= set(range(begin, start + inputs))
        if number:  # no smaller halo would do
            assert not cut.halo or begin in reaching
        assert cut.axes[number].size == inputs + start - begin
        start, first = start + inputs, first + outputs


def test_axes_shorter_than_the_halo_are_one_chunk():
    x = da.ones((1, 1, 3, 12), chunks=1, dtype=np.float32)
    y = conv_transpose(x, np.ones((1, 1, 9, 9), np.float32), stride=2)
    assert y.chunks[2:] == ((13,), (8, 8, 15))


def test_channels_of_a_group_come_together():
    x = da.ones((1, 12, 4), chunks=(1, 2, 2), dtype=np.float32)
    weight = np.ones((12, 5, 2), np.float32)
    assert conv_transpose(x, weight, stride=2).chunks[1] == (5,)
    assert conv_transpose(x, weight, stride=2, groups=3).chunks[1] == (5, 5, 5)
    assert conv_transpose(x, weight, stride=2, groups=2).chunks[1] == (5, 5)
    assert conv_transpose(x, weight, stride=2, groups=12).chunks[1] == (10,) * 6


def test_what_is_kept_does_not_travel():
    x, weight = da.ones((1, 4, 8), dtype=np.float32), np.ones((4, 2, 2), np.float32)
    y = conv_transpose(x, weight, stride=2)
    operator = operator_of(y)
    before = len(pickle.dumps(operator))
    operator(np.ones((1, 4, 8), np.float32), (0, 0, 0))
    assert operator._packed
    assert len(pickle.dumps(operator)) == before
    assert pickle.loads(pickle.dumps(operator))._packed == {}


def test_equal_calls_have_equal_names():
    x, weight = da.ones((1, 4, 8), dtype=np.float32), np.ones((4, 2, 2), np.float32)
    name = conv_transpose(x, weight, stride=2).name
    assert conv_transpose(x, weight.copy(), stride=2).name == name
    assert conv_transpose(x, weight * 2, stride=2).name != name
    assert conv_transpose(x, weight, stride=2, formulation="gather").name != name


def operator_of(y: object) -> worker.ChunkOperator:
    """What the graph of a result has for the workers."""
    found = next(value for value in y.__dask_graph__().values() if "ChunkOperator" in repr(value))
    return getattr(found, "value", found)


def test_memory_of_results_is_used_again_and_no_more_is_kept_than_of_one_for_each_task():
    chunk = np.ones((1, 1, 1 << 17), np.float32)  # whose result is large enough to be worth it
    x, weight = da.ones((1, 1, 6 * chunk.size), chunks=chunk.shape, dtype=np.float32), np.ones((1, 1, 2), np.float32)
    operator = operator_of(conv_transpose(x, weight, stride=2))
    assert len({operator(chunk, (0, 0, n)).__array_interface__["data"][0] for n in range(6)}) == 1
    results = [operator(chunk, (0, 0, n)) for n in range(6)]
    assert len({result.__array_interface__["data"][0] for result in results}) == 6
    del results
    assert operator._results.kept == 2 * chunk.nbytes  # the main thread runs one task at once


def test_threads_of_a_task(monkeypatch):
    monkeypatch.setattr(worker, "CPU_COUNT", 8)
    counts = []
    count = worker.ChunkOperator._threads_of_a_task
    monkeypatch.setattr(
        worker.ChunkOperator, "_threads_of_a_task", lambda self: counts.append(count(self)) or counts[-1]
    )
    x, weight = da.ones((1, 1, 8), chunks=(1, 1, 4), dtype=np.float32), np.ones((1, 1, 2), np.float32)
    conv_transpose(x, weight, stride=2).compute(scheduler="sync")
    conv_transpose(x, weight, stride=2).compute(scheduler="threads", num_workers=2)
    with gtc.use(threads=3):
        y = conv_transpose(x, weight, stride=2)
    y.compute(scheduler="threads")
    assert counts[:2] == [8, 8]
    assert set(counts[2:4]) == {8 // (worker.dask.config.get("num_workers", None) or 8)}
    assert counts[4:] == [3, 3]


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.ones((1, 2, 4), np.float32), TypeError, ["x must be a Dask array", "ndarray", "from_array"]),
        (da.ones((1, 3, 4), dtype=np.float32), ValueError, ["x must have as many channels", "3 channels"]),
        (da.ones((1, 2, 4), dtype=np.float64), TypeError, ["weight", "float64", "float32"]),
        (
            da.ones((2, 4), dtype=np.float32)[da.ones(2) > 0],
            ValueError,
            ["x must have chunks of known sizes", "nan", "compute_"],
        ),
    ],
    ids=["no Dask array", "channels", "dtype", "unknown chunks"],
)
def test_bad_input_is_refused_before_anything_is_scheduled(x, error, words):
    with refused(error, *words):
        conv_transpose(x, np.ones((2, 2, 2), np.float32), stride=2)


@in_full
@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="the program asks for the most memory that a process has had")
def test_two_processes():
    """Right on a cluster, weights once per worker, and memory bounded while the volume is not."""
    times = 4 if os.environ.get("GPU_TRANSCONV_TEST_ALL") else 1
    program = Path(__file__).with_name("dask_cluster.py")
    done = subprocess.run(
        [sys.executable, program, "500", str(times)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert max(found["errors"]) <= TOLERANCE["float32"]
    assert found["mean"] == 4.0
    assert max(found["peaks"]) < found["limit"]
    for counted in found["counted"]:  # of two results
        assert 1 <= counted["arrived"] <= 2
        assert 1 <= counted["packed"] <= 2
        assert counted["threads"] == max(1, worker.CPU_COUNT // 2)
