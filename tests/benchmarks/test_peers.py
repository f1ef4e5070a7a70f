"""The comparison with other libraries as a tool: it refuses wrong results, and its files have what readers need."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import documents, peers
from gpu_transconv.dispatch.timing import ROUNDS, take_turns
from gpu_transconv.tools import cli
from gpu_transconv.tools.bench import comparison, contenders, options

ROOT = Path(__file__).resolve().parents[2]

TINY = [
    {"name": "square", "cin": 3, "cout": 2, "spatial": [5, 4], "kernel": [4, 4], "stride": [2, 2]},
    {"name": "groups", "n": 2, "cin": 4, "cout": 6, "spatial": [7], "kernel": [3], "groups": 2},
]
MACHINE = {
    "cpu": "a machine",
    "threads": 1,
    "busy": 0.0,
    "peak_gflops": dict.fromkeys(("float32", "float64", "float16", "bfloat16"), 100.0),
    "copy_gb_per_s": 10.0,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the tool on the tiny layers in this process; returns the exit status and what --json wrote."""
    monkeypatch.setenv("GPU_TRANSCONV_BENCHMARK_CHILD", "1")
    monkeypatch.setattr(comparison, "measure_machine", lambda _: MACHINE)
    (tmp_path / "layers.json").write_text(json.dumps(TINY))

    def start(*arguments: str) -> tuple[int, dict[str, Any]]:
        files = ["--layers", str(tmp_path / "layers.json"), "--json", str(tmp_path / "out.json")]
        fixed = ["--no-peers", "--backend", "reference", "--seconds", "0.01", "--threads", "1"]
        status = peers.main([*files, *fixed, *arguments])
        out = tmp_path / "out.json"
        return status, json.loads(out.read_text()) if out.exists() else {}

    return start


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_right_results_are_timed(run: Any, dtype: str, data_format: str) -> None:
    status, document = run("--contenders", "function", "--dtype", dtype, "--data-format", data_format)
    assert status == 0
    assert [row["layer"]["name"] for row in document["rows"]] == ["square", "groups"]
    for row in document["rows"]:
        found = row["contenders"]["function"]
        assert found["status"] == "ok"
        assert 0 < found["min_ms"] <= found["median_ms"]
        assert math.isclose(found["gflops"], row["flops"] / found["min_ms"] / 1e6)
        assert math.isclose(found["roofline_fraction"], row["roofline_ms"] / found["min_ms"])
    assert document["rows"][0]["flops"] == 2 * 3 * 2 * 16 * 20
    assert document["machine"] == MACHINE
    assert {"python", "numpy", "numba", "gpu_transconv"} <= document["versions"].keys()
    assert {"date", "commit"} <= document.keys()
    assert document["summary"]["function"]["compared"] == 0


def test_what_bench_prints_is_such_a_file_too(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, written = run("--contenders", "function")
    capsys.readouterr()
    command = ["bench", str(tmp_path / "layers.json"), "--json", "--backend", "reference", "--no-peers"]
    assert cli.main([*command, "--seconds", "0.01"]) == 0
    (tmp_path / "out.json").write_text(capsys.readouterr().out)
    printed = json.loads((tmp_path / "out.json").read_text())
    assert printed.keys() == written.keys()
    assert set(written["options"]) - set(printed["options"]) == {"threads", "picture"}
    (group,) = documents.read_groups(tmp_path / "out.json")
    assert (group.device, group.dtype, group.data_format) == ("a machine, 1 thread", "float32", "channels_first")
    assert [row["layer"]["name"] for row in group.rows] == ["square", "groups"]
    for row in group.rows:
        assert [name for name, entry in row["contenders"].items() if entry["status"] == "ok"] == [*contenders.OURS]


def test_picture(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("--contenders", "function", "--picture", str(tmp_path / "out.png"))[0] == 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_own_formulations(run: Any) -> None:
    status, document = run("--own", "--only", "square")
    assert status == 0
    (row,) = document["rows"]
    times = {name: row["contenders"][name]["min_ms"] for name in ("auto", "gather", "scatter")}
    assert math.isclose(row["auto_loss"], times["auto"] / min(times["gather"], times["scatter"]) - 1)
    assert document["summary"]["auto"]["worst_loss"] == row["auto_loss"]


class Planted(contenders.Contender):
    """Right or wrong as asked: "edge" spoils one element, "later" spoils all but the first result."""

    def __init__(self, problem: Any, threads: int, *, fault: str) -> None:
        del threads
        self.calls, self.fault, self.problem = 0, fault, problem

    def run(self) -> Any:
        self.calls += 1
        result = self.problem.expected.copy()
        if self.fault == "edge" or (self.fault == "later" and self.calls > 1):
            result[..., -1] *= 1.01
        if self.fault == "nan":
            result[..., 0] = np.nan
        if self.fault == "shape":
            return result[..., :-1]
        if self.fault == "raises":
            raise RuntimeError("out of order")
        return result


@pytest.mark.parametrize("fault", ["edge", "later", "nan", "shape", "raises"])
def test_a_wrong_result_gets_no_speed(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    def planted(_backend: str) -> dict[str, Any]:
        return {
            "prepared": lambda problem, threads: Planted(problem, threads, fault="none"),
            "function": lambda problem, threads: Planted(problem, threads, fault=fault),
        }

    monkeypatch.setattr(options, "ours", planted)
    status, document = run("--only", "square")
    assert status == 1
    (row,) = document["rows"]
    assert row["contenders"]["prepared"]["status"] == "ok"
    assert row["contenders"]["function"]["status"] == ("failed" if fault == "raises" else "wrong")
    assert not row["contenders"]["function"].keys() & {"min_ms", "median_ms", "gflops", "roofline_fraction"}
    assert "function" not in document["summary"]
    (complaint,) = document["summary"]["wrong"]
    assert complaint.startswith("square: function: ")
    assert "not timed" in capsys.readouterr().out


def test_turns_are_interleaved() -> None:
    order: list[str] = []
    times = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, 1.0)
    assert min(len(times["a"]), len(times["b"])) >= ROUNDS
    assert sum(before != after for before, after in pairwise(order)) >= ROUNDS


@pytest.mark.parametrize(
    "arguments", [("--only", "nothing"), ("--contenders", "nobody"), ("--max-gmac", "0"), ("--layers", "no")]
)
def test_bad_options(run: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")


def test_as_a_script_with_threads(tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text(json.dumps(TINY[:1]))
    how = ["--no-peers", "--backend", "reference", "--contenders", "function", "--seconds", "0.01"]
    command = [sys.executable, str(ROOT / "benchmarks" / "peers.py"), "--layers", "layers.json", *how]
    environment = {key: value for key, value in os.environ.items() if key != "GPU_TRANSCONV_BENCHMARK_CHILD"}
    done = subprocess.run(
        [*command, "--threads", "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "square" in done.stdout
    assert "threads: 1" in done.stdout
