"""The asv suites' shared code: what is wrong raises, what is missing is skipped, work grows as it says."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, scaling
from gpu_transconv.tools.bench import contenders

ROOT = Path(__file__).resolve().parents[2]


class Wrong(contenders.Ours):
    def run(self) -> Any:
        result = super().run()
        result[..., -1] += 0.01
        return result


def test_a_wrong_result_raises_instead_of_reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = scaling.layer_at("batch", 2)
    harness.checked_call.cache_clear()
    harness.checked_call("gather", layer)()
    monkeypatch.setattr(harness, "formulation", lambda _: lambda problem, n: Wrong(problem, n, backend="reference"))
    harness.checked_call.cache_clear()
    with pytest.raises(AssertionError, match="wrong result on batch x 2"):
        harness.checked_call("gather", layer)


def test_what_cannot_be_measured_is_skipped_and_what_is_wrong_raises() -> None:
    found = {
        "contenders": {"torch": {"status": "left out", "note": "no torch"}, "ours": {"status": "wrong", "note": ""}}
    }
    for name in ("torch", "never there"):
        with pytest.raises(NotImplementedError, match=name):
            harness.entry_of(found, name)
    with pytest.raises(AssertionError, match="wrong"):
        harness.entry_of(found, "ours")


def test_kept_expectations_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    harness.keep_expected(["fcn8s_up2"])
    (kept,) = tmp_path.glob("*.npy")
    harness.checked_call.cache_clear()
    harness.checked_call("gather", harness.layer_named("fcn8s_up2"))
    np.save(kept, np.load(kept) + 0.1)
    harness.checked_call.cache_clear()
    with pytest.raises(AssertionError, match="fcn8s_up2"):
        harness.checked_call("gather", harness.layer_named("fcn8s_up2"))


def test_importing_the_suites_imports_no_other_library() -> None:
    """They are all imported wherever asv looks for benchmarks, and count in every figure of memory."""
    code = (
        "import importlib, pkgutil, sys, benchmarks\n"
        "for module in pkgutil.iter_modules(benchmarks.__path__, 'benchmarks.'): importlib.import_module(module.name)\n"
        "print(*sorted({'torch', 'onnxruntime', 'openvino', 'jax', 'cupy', 'matplotlib', 'asv'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("axis", scaling.AXES)
def test_work_grows_as_it_says(axis: str) -> None:
    first = scaling.layer_at(axis, 1).plan().flops
    for work in (2, 30, 1000):
        assert math.isclose(scaling.layer_at(axis, work).plan().flops, work * first, rel_tol=0.05)


def test_the_largest_cliff_is_found() -> None:
    times = {1: 9.0, 10: 10.0, 100: 90.0, 200: 340.0, 1000: 1600.0}
    cliff = scaling.largest_cliff([scaling.Point(work, seconds, 1) for work, seconds in times.items()])
    assert (cliff.cheap, cliff.dear) == (100, 200)
    assert math.isclose(cliff.ratio, 1.7 / 0.9)
    assert scaling.steps()[0] == 1
    assert scaling.steps()[-1] == 1000


def measured(ms: float) -> dict[str, Any]:
    return {"layer": {"name": "square"}, "contenders": {"prepared": {"status": "ok", "min_ms": ms}}}


def test_of_several_passes_the_fastest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = iter([measured(2.0), measured(1.5), measured(3.0)])
    monkeypatch.setattr(harness, "measure_machine", lambda _: {})
    monkeypatch.setattr(harness, "measure_rows", lambda *_: [next(passes)])
    rows = harness.rows_of({}, ["dcgan_l1"], passes=3)
    assert rows["square", "float32"]["contenders"]["prepared"]["min_ms"] == 1.5

    wrong = measured(1.0)
    wrong["contenders"]["prepared"] = {"status": "wrong", "note": ""}
    passes = iter([measured(2.0), wrong, measured(1.0)])
    rows = harness.rows_of({}, ["dcgan_l1"], passes=3)
    assert rows["square", "float32"]["contenders"]["prepared"]["status"] == "wrong"
