"""What the function keeps of small weights: their values decide, and little is kept."""

from __future__ import annotations

import numpy as np
import pytest
from support.fakes import count_packing

import gpu_transconv as gtc
from gpu_transconv.dispatch.select import FEW_WEIGHTS
from gpu_transconv.ready import _MOST, small_weights


def test_changed_values_count():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((1, 4, 5)), rng.standard_normal((4, 3, 3)), np.zeros(3)
    for change in (lambda: None, lambda: None, lambda: weight.fill(2), lambda: bias.fill(1), lambda: x.fill(0)):
        change()
        want = gtc.conv_transpose(x, weight, bias, stride=2, backend="reference")
        np.testing.assert_allclose(gtc.conv_transpose(x, weight, bias, stride=2, backend="cpu"), want, atol=1e-12)


@pytest.mark.parametrize("order", ["C", "F", "byteswapped", "read-only"])
def test_weights_of_any_layout(order):
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((1, 4, 5, 6)), rng.standard_normal((4, 3, 3, 3))
    want = gtc.conv_transpose(x, weight, stride=2, backend="reference")
    given = (
        weight.astype(weight.dtype.newbyteorder())
        if order == "byteswapped"
        else np.array(weight, order="F" if order == "F" else "C")
    )
    given.flags.writeable = order != "read-only"
    for _ in range(2):
        np.testing.assert_allclose(gtc.conv_transpose(x, given, stride=2, backend="cpu"), want, atol=1e-12)


@pytest.mark.parametrize(
    "way", ["plain", "no bias", "F", "byteswapped", "read-only", "inf", "out", "out in the weights"]
)
def test_weights_packed_in_every_call(way):
    rng = np.random.default_rng(2)
    x, weight, bias = (rng.standard_normal(shape) for shape in ((2, 24, 5, 6), (24, 20, 3, 3), 20))
    assert weight.nbytes > FEW_WEIGHTS
    if way == "inf":
        weight[1, 2, 1, 1] = np.inf
    given_bias = None if way == "no bias" else bias
    want = gtc.conv_transpose(x, weight, given_bias, stride=2, backend="reference")
    out = {"out": np.empty_like(want), "out in the weights": np.empty(want.size + weight.size)}.get(way)
    given = np.array(weight, order="F" if way == "F" else "C")
    if way == "byteswapped":
        given = given.astype(given.dtype.newbyteorder())
    if way == "out in the weights":
        given, out = out[: weight.size].reshape(weight.shape), out[weight.size // 2 :][: want.size].reshape(want.shape)
        given[...] = weight
    given.flags.writeable = way != "read-only"
    found = gtc.conv_transpose(x, given, given_bias, stride=2, backend="cpu", out=out)
    np.testing.assert_allclose(found, want, atol=1e-12)
    assert out is None or found is out


def test_few_are_kept(monkeypatch):
    packed = count_packing(monkeypatch)
    x, kept = np.ones((1, 4, 3)), [np.full((4, 2, 3), float(number)) for number in range(_MOST)]
    for weight in kept * 2:
        gtc.conv_transpose(x, weight, backend="cpu")
    assert len(packed) == _MOST
    for weight in (np.full((4, 2, 3), -1.0), kept[0]):  # one more, and the oldest has gone
        gtc.conv_transpose(x, weight, backend="cpu")
    assert len(packed) == _MOST + 2
    large = np.ones((4, FEW_WEIGHTS // (4 * 8), 2))
    for _ in range(2):
        gtc.conv_transpose(x, large, backend="cpu")
    assert len(packed) == _MOST + 4
    assert small_weights.cache_info().maxsize * _MOST * FEW_WEIGHTS <= 8 << 20
