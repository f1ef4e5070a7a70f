"""The CPU's own kernels of the gradient by the input: that they run where they should, and what is special of each."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from checks import assert_close, assert_same_specials, numpy_dtype

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import choose
from gpu_transconv.kernels.cpu.lines.line_partition import cut_lines
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.gradients import plan_input_grad
from gpu_transconv.problem.plan import ArraySpec
from gpu_transconv.problem.rewrites import correlation

#: x, weight, keywords, and whether grad_output is read as it lies.
LINES = {
    "long-lines": ((1, 9, 10), (9, 1, 5000), {"stride": 500}, True),
    "many-lines": ((1, 7, 3, 4), (7, 2, 9, 80), {"stride": (4, 40)}, True),
    "whole-images": ((3, 5, 1, 1), (5, 70, 4, 4), {}, True),
    "cropped": ((1, 9, 10), (9, 1, 5000), {"stride": 500, "padding": 7}, False),
    "short-lines": ((2, 13, 2, 3, 2), (13, 150, 2, 2, 2), {"stride": 2}, False),
    "padded": ((1, 6, 4, 5), (6, 120, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}, False),
    "grouped": ((2, 10, 5), (10, 300, 6), {"stride": 2, "padding": 2, "groups": 2}, False),
    "crowded": ((12, 5, 1, 1), (5, 256, 4, 4), {}, False),
}
#: x, weight, keywords: few channels of grad_output to a group and a stride, in boxes of several sizes.
BOXES = {
    "one-channel": ((1, 33, 20, 90), (33, 1, 9, 9), {"stride": 3, "padding": 3}),
    "several-images": ((3, 40, 12, 33), (40, 1, 4, 4), {"stride": 2, "padding": 1}),
    "three-axes": ((1, 32, 5, 9, 48), (32, 2, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "cropped-rows": ((1, 24, 40, 50), (24, 1, 7, 5), {"stride": (3, 2), "padding": (5, 4)}),
    "dilated-groups": ((2, 48, 30, 41), (48, 1, 3, 3), {"stride": 2, "dilation": (3, 1), "groups": 2}),
}
#: x, weight, keywords: depthwise with a stride, rows shorter and longer than vectors, filters cut off at every border.
THINNED = {
    "long-rows": ((2, 5, 333), (5, 1, 3), {"stride": 2, "padding": 1, "groups": 5}),
    "planes": ((1, 4, 9, 70), (4, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 4}),
    "several-results": ((2, 9, 7, 35), (9, 1, 5, 6), {"stride": (1, 5), "padding": (2, 3), "groups": 3}),
    "wide-taps": ((1, 3, 40, 50), (3, 1, 3, 5), {"stride": (3, 2), "dilation": (5, 9), "padding": 4, "groups": 3}),
    "volumes": ((1, 2, 5, 6, 40), (2, 1, 3, 2, 8), {"stride": (2, 1, 3), "padding": (1, 0, 5), "groups": 2}),
    "one-row-of-grad": ((1, 3, 3, 40), (3, 1, 3, 4), {"stride": (1, 2), "padding": (2, 1), "groups": 3}),
}


def problem(name, dtype="float32"):
    x, weight, keywords = (LINES | BOXES | THINNED)[name][:3]
    rng = np.random.default_rng(len(name))
    weight = rng.standard_normal(weight).astype(dtype)
    grad = gtc.conv_transpose(np.zeros(x, dtype), weight, **keywords)
    geometry = {key: value for key, value in keywords.items() if key != "output_padding"}
    return rng.standard_normal(grad.shape).astype(dtype), weight, geometry | {"input_size": x[2:]}


def correlation_of(grad, weight, geometry):
    """The forward problem that the gradient is, as kernels are asked about it."""
    keywords = {key: value for key, value in geometry.items() if key != "input_size"}
    params = make_params(weight.ndim - 2, **keywords)
    specs = (ArraySpec(array.shape, array.dtype) for array in (grad, weight))
    return correlation(plan_input_grad(params, *specs, geometry["input_size"], "highest"))


def run(arguments, **keywords):
    *arrays, geometry = arguments
    return gtc.conv_transpose_input_grad(*arrays, **geometry, **keywords)


def assert_right(arguments, dtype):
    grad, weight, geometry = arguments
    got = run(arguments, backend="cpu", formulation="gather")
    assert gtc.last_choice().implementation.name == "cpu/input_grad/gather"
    want = run((grad.astype("f8"), weight.astype("f8"), geometry), backend="reference")
    assert_close(got, want, dtype, weight[0].size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LINES)
def test_few_results_meet_weights_as_they_are(name, dtype):
    arguments = problem(name, dtype)
    choice = choose.choose_input_gather(correlation_of(*arguments))
    assert choice.kernel is choose.LINES
    assert bool(cut_lines(choice.plan, 2).lines.direct) == LINES[name][3]
    assert_right(arguments, dtype)


@pytest.mark.parametrize("name", ["padded", "grouped", "long-lines"])
def test_weights_as_they_are_may_be_infinite(name):
    grad, weight, geometry = problem(name)
    weight[1, 0].flat[0], weight[2, 0].flat[-1] = np.inf, np.nan
    arguments = grad, weight, geometry
    got = run(arguments, backend="cpu", formulation="gather")
    want = run(arguments, backend="reference")
    assert_same_specials(got, want)
    assert np.isfinite(got).any()


def test_a_layer_keeps_a_copy_of_weights_as_they_are():
    grad, weight, geometry = problem("short-lines")
    size = geometry.pop("input_size")
    layer = gtc.ConvTranspose(weight, **geometry, backend="cpu", formulation="gather")
    first = layer.input_grad(grad, input_size=size)
    weight[:] = 0
    np.testing.assert_array_equal(layer.input_grad(grad, input_size=size), first)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", BOXES)
def test_few_channels_are_summed_with_their_taps(name, dtype):
    arguments = problem(name, dtype)
    choice = choose.choose_input_gather(correlation_of(*arguments))
    assert choice.kernel is choose.BOXES
    tiles = choice.kernel.tiles
    assert tiles.cut(choice.plan, choice.order, 1).cut.flat
    assert_right(arguments, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", THINNED)
def test_depthwise_rows_are_thinned_out(name, dtype):
    arguments = problem(name, numpy_dtype(dtype))
    assert choose.choose_input_gather(correlation_of(*arguments)).kernel is choose.THINNED
    assert_right(arguments, dtype)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
@pytest.mark.parametrize("name", ["long-lines", "padded", "grouped", "one-channel", "three-axes", "planes"])
def test_threads_do_not_change_a_bit(name):
    arguments = problem(name)
    found = numba.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            numba.set_num_threads(threads)
            results.append(run(arguments, backend="cpu", formulation="gather"))
    finally:
        numba.set_num_threads(found)
    np.testing.assert_array_equal(*results)
