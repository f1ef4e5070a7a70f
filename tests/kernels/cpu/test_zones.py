"""Zones: products with zeros beyond the border are left out, inputs not copied, and no result changes by that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checks import assert_close

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu import choose, launch
from gpu_transconv.kernels.cpu.gemm import zones
from gpu_transconv.kernels.cpu.runs import run_partition
from gpu_transconv.problem.product import by_phase

#: x and weight (channels first), keywords: more inputs than there are lists of, and enough channels for runs.
CASES = {
    "one-axis": ((1, 6, 4, 300), (6, 144, 8, 1), {"stride": (4, 1)}),
    "two-axes": ((40, 6, 5, 6), (6, 48, 4, 3), {"stride": (2, 1), "padding": [(1, 1), (2, 0)]}),
    "three-axes": ((9, 5, 4, 5, 6), (5, 35, 3, 3, 3), {"padding": 1}),
    "bias-only": ((3, 8, 2, 920), (8, 22, 2, 2), {"stride": 2, "output_padding": 1}),
    "far-taps": ((60, 4, 3, 7), (4, 40, 5, 4), {"stride": (1, 3), "dilation": (2, 1), "output_padding": (0, 2)}),
}


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", CASES)
def test_zones_change_no_bit(monkeypatch, name, data_format):
    x_shape, weight_shape, keywords = CASES[name]
    rng = np.random.default_rng(len(name))
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, weight_shape))
    bias = rng.standard_normal(weight.shape[1]).astype(np.float32)
    if data_format == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    keywords = keywords | {"data_format": data_format, "formulation": "gather"}
    counts, in_place = [], run_partition.bounds_in_place
    caches = choose.choose_gather, launch._many_jobs
    monkeypatch.setattr(choose, "GATHER", (choose.RUNS,))  # which alone has zones

    def all_bounds(axis):
        return zones._all_bounds(axis, zones.reached_of(axis))

    def run(bounds_of, bounds_in_place=lambda _: None):
        def choose_bounds(plan):
            bounds = tuple(bounds_of(axis) for axis in by_phase(plan).axes)
            counts.append(math.prod(len(each) - 1 for each in bounds))
            return zones.Choice(bounds, 1.0)

        for cached in caches:
            cached.cache_clear()
        monkeypatch.setattr(run_partition, "choose_zones", choose_bounds)
        monkeypatch.setattr(run_partition, "bounds_in_place", bounds_in_place)
        return gtc.ConvTranspose(weight, bias, **keywords, backend="cpu")(x)

    try:
        got, whole = run(all_bounds), run(lambda axis: (0, axis.blocks))
        placed = run(all_bounds, in_place)
    finally:
        for cached in caches:
            cached.cache_clear()
    assert counts[0] > 2
    assert counts[1] == 1
    np.testing.assert_array_equal(got, whole)
    np.testing.assert_array_equal(placed, whole)
    want = gtc.conv_transpose(
        *(array.astype("f8") for array in (x, weight, bias)), **keywords | {"formulation": "auto"}, backend="reference"
    )
    assert_close(got, want, "float32", x.size)


@pytest.mark.parametrize(("rows", "bounds"), [(8, (0, 1, 8, 9)), (500, (0, 501))], ids=["few rows", "many rows"])
def test_zones_are_where_they_save_products(monkeypatch, rows, bounds):
    found = []
    original = run_partition.make_zones
    monkeypatch.setattr(run_partition, "make_zones", lambda *args: found.append(args[2]) or original(*args))
    launch._many_jobs.cache_clear()
    x, weight = np.zeros((1, 64, rows, 133), np.float32), np.zeros((64, 48, 8, 1), np.float32)
    gtc.conv_transpose(x, weight, stride=(4, 1), backend="cpu", formulation="gather")
    assert found == [((0, 1), bounds, (0, 133))]
