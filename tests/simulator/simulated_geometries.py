"""Random geometries small enough for the simulator, from the generator of tests/test_random_geometries.py."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

from cases import Case
from checks import DTYPES
from test_random_geometries import make_problem as make_large_problem

_SEED = 20
#: Bounds of one geometry: multiplications and output elements.
_MOST_PRODUCTS, _MOST_OUTPUTS = 20_000, 3_000


@lru_cache(maxsize=64)
def make_problem(number: int) -> tuple[Case, str, str]:
    """The `number`-th small geometry in a dtype that Numba-CUDA takes, the same on every machine."""
    problems = (make_large_problem(_SEED, attempt) for attempt in itertools.count())
    case, dtype, data_format = next(itertools.islice(filter(_is_small, problems), number, None))
    return case, dtype, data_format


def _is_small(problem) -> bool:
    case, dtype, _ = problem
    geometry, ndim = case.geometry, case.ndim
    batch = 1 if case.unbatched else case.x[0]
    outputs = [
        (i - 1) * s + d * (k - 1) + 1 + e
        for i, s, d, k, e in zip(
            case.x[-ndim:],
            geometry["stride"],
            geometry["dilation"],
            case.weight[2:],
            geometry["output_padding"],
            strict=True,
        )
    ]
    products = batch * math.prod(case.x[-ndim:]) * math.prod(case.weight)
    return (
        dtype in DTYPES["numba-cuda"]
        and products <= _MOST_PRODUCTS
        and batch * case.out_channels * math.prod(outputs) <= _MOST_OUTPUTS
    )
