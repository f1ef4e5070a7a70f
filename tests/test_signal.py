"""upfirdn against SciPy's, and SciPy's own tests on it."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import refused
from selection import in_full, one_of

import gpu_transconv as gtc
from gpu_transconv.signal import upfirdn

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("float16", "float32", "float64", "complex64", "complex128", "int16", "int64")
MODES = ("constant", "symmetric", "reflect", "edge", "wrap")
H, X = np.array([1.0, 2.0, 3.0]), np.arange(12.0).reshape(3, 4)


def drawn(rng: np.random.Generator, shape: list[int], dtype: str) -> np.ndarray:
    values = 9 * rng.standard_normal(shape)
    return (values + 9j * rng.standard_normal(shape) if dtype.startswith("complex") else values).astype(dtype)


@pytest.mark.parametrize("number", one_of(6, range(300)))
def test_random_problems(number):
    theirs = pytest.importorskip("scipy.signal").upfirdn
    draw, rng = random.Random(number), np.random.default_rng(number)
    ndim = draw.randint(1, 4)
    axis, shape = draw.randrange(-ndim, ndim), [draw.randint(1, 12) for _ in range(ndim)]
    shape[axis] = draw.randint(1, 60)
    mode = draw.choice(("constant", *MODES))
    rest = (draw.randint(1, 12), draw.choice((1, 1, 2, 3, 4, 6, 9, 15)), axis, mode)
    rest += (draw.choice((0, 2.5)) if mode == "constant" else 0,)
    h, x = drawn(rng, [draw.randint(1, 40)], draw.choice(DTYPES)), drawn(rng, shape, draw.choice(DTYPES))
    x = np.asfortranarray(x) if draw.random() < 0.3 else x[..., ::-1]
    got, want = upfirdn(h, x, *rest), theirs(h, x, *rest)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    tolerance = 4e-6 if want.dtype.name in ("float32", "complex64") else 1e-13
    assert np.max(np.abs(got - want)) <= tolerance * np.abs(want).max()


@pytest.mark.parametrize(("up", "down"), [(160, 147), (147, 160), (1, 44), (3, 1), (6, 4)])
def test_long_signals(up, down):
    theirs = pytest.importorskip("scipy.signal").upfirdn
    h, x = (
        np.random.default_rng(0).standard_normal(20 * max(up, down) + 1),
        np.random.default_rng(1).standard_normal(5000),
    )
    np.testing.assert_allclose(upfirdn(h, x, up, down), theirs(h, x, up, down), atol=1e-11)


@in_full
@pytest.mark.long
def test_their_tests():
    """All of SciPy's tests of upfirdn pass, but for the four extensions of `test_modes` that are refused."""
    pytest.importorskip("scipy")
    command = [sys.executable, "-m", "pytest", "--pyargs", "scipy.signal.tests.test_upfirdn", "-q", "-c", os.devnull]
    command += ["-p", "support.scipy_upfirdn", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-k", "not (test_modes and (smooth or line or antisymmetric or antireflect))"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    if "found no collectors" in done.stderr:
        pytest.skip("this SciPy comes without its tests")
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed, (\d+) deselected", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 4 * int(passed[2])


def test_kernels_ran(launched):
    upfirdn(H, X, 2)
    upfirdn(H, X, 2, 3)
    assert launched[0].startswith("cpu/")
    assert launched[1].startswith("cpu/input_grad/")


def test_signals_side_by_side_stay_where_they_are(monkeypatch):
    """With the channels last no axis is moved: what is launched on is the caller's memory."""
    x, seen = np.random.default_rng(0).standard_normal((2, 50, 16)), []
    original = gtc.signal.conv_transpose1d
    monkeypatch.setattr(gtc.signal, "conv_transpose1d", lambda x, *a, **k: seen.append(x) or original(x, *a, **k))
    upfirdn(H, x, 2, axis=1)
    assert np.shares_memory(seen[0], x)


@pytest.mark.parametrize(
    ("change", "error", "argument", "words"),
    [
        ({"h": [[1.0]]}, ValueError, "h", ("one axis", "(1, 1)")),
        ({"h": []}, ValueError, "h", ("at least one tap", "(0,)")),
        ({"up": 0}, ValueError, "up", (">= 1", "got 0")),
        ({"down": -2}, ValueError, "down", (">= 1", "got -2")),
        ({"down": 1.5}, ValueError, "down", ("an int", "got 1.5")),
        ({"axis": 2}, ValueError, "axis", ("x's 2", "from -2 to 1", "got 2")),
        ({"x": np.ones((3, 0))}, ValueError, "x", ("samples", "(3, 0)")),
        ({"mode": "smooth"}, ValueError, "mode", ("constant", "'smooth'", "scipy.signal.upfirdn does")),
        ({"mode": "mirror"}, ValueError, "mode", ("reflect", "'mirror'")),
        ({"x": np.ones(3, np.longdouble)}, TypeError, "h and x", ("longdouble", "no kernels")),
    ],
)
def test_bad_input(change, error, argument, words):
    given = {"h": H, "x": X, **change}
    if "longdouble" in words:
        words = (str(np.dtype(np.longdouble)), *words[1:])
    with refused(error, argument, *words):
        upfirdn(**given)
