"""Few inputs: scatter along lines of memory or by lists, with weights as they are; gather by lists of what meets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import choose, launch
from gpu_transconv.kernels.cpu.choose import choose_gather, choose_scatter
from gpu_transconv.kernels.cpu.points import point_strips
from gpu_transconv.ready import small_weights

#: x, weight, and keywords: ragged blocks, groups, batches, slabs, borders, all ranks, steps between taps, points.
CASES = {
    "1-d": ((2, 70, 5), (70, 9, 4), {"stride": 3, "padding": 1, "output_padding": 2}),
    "2-d-groups": ((3, 64, 3, 2), (64, 17, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    "3-d-slabs": ((1, 300, 2, 3, 2), (300, 5, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "dilated": ((1, 65, 4, 4), (65, 33, 3, 2), {"dilation": (2, 3), "padding": 2}),
    "cropped": ((1, 48, 3, 3), (48, 16, 5, 5), {"stride": 2, "padding": [(3, 2), (2, 4)]}),
    "points": ((4, 3, 3, 150), (150, 21, 1, 1), {"data_format": "channels_last"}),
    "one-input": ((6, 100, 1, 1), (100, 13, 4, 4), {}),
}


@pytest.fixture
def take(monkeypatch):
    """Let scatter take this kernel alone."""
    caches = (choose_scatter, launch._many_jobs, launch._few_jobs, small_weights)

    def take(kernel):
        monkeypatch.setattr(choose, "SCATTER", (kernel,))
        for cached in caches:
            cached.cache_clear()

    yield take
    for cached in caches:
        cached.cache_clear()


#: Scatter by lists wherever it can.
STRIPS = replace(choose.STRIPS, takes=point_strips.takes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_few_inputs(name, dtype, take):
    take(choose.STAMP_LINES)
    x_shape, weight_shape, keywords = CASES[name]
    rng = np.random.default_rng(len(name))
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape))
    bias = rng.standard_normal(weight.shape[1] * keywords.get("groups", 1)).astype(dtype)
    keywords = {**keywords, "activation": "leaky_relu"}
    plan = gtc.explain(x, weight, bias, **keywords, formulation="scatter").plan
    assert choose_scatter(plan).kernel.name == "scatter_lines"
    out = np.full(plan.output_shape, np.nan, dtype)
    gtc.conv_transpose(x, weight, bias, **keywords, formulation="scatter", backend="cpu", out=out)
    arrays = (array.astype("f8") for array in (x, weight, bias))
    want = gtc.conv_transpose(*arrays, **keywords, backend="reference")
    np.testing.assert_allclose(out, want, rtol=0, atol=(3e-6 if dtype == "float32" else 1e-14) * np.abs(want).max())


def test_what_lies_behind_the_weights_does_not_count(take):
    take(choose.STAMP_LINES)
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape) for shape in ((1, 100, 2, 1), (100, 9, 3, 3)))
    memory = np.full(weight.size + 2048, np.nan)
    to_page = (-memory.ctypes.data // memory.itemsize - weight.size) % 512
    results = []
    for start in (to_page, to_page + 100):  # where the page of the last weight ends with it, and where it goes on
        given = memory[start : start + weight.size].reshape(weight.shape)
        given[...] = weight
        results.append(gtc.conv_transpose(x, given, stride=2, formulation="scatter", backend="cpu"))
        given[...] = np.nan
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], gtc.conv_transpose(x, weight, stride=2, backend="reference"), atol=1e-12)


#: The same for gather by lists: ragged strips, groups, batches, steps between taps, slabs, channels or outputs shared.
LISTS = {
    "1-d": ((2, 600, 5), (600, 48, 7), {"stride": 2, "padding": 3, "output_padding": 1}),
    "2-d-groups": CASES["2-d-groups"],
    "3-d-parts": ((1, 65, 4, 4, 4), (65, 65, 3, 3, 3), {"padding": 1}),
    "dilated": CASES["dilated"],
    "cropped": CASES["cropped"],
}


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LISTS)
def test_lists(name, dtype, data_format, formulation, take):
    take(STRIPS)
    x_shape, weight_shape, keywords = LISTS[name]
    rng = np.random.default_rng(len(name))
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape))
    bias = rng.standard_normal(weight.shape[1] * keywords.get("groups", 1)).astype(dtype)
    if data_format == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    keywords = {**keywords, "activation": "leaky_relu", "data_format": data_format}
    plan = gtc.explain(x, weight, bias, **keywords, formulation=formulation).plan
    chosen = {"gather": choose_gather, "scatter": choose_scatter}[formulation](plan)
    assert chosen.kernel.name == f"{formulation}_points"
    results = []
    for threads in (1, 2, 3):
        out = np.full(plan.output_shape, np.nan, dtype)
        with gtc.use(threads=threads):
            gtc.conv_transpose(x, weight, bias, **keywords, formulation=formulation, backend="cpu", out=out)
        results.append(out)
    assert all(np.array_equal(results[0], other) for other in results[1:])
    arrays = (array.astype("f8") for array in (x, weight, bias))
    want = gtc.conv_transpose(*arrays, **keywords, backend="reference")
    np.testing.assert_allclose(out, want, rtol=0, atol=(3e-6 if dtype == "float32" else 1e-14) * np.abs(want).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_phases_as_channels(dtype):
    rng = np.random.default_rng(2)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 300, 9), (300, 1, 200)))
    bias = np.array([0.7], dtype)
    keywords = {"stride": 40, "padding": [(40, 80)], "activation": "leaky_relu"}
    plan = gtc.explain(x, weight, bias, **keywords, formulation="scatter").plan
    assert choose_scatter(plan).kernel.name == "scatter_phases"
    results = []
    for threads in (1, 2, 3):
        out = np.full(plan.output_shape, np.nan, dtype)
        with gtc.use(threads=threads):
            gtc.conv_transpose(x, weight, bias, **keywords, formulation="scatter", backend="cpu", out=out)
        results.append(out)
    assert all(np.array_equal(results[0], other) for other in results[1:])
    want = gtc.conv_transpose(*(array.astype("f8") for array in (x, weight, bias)), **keywords, backend="reference")
    np.testing.assert_allclose(out, want, rtol=0, atol=(3e-6 if dtype == "float32" else 1e-14) * np.abs(want).max())


def test_any_number_of_threads_has_the_same_bits():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 160, 4, 4), np.float32)
    weight = rng.standard_normal((160, 50, 3, 3), np.float32)
    weight.flags.writeable = False
    results = []
    for threads in (1, 2, 3):
        with gtc.use(threads=threads):
            results.append(gtc.conv_transpose(x, weight, stride=2, backend="cpu", formulation="scatter"))
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("kernel", [choose.STAMP_LINES, STRIPS], ids=lambda kernel: kernel.name)
def test_what_is_not_finite_reaches_what_it_is_multiplied_with(kernel, take):
    take(kernel)
    x, weight = np.ones((1, 64, 3, 3), np.float32), np.ones((64, 8, 3, 3), np.float32)
    weight[5, 3, 0, 0], weight[63, 7, 2, 2], x[0, 9, 2, 2] = np.inf, np.nan, -np.inf
    with np.errstate(all="ignore"):
        want = gtc.conv_transpose(x, weight, stride=2, padding=1, backend="reference")
    np.testing.assert_allclose(
        gtc.conv_transpose(x, weight, stride=2, padding=1, backend="cpu", formulation="scatter"), want, rtol=1e-5
    )
