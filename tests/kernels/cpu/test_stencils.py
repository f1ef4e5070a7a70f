"""Few output channels: lines of blocks that share their input, which is read where it lies."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from checks import assert_close

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import choose, launch
from gpu_transconv.kernels.cpu.few import stencil_boxes

#: x and weight (channels first), keywords: borders on all sides, lines that do not fill tiles, more taps than one has.
CASES = {
    "stride-1": ((2, 18, 21, 37), (18, 1, 3, 3), {"padding": 1}),
    "two-phases": ((1, 20, 19, 64), (20, 1, 4, 4), {"stride": 2, "padding": [(1, 0), (0, 2)]}),
    "two-channels": ((1, 17, 33, 50), (17, 2, 3, 5), {"padding": (0, 2)}),
    "many-taps": ((1, 5, 18, 63), (5, 1, 11, 2), {"output_padding": 0, "padding": (7, 0)}),
    "unequal-phases": ((1, 6, 20, 31), (6, 1, 7, 5), {"stride": (3, 2), "padding": (2, 1), "output_padding": (1, 0)}),
    "dilated-rows": ((1, 6, 20, 40), (6, 1, 5, 3), {"dilation": (1, 4)}),
    "groups": ((2, 16, 24, 32), (16, 1, 3, 3), {"groups": 4}),
    "three-axes": (
        (1, 9, 4, 17, 33),
        (9, 1, 3, 5, 3),
        {"padding": 1, "stride": (2, 1, 1), "output_padding": (1, 0, 0)},
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_lines_that_share_their_input(monkeypatch, name, dtype):
    """Boxes of few sums have several lines and are cut on the width too; what comes from memory is fetched early."""
    x_shape, weight_shape, keywords = CASES[name]
    rng, stored = np.random.default_rng(len(name)), getattr(ml_dtypes, dtype, dtype)
    x, weight = (rng.standard_normal(shape).astype(stored) for shape in (x_shape, weight_shape))
    bias = rng.standard_normal(weight.shape[1] * keywords.get("groups", 1)).astype(stored)
    want = gtc.conv_transpose(*(array.astype("f8") for array in (x, weight, bias)), **keywords, backend="reference")

    monkeypatch.setattr(choose, "GATHER", (choose.STENCIL,))

    def forget():
        for cached in (choose.choose_gather, launch._many_jobs):
            cached.cache_clear()

    def run():
        forget()
        operator = gtc.ConvTranspose(weight, bias, **keywords, backend="cpu", formulation="gather")
        assert "gather_stencil" in gtc.explain(x, weight, bias, **keywords, backend="cpu", formulation="gather").kernel
        return operator(x)

    try:
        got = run()
        assert_close(got, want, dtype, x.size)
        monkeypatch.setattr(stencil_boxes, "_SUMS", 2048)
        np.testing.assert_array_equal(run(), got)
        monkeypatch.setattr(stencil_boxes, "make_geometry", far_geometry(stencil_boxes.make_geometry))
        assert_close(run(), want, dtype, x.size)
    finally:
        forget()


def far_geometry(make):
    """The same with an input that comes from memory."""
    return lambda plan, coupled: make(plan, coupled)._replace(far=1)
