"""What must hold for every problem: random geometries, against algebra and not against another kernel."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from checks import implementations
from hypothesis import assume, given

import gpu_transconv as gtc

ROWS = implementations("cpu", "reference")


class Problem(NamedTuple):
    """Arrays of float64 with small whole numbers: every sum is exact, in any order."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    keywords: dict[str, Any]

    def run(self, row, **changes):
        given = {"x": self.x, "weight": self.weight, "bias": self.bias, **self.keywords, **changes}
        return gtc.conv_transpose(**given, backend=row.backend, formulation=row.formulation)


@st.composite
def problems(draw, least_batch=1, real=False):
    ndim = draw(st.integers(1, 3))
    most = {1: 9, 2: 5, 3: 3}[ndim]

    def per_axis(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    size, kernel, stride, dilation = per_axis(1, most), per_axis(1, most), per_axis(1, 4), per_axis(1, 3)
    axes = list(zip(size, kernel, stride, dilation, strict=True))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for *_, s, d in axes)
    full = [(i - 1) * s + d * (k - 1) + 1 + e for (i, k, s, d), e in zip(axes, extra, strict=True)]
    padding = []
    for length in full:
        low = draw(st.integers(0, min(5, length - 1)))
        padding.append((low, draw(st.integers(0, min(5, length - 1 - low)))))
    groups = draw(st.integers(1, 3))
    cin, cout = groups * draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def values(*shape):
        return rng.standard_normal(shape) if real else rng.integers(-8, 9, shape).astype(float)

    bias = values(cout * groups) if draw(st.booleans()) else None
    keywords = {"stride": stride, "dilation": dilation, "groups": groups}
    keywords |= {"padding": padding, "output_padding": extra}
    return Problem(values(draw(st.integers(least_batch, 4)), cin, *size), values(cin, cout, *kernel), bias, keywords)


def correlate(image, weight, shape, *, stride, padding, dilation, groups, **_):
    """Strided cross-correlation of (N, Cout, ...) with a transposed layer's weight, to (N, Cin, *shape)."""
    axes = list(zip(shape, weight.shape[2:], stride, dilation, padding, image.shape[2:], strict=True))
    # Room for every tap of every position: what the padding adds, and what falls off the far end.
    room = [(low, max(0, (i - 1) * s + d * (k - 1) + 1 - low - o)) for i, k, s, d, (low, _), o in axes]
    padded = np.pad(image, [(0, 0), (0, 0), *room])
    blocks = np.split(padded, groups, axis=1)
    filters = np.split(weight, groups)
    result = 0
    for taps in itertools.product(*map(range, weight.shape[2:])):
        seen = tuple(slice(k * d, k * d + (i - 1) * s + 1, s) for k, (i, _, s, d, *_) in zip(taps, axes, strict=True))
        parts = [
            np.einsum("no...,co->nc...", b[(..., *seen)], w[(..., *taps)]) for b, w in zip(blocks, filters, strict=True)
        ]
        result = result + np.concatenate(parts, axis=1)
    return result


@given(problems(), st.data())
@pytest.mark.parametrize("row", ROWS)
def test_adjoint_of_the_correlation(row, problem, data):
    features = problem.run(row, bias=None)
    seed = data.draw(st.integers(0, 99))
    image = np.random.default_rng(seed).integers(-8, 9, features.shape).astype(float)
    detected = correlate(image, problem.weight, problem.x.shape[2:], **problem.keywords)
    assert np.sum(features * image) == np.sum(problem.x * detected)


@given(problems())
@pytest.mark.parametrize("row", ROWS)
def test_shape(row, problem):
    k = problem.keywords
    rows = zip(
        problem.x.shape[2:],
        problem.weight.shape[2:],
        k["stride"],
        k["padding"],
        k["output_padding"],
        k["dilation"],
        strict=True,
    )
    spatial = [(i - 1) * s - low - high + d * (n - 1) + e + 1 for i, n, s, (low, high), e, d in rows]
    got = problem.run(row)
    assert list(got.shape) == [len(problem.x), problem.weight.shape[1] * k["groups"], *spatial]
    sized = {key: value for key, value in k.items() if key != "output_padding"}
    again = problem._replace(keywords=sized).run(row, output_size=spatial)
    np.testing.assert_array_equal(got, again)


@given(problems(), st.integers(-5, 5), st.integers(0, 99))
@pytest.mark.parametrize("row", ROWS)
def test_linear_in_the_input_and_in_the_weight(row, problem, factor, seed):
    rng = np.random.default_rng(seed)
    other = rng.integers(-8, 9, problem.x.shape).astype(float)
    whole = problem.run(row, x=problem.x + factor * other, bias=None)
    np.testing.assert_array_equal(whole, problem.run(row, bias=None) + factor * problem.run(row, x=other, bias=None))
    other = rng.integers(-8, 9, problem.weight.shape).astype(float)
    whole = problem.run(row, weight=problem.weight + factor * other, bias=None)
    np.testing.assert_array_equal(
        whole, problem.run(row, bias=None) + factor * problem.run(row, weight=other, bias=None)
    )


@given(problems())
@pytest.mark.parametrize("row", ROWS)
def test_bias_is_added_everywhere(row, problem):
    assume(problem.bias is not None)
    bias = problem.bias.reshape(-1, *[1] * (problem.x.ndim - 2))
    np.testing.assert_array_equal(problem.run(row), problem.run(row, bias=None) + bias)


@given(problems())
@pytest.mark.parametrize("backend", sorted({row.values[0].backend for row in ROWS}))
def test_gather_equals_scatter(backend, problem):
    both = (
        gtc.conv_transpose(*problem[:3], **problem.keywords, backend=backend, formulation=formulation)
        for formulation in ("gather", "scatter")
    )
    np.testing.assert_array_equal(*both)


# Bit for bit, so with values whose sums depend on their order.


@given(problems(least_batch=2, real=True))
@pytest.mark.parametrize("row", implementations("cpu"))
def test_images_do_not_depend_on_each_other(row, problem):
    whole = problem.run(row)
    for n, image in enumerate(problem.x):
        alike = np.repeat(image[None], len(problem.x), axis=0)
        np.testing.assert_array_equal(whole[n], problem.run(row, x=alike)[0])


@given(problems(real=True))
@pytest.mark.parametrize("row", implementations("cpu"))
def test_groups_are_layers_of_their_own(row, problem):
    groups = problem.keywords["groups"]
    alone = {**problem.keywords, "groups": 1}
    xs, weights = np.split(problem.x, groups, axis=1), np.split(problem.weight, groups)
    biases = [None] * groups if problem.bias is None else np.split(problem.bias, groups)
    parts = [Problem(*arrays, alone).run(row) for arrays in zip(xs, weights, biases, strict=True)]
    np.testing.assert_array_equal(problem.run(row), np.concatenate(parts, axis=1))


@given(problems(real=True))
@pytest.mark.parametrize("row", ROWS)
def test_channels_last_is_channels_first_moved(row, problem):
    first = problem.run(row)
    last = problem.run(row, x=np.ascontiguousarray(np.moveaxis(problem.x, 1, -1)), data_format="channels_last")
    reduction = problem.weight.shape[0] * math.prod(problem.weight.shape[2:])
    bound = 2**-52 * (4 + reduction) * max(1.0, np.max(np.abs(first)))
    assert np.max(np.abs(np.moveaxis(last, -1, 1) - first)) <= bound


@given(problems(real=True))
@pytest.mark.parametrize("row", ROWS)
def test_a_second_call_gives_the_same_bits(row, problem):
    assert problem.run(row).tobytes() == problem.run(row).tobytes()
