"""``gpu-transconv warm-up``: what calls will need is compiled ahead, and nothing is left to compile."""

from __future__ import annotations

import shutil

import numba
import numpy as np
import pytest
from cli_checks import assert_refused, run_json
from test_compiled import places  # noqa: F401  (a fixture: empty folders for machine code)

import gpu_transconv as gtc
from gpu_transconv.dispatch.select import invalidate
from gpu_transconv.kernels.cpu import warm_up
from gpu_transconv.kernels.cpu.runtime import compiled, machine_code
from gpu_transconv.tools.cli import main


def test_calls_after_a_warm_up_compile_nothing():
    """What calls asked for, of any size and layout, is among what the command compiles."""
    calls = {
        "float32": [{}, {"data_format": "channels_last"}, {"groups": 4}, {"groups": 4, "data_format": "channels_last"}],
        "int64": [{}],
    }
    for dtype, variants in calls.items():
        before = {name: set(kernel.signatures) for name, kernel in compiled.KERNELS.items()}
        for size, keywords in ((size, keywords) for size in (5, 99) for keywords in variants):
            shape = (1, size, size, 4) if "data_format" in keywords else (1, 4, size, size)
            weight = np.ones((4, 4 // keywords.get("groups", 1), 4, 4), dtype)
            for formulation in ("gather", "scatter"):
                gtc.conv_transpose(np.ones(shape, dtype), weight, stride=2, formulation=formulation, **keywords)
        for name, kernel in compiled.KERNELS.items():
            ahead = {step.run.args[0] for step in warm_up.steps([dtype]) if step.kernel == name}
            new = {signature for signature in set(kernel.signatures) - before[name] if numba.uint64 not in signature}
            assert new <= ahead, name  # with uint64 a loop of another kernel calls it


def test_steps_of_several_dtypes_share_what_is_the_same():
    names = [(step.kernel, step.dtype) for step in warm_up.steps(["float32", "bfloat16", "complex64"])]
    assert ("elementwise_gather", "bfloat16") not in names
    tiled = {"gather", "gather_boxes", "scatter", "depthwise", "depthwise_last", "pack_weight"}
    assert {(name, dtype) for name in tiled for dtype in ("float32", "bfloat16")} < set(names)
    assert {name for name, dtype in names if dtype == "complex64"} == {
        "elementwise_filters",
        "elementwise_gather",
        "elementwise_input_gather",
        "elementwise_input_scatter",
        "elementwise_scatter",
        "fork_join",
        "on_numba_threads",
    }
    # A second array of sums, as packed weights are, or of the half type; tables of tiles may be for either kind of it.
    twice = {name for name in names if names.count(name) > 1 and name[0] in compiled.KERNELS}
    assert twice == {("fork_join", "bfloat16"), ("on_numba_threads", "bfloat16")}


@pytest.fixture
def quick(monkeypatch):
    """Steps that compile nothing, written down."""
    asked = []

    def steps(dtypes):
        asked.extend(dtypes)
        return [warm_up.Step("gather", dtype, lambda: None) for dtype in dtypes]

    monkeypatch.setattr(warm_up, "steps", steps)
    return asked


def test_warm_up(capsys, quick, places):  # noqa: F811
    (places[0] / f"kernels-{machine_code._version}").mkdir(parents=True)
    found = run_json(capsys, "warm-up", "--dtype", "float64", "float16", "float64")
    assert found["folder"] == str(places[0] / f"kernels-{machine_code._version}")
    assert [(row["kernel"], row["dtype"]) for row in found["kernels"]] == [("gather", "float64"), ("gather", "float16")]
    assert found["seconds"] >= sum(row["seconds"] for row in found["kernels"])
    assert main(["warm-up"]) == 0
    assert quick == ["float64", "float16", "float32"]
    assert "1 kernels ready after" in capsys.readouterr().out
    shutil.rmtree(places[0])
    assert main(["warm-up"]) == 1
    assert "no folder" in capsys.readouterr().out


def test_warm_up_refuses(capsys, monkeypatch):
    assert_refused(capsys, ["warm-up", "--dtype", "float8"], "float8", "float32")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    invalidate()
    assert_refused(capsys, ["warm-up"], "NUMBA_DISABLE_JIT is set")
    monkeypatch.undo()
    invalidate()
