"""Large results leave past the caches: small ones do so here, from anywhere in memory, with rows of any length."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import geometry, launch

#: x, weight, and keywords: rows that share vectors, short ones, long ones, cut in boxes, strides of all kinds.
CASES = {
    "depthwise-3-d": ((1, 3, 5, 21, 40), (3, 1, 5, 5, 5), {"stride": 2, "padding": 2, "groups": 3}),
    "depthwise-along": ((2, 3, 9, 127), (3, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 3}),
    "depthwise-long": ((1, 2, 3, 5000), (2, 1, 3, 3), {"stride": (1, 2), "padding": 1, "groups": 2}),
    "depthwise-short": ((2, 9, 7, 3), (9, 1, 3, 3), {"stride": 3, "padding": 1, "groups": 9}),
    "depthwise-lines": ((2, 11, 301), (11, 1, 5), {"stride": 1, "padding": 2, "groups": 11}),
    "depthwise-two-and-one": ((2, 5, 4, 32), (5, 1, 2, 2), {"stride": 2, "padding": [(1, 1), (0, 0)], "groups": 5}),
    "depthwise-5": ((1, 4, 6, 50), (4, 1, 7, 9), {"stride": 5, "groups": 4}),
    "depthwise-10": ((1, 4, 41), (4, 2, 10), {"stride": 10, "groups": 4}),
    "dense-3-d": ((1, 40, 3, 6, 15), (40, 9, 3, 3, 3), {"stride": 2, "padding": 1}),
    "dense-short": ((3, 40, 5, 4), (40, 20, 3, 3), {"stride": 2, "padding": 1}),
    "dense-long": ((1, 40, 3000), (40, 5, 4), {"stride": 3}),
    "dense-12": ((1, 40, 31), (40, 5, 12), {"stride": 12}),
    "bare-3-d": ((1, 24, 3, 12, 21), (24, 9, 1, 1, 1), {"stride": 2}),
    "bare-cut": ((2, 40, 7, 85), (40, 5, 1, 1), {"stride": (2, 4), "padding": 1, "output_padding": (1, 3)}),
    "bare-rows": ((2, 40, 7, 45), (40, 5, 1, 1), {"stride": (3, 1), "padding": 1}),
    "few": ((1, 8, 20, 51), (8, 3, 3, 3), {"stride": 2, "padding": 1}),
    "few-long": ((1, 8, 3, 801), (8, 3, 4, 4), {"stride": 2, "padding": 1}),
    "last-dense": ((2, 9, 37, 40), (40, 32, 2, 2), {"stride": 2, "data_format": "channels_last"}),
    "last-cut": ((2, 7, 31, 20), (20, 48, 3, 1), {"stride": (2, 1), "padding": 1, "data_format": "channels_last"}),
    "last-few": ((1, 9, 40, 56), (56, 3, 4, 4), {"stride": 2, "padding": 1, "data_format": "channels_last"}),
    "last-depthwise": ((2, 5, 40, 48), (48, 1, 5, 5), {"stride": 2, "groups": 48, "data_format": "channels_last"}),
}


@pytest.fixture
def _streamed(monkeypatch):
    def forget():
        for cached in (geometry.make_geometry, launch._many_jobs, launch._few_jobs):
            cached.cache_clear()

    monkeypatch.setattr(geometry, "STREAMED", 0)
    forget()
    yield
    forget()


@pytest.mark.usefixtures("_streamed")
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("formulation", "dtype", "rounding"),
    [
        ("gather", np.float32, 0),
        ("scatter", np.float32, 0),
        ("gather", ml_dtypes.bfloat16, 2.0**-8),
        ("gather", np.float16, 2.0**-11),
    ],
)
@pytest.mark.parametrize("name", CASES)
def test_streamed_from_anywhere(name, formulation, dtype, rounding, activation):
    x_shape, weight_shape, keywords = CASES[name]
    rng = np.random.default_rng(len(name))
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape))
    bias = rng.standard_normal(weight.shape[1] * keywords.get("groups", 1)).astype(dtype)
    keywords = {**keywords, "activation": activation}
    want = gtc.conv_transpose(*(array.astype("f8") for array in (x, weight, bias)), **keywords, backend="reference")
    for past in (0, 1, 7, 14):
        room = np.full(want.size + 64, np.nan, dtype)
        start = -(room.ctypes.data // room.itemsize) % 16 + past
        out = room[start : start + want.size].reshape(want.shape)
        gtc.conv_transpose(x, weight, bias, **keywords, formulation=formulation, backend="cpu", out=out)
        np.testing.assert_allclose(out.astype("f8"), want, rtol=1.01 * rounding, atol=3e-6 * np.abs(want).max())
        assert np.isnan(room[:start]).all(), "elements before the result are written"
        assert np.isnan(room[start + want.size :]).all(), "elements behind the result are written"
