"""Sizes whose products leave 64 bits: a `MemoryError` with the size, or the right result; never another error."""

from __future__ import annotations

import random

import numpy as np
import pytest
from checks import refused

import gpu_transconv as gtc
from gpu_transconv import operators

X, WEIGHT = np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2))
#: One axis, two or three of them alone fit into memory; together they do not fit into 64 bits.
KEYWORDS = [
    {"dilation": 2**21},
    {"stride": 2**22},
    {"stride": 2**22, "output_padding": 2**22 - 1},
    {"stride": 2**22, "padding": "same"},
    {"dilation": (2**40, 2**40, 1)},
    {"dilation": 2**63},
    {"stride": (1, 2**64, 2**100)},
]


@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
@pytest.mark.parametrize("formulation", ["auto", "gather", "scatter"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_call(keywords, formulation, backend, launched):
    named = {"formulation": formulation, "backend": backend}
    for x in (X, X[:0], X[0]):
        for data_format in ("channels_first", "channels_last"):
            more = {**keywords, **named, "data_format": data_format}
            x_ = x if data_format == "channels_first" else np.moveaxis(x, -4, -1)
            with refused(MemoryError, "the output of shape", "float64", "bytes"):
                gtc.conv_transpose(x_, WEIGHT, **more)
            with refused(MemoryError, "the output of shape", "float64", "bytes"):
                gtc.ConvTranspose(WEIGHT, **more)(x_)
            with refused(MemoryError, "the output of shape", "float32", "bytes"):
                gtc.explain(x_.shape, WEIGHT.shape, **more)
    assert launched == []


@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
def test_the_convolution_that_it_is(keywords):
    if keywords.get("padding") == "same":
        keywords = keywords | {"padding": "valid"}
    found = operators.as_convolution(WEIGHT, **keywords)
    for method in (found.stuff, found.apply):
        with refused(MemoryError, "the output of shape", "bytes"):
            method(X)


@pytest.mark.parametrize(
    ("name", "x", "weight"),
    [
        ("x", (2**40, 1, 2**20), (1, 1, 2)),
        ("x", (1, 2**62, 4), (2**62, 1, 2)),
        ("x", (0, 1, 2**60), (1, 1, 2)),
        ("weight", (1, 2**20, 4), (2**20, 2**40, 2)),
        ("output", (2**20, 1, 2**20), (1, 2**20, 2)),
    ],
)
def test_explaining_shapes(name, x, weight):
    with refused(MemoryError, f"the {name} of shape", "bytes"):
        gtc.explain(x, weight)


@pytest.mark.parametrize("image", [(1, 2**21, 2**21, 2**21), (1, 2**62, 1, 1), (1, 2**63, 2**63, 2**63)], ids=str)
def test_pictures(image):
    for build in (operators.conv_matrix, operators.ConvOperator):
        with refused(MemoryError, "the picture of shape", "bytes"):
            build(np.ones((1, 1, 1, 1, 1)), image)


def test_a_matrix_is_weighed_before_any_of_it_is_made(monkeypatch):
    monkeypatch.setattr(np, "ogrid", None)  # what `_sight` begins with
    with refused(MemoryError, "the matrix of 9,999,400,009 entries", "ConvOperator"):
        monkeypatch.setattr(operators.matrix, "memory_bytes", lambda: 10**9)
        operators.conv_matrix(np.ones((1, 1, 3, 3)), (1, 33333, 33333), padding=1)


def test_what_is_cropped_may_be_enormous():
    """Strides and dilations beyond 32 bits whose output is small: right, or refused for their reach."""
    rng, done = random.Random(7), 0
    for _ in range(60):
        stride = [rng.choice((1, 2, 2**20, 2**31, 2**32 + 1, 2**44)) for _ in range(2)]
        dilation = [rng.choice((1, 3, 2**21 + 1, 2**31 - 1, 2**33, 2**44)) for _ in range(2)]
        full = [s + d * 2 + 1 for s, d in zip(stride, dilation, strict=True)]
        places = [rng.randrange(2) * s + rng.randrange(3) * d for s, d in zip(stride, dilation, strict=True)]
        low = [max(0, place - rng.randrange(3)) for place in places]  # one product at least stays
        padding = [(a, max(0, size - a - 3)) for a, size in zip(low, full, strict=True)]
        x, weight = np.arange(1.0, 5.0).reshape(1, 1, 2, 2), np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
        keywords = {"stride": stride, "dilation": dilation, "padding": padding}
        want = np.zeros([size - sum(pads) for size, pads in zip(full, padding, strict=True)])
        for i, j, k, m in np.ndindex(2, 2, 3, 3):
            place = i * stride[0] + k * dilation[0] - low[0], j * stride[1] + m * dilation[1] - low[1]
            if all(0 <= p < n for p, n in zip(place, want.shape, strict=True)):
                want[place] += x[0, 0, i, j] * weight[0, 0, k, m]
        for formulation in ("gather", "scatter"):
            got = gtc.conv_transpose(x, weight, **keywords, formulation=formulation)
            np.testing.assert_array_equal(got[0, 0], want)
            done += got.any()
    assert done == 120
