"""Problems large enough to be cut into blocks, in each of the directions in which a kernel may cut."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from cases import DATA_FORMATS, Case
from checks import as_format, assert_close, expected, implementations, make_arrays, poisoned

import gpu_transconv as gtc

CASES = {
    "many-input-channels": ((1, 700, 5, 6), (700, 3, 4, 4), {"stride": 2, "padding": 1}),
    "many-channels": ((1, 300, 4, 5), (300, 70, 3, 3), {"padding": 1}),
    "many-output-channels": ((2, 6, 9, 10), (6, 150, 4, 4), {"stride": 2, "padding": 1}),
    "many-pixels": ((2, 3, 60, 70), (3, 5, 4, 4), {"stride": 2, "padding": 1}),
    "many-pixels-one-tap": ((1, 4, 70, 75), (4, 6, 2, 2), {"stride": 2}),
    "many-small-images": ((150, 8, 2, 3), (8, 9, 3, 3), {"stride": 2, "output_padding": 1}),
    "wide": ((1, 2, 3, 900), (2, 20, 3, 3), {"stride": 2, "dilation": 3}),
    "tall": ((1, 3, 700, 2), (3, 4, 5, 2), {"stride": (3, 1), "padding": (2, 0)}),
    "rgb": ((1, 16, 40, 50), (16, 3, 9, 9), {"stride": 4, "padding": 4, "output_padding": 3}),
    "long": ((2, 9, 3000), (9, 4, 16), {"stride": 8, "padding": 4}),
    "overlap-add": ((1, 65, 120), (65, 1, 256), {"stride": 64, "padding": [(100, 28)]}),
    "depthwise": ((1, 140, 20, 21), (140, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 140}),
    "depthwise-wide-and-tall": (
        (1, 2, 9, 1000),
        (2, 1, 20, 3),
        {"padding": (9, 1), "groups": 2, "activation": "relu"},
    ),
    "grouped": ((2, 1200, 3, 3), (1200, 5, 3, 3), {"groups": 4, "padding": 1}),
    "volume": ((1, 12, 9, 10, 40), (12, 10, 3, 3, 3), {"stride": (1, 2, 2), "padding": 1}),
    "volumes": ((2, 5, 8, 9, 10), (5, 6, 4, 4, 4), {"stride": 2, "padding": 1}),
    "many-taps": ((1, 21, 12, 13), (21, 21, 16, 16), {"stride": 8, "padding": 4}),
    "many-phases": ((1, 2, 3, 4), (2, 3, 5, 90), {"stride": (70, 80)}),
    "many-phases-with-gaps": ((1, 2, 300), (2, 3, 7), {"stride": 90, "dilation": 15, "output_padding": 60}),
}


@lru_cache(maxsize=4)
def problem(name, dtype):
    x, weight, keywords = CASES[name]
    case = Case(name, x, weight, bias=True, keywords=keywords)
    arrays = make_arrays(case, dtype)
    return case, arrays, expected(case, arrays)


ROWS = [row for row in implementations() if row.values[0].backend != "reference"]


# The problem varies slowest, so that its exact result is worked out once.
@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_definition(name, dtype, row, data_format, launched):
    case, arrays, want = problem(name, dtype)
    out = poisoned(as_format(want, case, data_format).shape, dtype)
    gtc.conv_transpose(
        as_format(arrays.x, case, data_format),
        *arrays[1:],
        **case.keywords,
        data_format=data_format,
        backend=row.backend,
        formulation=row.formulation,
        out=out,
    )
    assert launched == [row.name]
    assert_close(out, as_format(want, case, data_format), dtype, case.reduction)
    assert np.isfinite(out).all()
