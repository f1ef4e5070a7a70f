"""bfloat16 multiplied two channels at a time, where the CPU can: which layers are, their error, and what is special."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.choose import choose_gather, choose_scatter
from gpu_transconv.kernels.cpu.emit import registers

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ZNVER4 = "+avx,+avx2,+avx512f,+avx512bf16"
#: x, weight, and keywords, channels first: ragged tiles, one couple, groups, dilation, batches, borders, several
#: panels, one input, taps and channels in one sum; odd channels, of which gather couples those of a single group.
LAYERS = {
    "1-d": ((2, 130, 33), (130, 20, 16), {"stride": 8, "padding": 4}),
    "one-couple": ((1, 2, 9, 70), (2, 3, 5, 5), {"stride": 2, "padding": 2, "output_padding": 1}),
    "groups": ((3, 12, 5, 6), (12, 5, 3, 3), {"groups": 2, "dilation": 2, "padding": 1}),
    "3-d-panels": ((1, 300, 2, 3, 4), (300, 7, 3, 3, 3), {"stride": 2, "padding": 1}),
    "one-input": ((4, 50, 1, 1), (50, 16, 4, 4), {}),
    "points": ((2, 34, 7, 9), (34, 65, 1, 1), {}),
    "odd": ((1, 7, 6, 5), (7, 6, 4, 4), {"stride": 2, "padding": 1}),
    "odd-points": ((2, 33, 7, 9), (33, 65, 1, 1), {}),
    "odd-panels": ((1, 301, 3, 40), (301, 9, 3, 3), {"padding": 1}),
    "odd-groups": ((1, 10, 9, 8), (10, 3, 3, 3), {"groups": 2}),
}
needs_couples = pytest.mark.skipif(not registers.has_couples(), reason="this CPU has no AVX512_BF16")


def draw(name):
    x_shape, weight_shape, keywords = LAYERS[name]
    rng = np.random.default_rng(len(name))
    shapes = (x_shape, weight_shape, (weight_shape[1] * keywords.get("groups", 1),))
    return [rng.standard_normal(shape).astype(BFLOAT16) for shape in shapes], keywords


def last(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


@needs_couples
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", LAYERS)
def test_error_and_threads(name, data_format):
    (x, weight, bias), keywords = draw(name)
    exact = gtc.conv_transpose(*(a.astype("f8") for a in (x, weight, bias)), **keywords, backend="reference")
    products = gtc.conv_transpose(*(abs(a.astype("f8")) for a in (x, weight, bias)), **keywords, backend="reference")
    count = weight[:, 0].size / keywords.get("groups", 1)
    bound = (1 + count**0.5 / 2) * 2**-23 * products + 2**-8 * abs(exact) * (1 + 2**-8)
    for formulation in ("gather", "scatter"):
        words = {**keywords, "formulation": formulation, "data_format": data_format, "backend": "cpu"}
        arrays = (x if data_format == "channels_first" else last(x), weight, bias)
        choose = {"gather": choose_gather, "scatter": choose_scatter}[formulation]
        first = data_format == "channels_first" and name != "one-input"  # which is read as pixels of more channels
        coupled = formulation == "gather" or first
        if name.startswith("odd"):
            coupled = name != "odd-groups" and formulation == "gather" and data_format == "channels_first"
        assert choose(gtc.explain(*arrays, **words).plan).order.coupled == coupled
        results = []
        for threads in (1, 2):
            with gtc.use(threads=threads):
                results.append(gtc.conv_transpose(*arrays, **words))
        assert results[0].tobytes() == results[1].tobytes()
        got = np.moveaxis(results[0], -1, 1) if data_format == "channels_last" else results[0]
        assert (abs(got.astype("f8") - exact) <= bound).all()


@needs_couples
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_what_is_not_finite_and_what_is_subnormal(formulation):
    x, weight = np.ones((1, 4, 3, 3), BFLOAT16), np.ones((4, 2, 2, 2), BFLOAT16)
    x[0, 1, 0, 0], x[0, 2, 1, 1], x[0, 3, 2, 2] = np.inf, np.nan, -np.inf
    weight[3, 1, 1, 1] = np.inf
    with np.errstate(all="ignore"):
        want = gtc.conv_transpose(x, weight, stride=2, backend="reference")
    got = gtc.conv_transpose(x, weight, stride=2, backend="cpu", formulation=formulation)
    np.testing.assert_array_equal(got.astype("f4"), want.astype("f4"))
    small = np.full((1, 2, 3, 3), 2.0**-130, BFLOAT16)  # below the smallest normal number, 2**-126
    ones = np.full((2, 1, 2, 2), 2.0**100, BFLOAT16)
    assert not gtc.conv_transpose(small, ones, stride=2, backend="cpu", formulation=formulation).any()


@pytest.mark.parametrize(
    ("features", "found"), [(ZNVER4, True), (ZNVER4.replace("+avx512bf16", "-avx512bf16"), False), ("+avx2", False)]
)
def test_where_there_are_couples(features, found):
    assert registers.target_of("x86_64-unknown-linux-gnu", features).couples is found


@needs_couples
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", LAYERS)
def test_scatter_without_couples_is_not_taken_for_faster(name, data_format):
    (x, weight, bias), keywords = draw(name)
    x = x if data_format == "channels_first" else last(x)
    plan = gtc.explain(x, weight, bias, **keywords, data_format=data_format).plan
    gather, scatter = choose_gather(plan), choose_scatter(plan)
    if not scatter.order.coupled:
        assert gather.work_ratio < scatter.work_ratio
