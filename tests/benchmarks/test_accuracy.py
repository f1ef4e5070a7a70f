"""Errors of the CPU kernels against the exact result: beside PyTorch's, and below the bounds that the docs state."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy

HIGHEST = [name for name in accuracy.CONTENDERS if name not in (accuracy.FAST, "reference", "PyTorch")]
#: A layer of every kind of kernel and of data; in the other types those where most can go wrong.
CHOSEN = [
    ("float32", name)
    for name in accuracy.LAYERS
    if name not in ("encodec24_up1", "unet_up1", "nnunet3d_m", "dcae_equiv", "positive, dcgan_l2")
]
CHOSEN += [
    (dtype, name) for dtype in ("float64", "float16", "bfloat16", "complex64") for name in ("fsrcnn_x3", "outliers")
]
#: Layers that run in pairs of blocks where that is allowed.
PAIRED = ("encodec24_up1", "hifigan_v1_up3", "bilinear", "outliers", "outliers, dense")
#: Most that an rms error of gather may be of PyTorch's. It sums all products of an output in a row, PyTorch the
#: channels of each tap first; where there are nine taps, that is a sum nine times as long, and its root in rounding.
OF_TORCH = {"fsrcnn_x3": 3.0, "positive, dcae_equiv": 2.0}


@pytest.fixture(scope="module", params=CHOSEN, ids=lambda chosen: "-".join(chosen))
def given(request: pytest.FixtureRequest) -> Any:
    dtype, name = request.param
    return name, accuracy.problem(name, dtype)


@pytest.mark.parametrize("contender", HIGHEST)
def test_highest_keeps_its_bound_against_the_products(given: Any, contender: str) -> None:
    _, problem = given
    error = problem.error(accuracy.CONTENDERS[contender](problem))
    assert error.products <= min(problem.bound(), problem.bound(worst=True))
    assert error.rms <= problem.rms_bound


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
def test_no_formulation_is_far_from_pytorch(given: Any) -> None:
    name, problem = given
    rms = {by: problem.error(accuracy.CONTENDERS[by](problem)).rms for by in (*HIGHEST, "PyTorch")}
    for by in HIGHEST:
        most = OF_TORCH.get(name, 1.5) if by.startswith("gather") else 1.5
        assert rms[by] <= most * rms["PyTorch"], by


@pytest.mark.parametrize("name", PAIRED)
def test_fast_keeps_its_bound_against_the_largest_input(name: str) -> None:
    problem = accuracy.problem(name, "float32")
    got = accuracy.CONTENDERS[accuracy.FAST](problem)
    assert problem.fast_share(got) <= 1
    assert problem.fast_share(got, worst=True) <= 1
    assert not np.array_equal(got, accuracy.CONTENDERS["gather"](problem)), "pairs of blocks did not run"


def test_the_bound_of_fast_is_not_that_of_highest() -> None:
    problem = accuracy.problem("outliers", "float32")
    assert problem.error(accuracy.CONTENDERS[accuracy.FAST](problem)).products > 1000 * problem.bound()


def test_the_measures() -> None:
    """Errors that are put into an exact result come out again, in multiples of eps."""
    problem = accuracy.problem("outliers", "float32")  # every output is 3.3 or -1e9, to float32
    exact = problem.exact.astype(np.float32)
    assert problem.error(exact) == (0, 0, 0)
    small = np.unravel_index(np.flatnonzero(exact > 0)[0], exact.shape)
    wrong = exact.copy()
    wrong[small] *= np.float32(1 + 2**-20)
    error = problem.error(wrong)
    assert error.products == pytest.approx(8, rel=0.1)
    assert error.largest < 1e-6
    for broken in (exact[:, :1], exact.astype(np.float64), np.full_like(exact, np.nan)):
        with pytest.raises(ValueError, match="centernet_r18_d3, float32"):
            problem.error(broken)


def test_page_has_the_rows_that_the_script_makes() -> None:
    page = accuracy.PAGE.read_text(encoding="utf-8")
    head, rest = page.split(accuracy.BEGIN)
    tables = rest.split(accuracy.END)[0].split("\n## ")
    rows = [
        [line.split(" | ")[0].removeprefix("| ") for line in t.splitlines() if line.startswith("|")] for t in tables
    ]
    message = "run: python -m benchmarks.accuracy"
    assert rows[0] == ["dtype", "---", *accuracy.EPS], message
    assert [table.split("\n")[0] for table in tables[1:]] == list(accuracy.EPS), message
    for names, table in zip(rows[1:], tables[1:], strict=True):
        assert names == ["layer", "---", *accuracy.LAYERS], message
        assert all(f" {contender} |" in table for contender in accuracy.CONTENDERS), message
    assert "1 + sqrt(n) / 2" in head
    with pytest.raises(ValueError, match=r"accuracy\.md must have"):
        accuracy.replaced(head, "", accuracy.BEGIN, accuracy.END, accuracy.PAGE.name)
