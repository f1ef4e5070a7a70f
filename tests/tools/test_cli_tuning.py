"""The commands that measure: tune, bench, and info with the machine's figures."""

from __future__ import annotations

import json

import pytest
from cli_checks import assert_refused, run_json

import gpu_transconv as gtc
from gpu_transconv.dispatch import store
from gpu_transconv.dispatch.limits import DeviceLimits, device_limits
from gpu_transconv.dispatch.select import invalidate
from gpu_transconv.tools.bench import libraries
from gpu_transconv.tools.cli import main

LAYERS = [
    {"name": "square", "cin": 3, "cout": 2, "spatial": [5, 4], "kernel": [4, 4], "stride": [2, 2]},
    {"name": "row", "n": 2, "cin": 4, "cout": 6, "spatial": [7], "kernel": [3], "groups": 2},
]
LIMITS = DeviceLimits("cpu", 1, dict.fromkeys(("float32", "float64", "float16", "bfloat16"), 100.0), 10.0, 1e-6, True)
MACHINE = {"cpu": "a machine", "busy": 0.0, "peak_gflops": LIMITS.peak_gflops, "copy_gb_per_s": 10.0}


@pytest.fixture(autouse=True)
def _no_measuring(folder, monkeypatch):  # noqa: ARG001
    """The machine's limits are fake, the layers small."""
    monkeypatch.setattr("gpu_transconv.dispatch.measure_limits.measure_cpu", lambda _threads: LIMITS)
    monkeypatch.setattr("gpu_transconv.tools.bench.comparison.measure_machine", lambda _threads: MACHINE)


@pytest.fixture
def layers(tmp_path):
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(LAYERS))
    return str(path)


# --- tune ----------------------------------------------------------------------------------------------


def test_tune(capsys, layers, launched):
    found = run_json(capsys, "tune", layers, "--seconds", "0.01", "--backend", "reference")
    assert [row["layer"] for row in found["layers"]] == ["square", "row"]
    assert found["database"] == str(store.database())
    for row in found["layers"]:
        assert set(row["seconds"]) == {"reference/gather", "reference/scatter"}
        assert row["fastest"] == min(row["seconds"], key=row["seconds"].__getitem__)
        assert row["gain"] == row["seconds"][row["before"]] / row["seconds"][row["fastest"]] - 1 >= 0
    assert device_limits().measured
    invalidate()
    assert store.count() == 2
    launched.clear()
    again = run_json(capsys, "explain", "--x", "2x4x7", "--weight", "4x3x3", "--groups", "2", "--backend", "reference")
    assert f"reference/{again['formulation']}" == found["layers"][1]["fastest"]
    assert "measured fastest" in again["reason"]
    assert launched == []


def test_tune_table(capsys, layers):
    options = ["--seconds", "0.01", "--backend", "reference", "--dtype", "float64", "--data-format", "channels_last"]
    assert main(["tune", "--layers", layers, *options]) == 0
    text = capsys.readouterr().out
    for words in ("square", "row", "reference/", str(store.database())):
        assert words in text


def test_tune_by_name(capsys):
    found = run_json(capsys, "tune", "fcn8s_up2", "--seconds", "0.01")
    assert set(found["layers"][0]["seconds"]) == {"cpu/gather", "cpu/scatter"}


def test_export_and_import(capsys, layers, tmp_path, monkeypatch):
    run_json(capsys, "tune", layers, "--seconds", "0.01", "--backend", "reference")
    file = str(tmp_path / "shipped.json")
    assert run_json(capsys, "tune", "--export", file) == {"exported": 2}
    monkeypatch.setenv("GPU_TRANSCONV_CACHE_DIR", str(tmp_path / "other"))
    assert run_json(capsys, "tune", "--import", file) == {"imported": 2}
    assert store.count() == 2
    assert main(["tune", "--import", file, "--export", file]) == 0
    assert "imported the results of 2 problems, exported the results of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["tune", "no_such_layer"], "no layer is called 'no_such_layer'"),
        (["tune", "missing.json"], "missing.json"),
        (["tune", "--max-gmac", "0"], "no layer of up to 0 GMAC"),
        (["tune", "--dtype", "int32"], "int32"),
        (["tune", "--backend", "abacus"], "backend must be one of"),
        (["tune", "--import", "missing.json"], "missing.json"),
        (["tune", "--export", "/no/such/folder/file"], "/no/such/folder"),
        (["bench", "no_such_layer"], "no layer is called 'no_such_layer'"),
        (["bench", "fcn8s_up2", "--contenders", "caffe"], "no contender is called 'caffe'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(capsys, argv, words):
    assert_refused(capsys, argv, words)


def test_a_file_that_lists_no_layers(capsys, tmp_path):
    (tmp_path / "layers.json").write_text('[{"name": "half", "cin": 1}]')
    assert_refused(capsys, ["bench", str(tmp_path / "layers.json")], "'half'", "no valid layer")


# --- bench ---------------------------------------------------------------------------------------------


def test_bench_table_with_a_peer(capsys, layers):
    pytest.importorskip("torch")
    options = ["--seconds", "0.02", "--contenders", "function,torch", "--backend", "reference"]
    assert main(["bench", layers, *options]) == 0
    text = capsys.readouterr().out
    for words in ("a machine", "square", "row", "torch", "times as fast as the best other library"):
        assert words in text


def test_a_peer_that_is_not_installed(capsys, layers, monkeypatch):
    def missing(_problem, _threads):
        raise ImportError("No module named 'abacus'")

    monkeypatch.setitem(libraries.PEERS, "abacus", missing)
    options = ["--seconds", "0.02", "--contenders", "function,abacus", "--backend", "reference"]
    assert main(["bench", layers, *options]) == 0
    assert "abacus left out: ImportError: No module named" in capsys.readouterr().out


# --- info ----------------------------------------------------------------------------------------------


def test_info_shows_figures_and_cache(capsys, folder):
    facts = run_json(capsys, "info")
    assert facts["cache"] == str(folder)
    assert facts["tuned_problems"] == 0
    assert facts["figures"][0]["device"] == "cpu"
    assert facts["figures"][0]["measured"] is False
    assert facts["threading_layer"] in ("tbb", "omp", "workqueue")
    assert not folder.exists()
    facts = run_json(capsys, "info", "--measure")
    assert facts["figures"][0]["measured"] is True
    assert facts["figures"][0]["peak_gflops"]["float32"] == 100.0
    assert main(["info"]) == 0
    assert "measured" in capsys.readouterr().out
    assert gtc.explain((1, 1, 2), (1, 1, 2)).measured_machine
