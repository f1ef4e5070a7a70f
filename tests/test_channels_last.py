"""The CPU's kernels for channels last that the common cases are too small for: many channels, and boxes of few."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from checks import assert_close

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.emit.registers import has_couples

#: Input and weight with the channels second, kernel that gather should run, and keywords.
LAYERS = {
    "depthwise-1d": ((2, 37, 150), (37, 1, 3), "depthwise_last", {"stride": 2, "padding": 1}),
    "depthwise-2d": ((1, 300, 5, 37), (300, 1, 4, 4), "depthwise_last", {"stride": 2, "padding": 1}),
    "depthwise-3d": (
        (2, 17, 3, 4, 5),
        (17, 1, 3, 2, 5),
        "depthwise_last",
        {"stride": (2, 3, 1), "dilation": (1, 2, 1)},
    ),
    "depthwise-boxes": ((1, 32, 11, 27), (32, 1, 5, 6), "depthwise_last_boxes", {"stride": (1, 2), "padding": (2, 1)}),
    "depthwise-boxes-activation": (
        (2, 16, 5, 4, 9),
        (16, 1, 3, 3, 5),
        "depthwise_last_boxes",
        {"stride": (2, 1, 3), "padding": 1, "activation": "relu"},
    ),
    "depthwise-activation": ((1, 64, 9), (64, 1, 2), "depthwise_last", {"stride": 3, "activation": "silu"}),
    "depthwise-more-channels-than-sums": ((1, 5000, 3), (5000, 1, 3), "depthwise_last", {"stride": 2}),
    "one-channel": ((1, 70, 40), (70, 1, 9), "gather_filters", {"stride": 3, "padding": [(4, 2)]}),
    "rgb": ((3, 64, 19, 33), (64, 3, 4, 4), "gather_filters", {"stride": 2, "padding": 1}),
    "two-channels-3d": ((1, 9, 5, 6, 7), (9, 2, 3, 3, 3), "gather_boxes", {"stride": 2, "padding": 1}),
    "rgb-activation": ((1, 64, 40, 21), (64, 3, 3, 3), "gather_filters", {"padding": 1, "activation": "relu"}),
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_definition(name, dtype):
    x_shape, weight_shape, kernel, keywords = LAYERS[name]
    rng, stored = np.random.default_rng(7), getattr(ml_dtypes, dtype, dtype)
    groups = 1 if weight_shape[1] > 1 or kernel == "gather_filters" else x_shape[1]
    keywords = keywords | {"groups": groups, "data_format": "channels_last"}
    x = np.ascontiguousarray(np.moveaxis(rng.standard_normal(x_shape), 1, -1)).astype(stored)
    weight = rng.standard_normal(weight_shape).astype(stored)
    bias = rng.standard_normal(weight_shape[1] * groups).astype(stored)
    x[0, ..., 2].flat[1] = np.inf
    with np.errstate(all="ignore"):
        wide = [array.astype("float64") for array in (x, weight, bias)]
        want = gtc.conv_transpose(*wide, **keywords, backend="reference")
        got = gtc.conv_transpose(x, weight, bias, **keywords, backend="cpu", formulation="gather")
        other = gtc.conv_transpose(x, weight, bias, **keywords, backend="cpu", formulation="scatter")
    assert_close(got, want, dtype, weight[:, 0].size)
    assert_close(other, want, dtype, weight[:, 0].size)
    found = gtc.explain(x, weight, bias, **keywords, backend="cpu", formulation="gather")
    if "float16" in dtype:  # what is rounded has no tiles of channels
        kernel = kernel.removesuffix("_boxes") if groups > 1 else kernel
    coupled = dtype == "bfloat16" and has_couples()  # which are as fast in boxes
    kernel = kernel.replace("filters", "boxes") if coupled else kernel
    assert f"gather: {kernel} (" in str(found)
    if name.startswith("rgb") and "float16" not in dtype:
        found = gtc.explain(x, weight, bias, **keywords, backend="cpu", formulation="scatter")
        assert "scatter: scatter_pixels (" in str(found)
