"""What must not cost much on the CPU: nothing falls off the tiles without need, and no shape is kept for long."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from checks import assert_same_specials

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import launch

#: x and weight (channels first), keywords; each was computed element by element, ten to a hundred times slower.
TILED = {
    "3-d-17-phases": ((1, 4, 2, 2, 2), (4, 2, 17, 17, 17), {"stride": 17}),
    "2-d-65-phases": ((1, 4, 2, 2), (4, 2, 65, 65), {"stride": 65}),
    "3-d-one-pixel-cut": ((2, 4, 1, 1, 1), (4, 2, 19, 19, 19), {"padding": 1}),
    "2-d-one-pixel-cut": ((2, 4, 1, 1), (4, 2, 67, 67), {"padding": [(1, 0), (0, 2)]}),
    "2-d-one-pixel-dilated": ((2, 4, 1, 1), (4, 2, 34, 34), {"stride": 3, "dilation": 2, "padding": 1}),
}


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("name", TILED)
def test_many_phases_keep_the_tiles(name, formulation):
    x_shape, weight_shape, keywords = TILED[name]
    rng = np.random.default_rng(len(name))
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, weight_shape))
    for dtype in ("float32", "complex64"):
        found = gtc.explain(x.astype(dtype), weight.astype(dtype), **keywords, formulation=formulation)
        assert "plain" not in found.kernel
    got = gtc.conv_transpose(x, weight, **keywords, formulation=formulation)
    want = gtc.conv_transpose(x.astype("f8"), weight.astype("f8"), **keywords, backend="reference")
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_weight_that_is_not_finite_costs_its_own_channel(monkeypatch, formulation, dtype, data_format, groups):
    rng = np.random.default_rng(3)
    shape = (2, 5, 6, 8) if data_format == "channels_last" else (2, 8, 5, 6)
    x, weight = rng.standard_normal(shape).astype(dtype), rng.standard_normal((8, 4, 4, 4)).astype(dtype)
    weight[3, 1, 0, 2], weight[6, 2, 1, 1] = np.nan, -np.inf
    keywords = {"stride": 2, "padding": 1, "groups": groups, "data_format": data_format}
    computed = []
    original = launch.run_elementwise

    def counted(*arguments):
        computed.append(list(arguments[-2]))
        original(*arguments)

    monkeypatch.setattr(launch, "run_elementwise", counted)
    with np.errstate(all="ignore"):
        got = gtc.conv_transpose(x, weight, **keywords, formulation=formulation)
        want = gtc.conv_transpose(x, weight, **keywords, backend="reference")
    # By lists of what meets, and along lines, there are no zeros that it could be multiplied by.
    kernel = gtc.explain(x, weight, **keywords, formulation=formulation).kernel
    has_no_zeros = "weights turned" in kernel or "weights as they are" in kernel
    assert computed == ([] if has_no_zeros else [[1, 2] if groups == 1 else [1, 6]])
    assert_same_specials(got, want)
    finite = np.isfinite(want)
    assert 0.5 < finite.mean() < 1
    np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=3e-3 if dtype == "float16" else 1e-5)


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_sizes_of_a_long_kernel_are_not_all_kept(formulation):
    layer = gtc.ConvTranspose(np.ones((1, 1, 4096), np.float32), stride=256, formulation=formulation)
    layer(np.ones((1, 1, 2), np.float32))
    gc.collect()
    tracemalloc.start()
    try:
        for length in range(3, 103):
            layer(np.ones((1, 1, length), np.float32))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 8 << 20  # a table of every length would be 40 MiB
    finally:
        tracemalloc.stop()
