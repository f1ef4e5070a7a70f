"""Blocks computed in pairs by the CPU's gather: every choice of axes, whatever the size would suggest."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from checks import assert_close, assert_same_specials
from support.fakes import count_packing

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import choose, launch
from gpu_transconv.kernels.cpu.gemm.pairs import paired_axes
from gpu_transconv.kernels.cpu.gemm.winograd import saving
from gpu_transconv.problem.rewrites import kernel_axes
from gpu_transconv.ready import small_weights

#: Input, weight, and keywords; the phases of an axis have two taps, two and one, or two and none, or up to five.
LAYERS = {
    "rows-of-two-taps": ((2, 3, 37), (3, 5, 8), {"stride": 4, "padding": 2}),
    "one-phase-of-two": ((1, 4, 9), (4, 15, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "odd-numbers-of-blocks": ((3, 5, 5, 7), (5, 6, 4, 4), {"stride": 2, "padding": 1}),
    "kernel-3-stride-2": ((2, 4, 6, 35), (4, 17, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "different-axes": ((1, 3, 4, 9), (3, 4, 5, 6), {"stride": 3, "padding": [(2, 0), (0, 1)], "activation": "relu"}),
    "stride-1": ((1, 3, 6, 6), (3, 4, 2, 2), {}),
    "dilated": ((1, 3, 8, 9), (3, 4, 4, 3), {"stride": (2, 3), "dilation": (1, 3), "padding": 1}),
    "taps-apart": ((1, 3, 6, 7), (3, 4, 2, 2), {"stride": (1, 2), "dilation": (2, 4)}),
    "grouped": ((2, 6, 3, 40), (6, 2, 4, 3), {"stride": 2, "groups": 3, "activation": "silu"}),
    "three-axes": ((1, 3, 3, 4, 5), (3, 4, 3, 4, 3), {"stride": 2, "padding": 1}),
    "many-channels": ((1, 60, 4, 6), (60, 33, 4, 4), {"stride": 2, "padding": 1}),
    "three-taps": ((2, 4, 9, 11), (4, 15, 3, 3), {"padding": 1}),
    "three-and-two": ((1, 5, 7, 18), (5, 17, 5, 5), {"stride": 2, "padding": 2, "output_padding": 1}),
    "four-and-five": ((1, 3, 6, 40), (3, 14, 4, 9), {"stride": (1, 2), "padding": (1, 3)}),
    "one-output": ((1, 2, 3, 2), (2, 2, 4, 4), {"stride": 2, "padding": [(3, 4), (2, 3)]}),
}


def draw(name, dtype="float32"):
    x_shape, weight_shape, keywords = LAYERS[name]
    rng = np.random.default_rng(len(name))
    cout = weight_shape[1] * keywords.get("groups", 1)
    arrays = (rng.standard_normal(shape) for shape in (x_shape, weight_shape, (cout,)))
    return [array.astype(dtype) for array in arrays], keywords


@pytest.fixture(params=[(1,), (2,), (1, 2)], ids=["h", "w", "h-and-w"])
def paired(request, monkeypatch):
    """Pairs on these axes, of those that have them; and they are asked for."""
    chosen = []

    def chosen_axes(plan):
        axes = kernel_axes(plan)
        chosen.append(tuple(i for i in request.param if not plan.channels_last and saving(axes[i])))
        return chosen[-1]

    monkeypatch.setattr(choose, "paired_axes", chosen_axes)
    monkeypatch.setattr(choose, "GATHER", tuple(kernel for kernel in choose.GATHER if kernel is not choose.POINTS))
    caches = (choose.choose_gather, launch._many_jobs, launch._few_jobs, small_weights)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()
    assert chosen


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.usefixtures("paired")
def test_the_definition(name, dtype):
    arrays, keywords = draw(name, dtype)
    wide = [array.astype("float64") for array in arrays]
    want = gtc.conv_transpose(*wide, **keywords, backend="reference")
    got = gtc.conv_transpose(*arrays, **keywords, backend="cpu", formulation="gather")
    assert_close(got, want, dtype, arrays[1][:, 0].size)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ["rows-of-two-taps", "kernel-3-stride-2", "odd-numbers-of-blocks"])
@pytest.mark.usefixtures("paired")
def test_what_is_not_finite_stays_where_it_belongs(name, value):
    (x, weight, bias), keywords = draw(name)
    x.flat[[3, x.size // 2]] = value
    x.flat[4] = -x.flat[3]
    with np.errstate(all="ignore"):
        got = gtc.conv_transpose(x, weight, bias, **keywords, backend="cpu", formulation="gather")
        plain = gtc.conv_transpose(x, weight, bias, **keywords, backend="cpu", formulation="scatter")
    assert_same_specials(got, plain)


@pytest.mark.parametrize("name", ["odd-numbers-of-blocks", "kernel-3-stride-2", "rows-of-two-taps"])
@pytest.mark.usefixtures("paired")
def test_the_same_bits_for_any_number_of_threads(name):
    arrays, keywords = draw(name)
    results = set()
    before = numba.get_num_threads()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            results.add(gtc.conv_transpose(*arrays, **keywords, backend="cpu", formulation="gather").tobytes())
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1


def test_an_operator_packs_once_for_small_inputs_and_once_for_large_ones(monkeypatch):
    chosen = count_packing(monkeypatch)
    weight = np.random.default_rng(1).integers(-3, 4, (64, 32, 4, 4)).astype(np.float32)
    layer = gtc.ConvTranspose(weight, stride=2, padding=1, formulation="gather", precision="fast")
    for size in (2, 40, 3, 30, 2):
        x = np.random.default_rng(size).integers(-3, 4, (1, 64, size, size)).astype(np.float32)
        want = gtc.conv_transpose(x, weight, stride=2, padding=1, backend="reference")
        np.testing.assert_array_equal(layer(x), want)  # small integers: nothing is rounded
    assert [paired_axes(plan) for row, plan in chosen if row.backend == "cpu"] == [(), (1, 2)]


def small_beside_large(size=32, channels=64, value=3.3, outlier=-1e9):
    """A layer whose every second tap is zero, and an input with outliers in every third column."""
    weight = np.zeros((channels, channels, 4, 4), np.float32)
    weight[np.arange(channels), np.arange(channels)] = np.outer([0, 1, 1, 0], [0, 1, 1, 0])
    x = np.full((1, channels, size, size), value, np.float32)
    x[..., ::3] = outlier
    return x, weight


@pytest.mark.parametrize("outlier", [-1e9, -1e4, 1e30])
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_small_values_beside_large_ones_are_not_lost(formulation, outlier, data_format):
    x, weight = small_beside_large(outlier=outlier)
    wide = x.astype("float64"), weight.astype("float64")
    want = gtc.conv_transpose(*wide, stride=2, padding=1, backend="reference")  # one product each: nothing is rounded
    if data_format == "channels_last":
        x, want = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, want))
    layer = gtc.ConvTranspose(weight, stride=2, padding=1, formulation=formulation, data_format=data_format)
    np.testing.assert_array_equal(layer(x), want)


def test_fast_algorithms_are_asked_for_by_name():
    """What `precision="fast"` gives away, and that nothing else runs in pairs; so the test above is not idle."""
    x, weight = small_beside_large()
    keywords = {"stride": 2, "padding": 1, "formulation": "gather"}
    exact = gtc.conv_transpose(x, weight, **keywords)
    for setting in ({}, {"precision": "highest"}, {"precision": "tf32"}):
        assert gtc.conv_transpose(x, weight, **keywords, **setting).tobytes() == exact.tobytes()
    fast = gtc.conv_transpose(x, weight, **keywords, precision="fast")
    small = exact == x[0, 0, 0, 1]
    assert np.abs(fast[small] - exact[small]).max() > 1
    # The bound that holds all the same: against the largest input anywhere, not against the products of an output.
    assert np.abs(fast - exact).max() <= 8 * np.finfo(np.float32).eps * np.abs(x).max()


def test_the_bound_of_phases_with_more_taps():
    """Two and three taps, large inputs among small ones: the stated bound, against the largest input."""
    rng = np.random.default_rng(5)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 64, 20, 24), (64, 48, 5, 5)))
    x[..., ::3] *= 1e4
    keywords = {"stride": 2, "padding": 2, "output_padding": 1}
    found = gtc.explain(x, weight, **keywords, backend="cpu", formulation="gather", precision="fast")
    assert "in pairs on two axes), 36% fewer multiplications" in found.kernel
    got = gtc.conv_transpose(x, weight, **keywords, backend="cpu", formulation="gather", precision="fast")
    want = gtc.conv_transpose(x.astype("f8"), weight.astype("f8"), **keywords, backend="reference")
    sums = np.abs(weight[:, :, ::2, ::2]).sum((0, 2, 3)).max()  # of the phase with three taps on both axes
    bound = (1 + np.sqrt(64 * 9) / 2) * np.finfo("f4").eps * np.abs(x).max() * sums
    assert 0 < np.abs(got - want).max() <= bound
