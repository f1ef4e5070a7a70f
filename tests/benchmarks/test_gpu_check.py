"""The check on a GPU as a tool, on a device and a clock that are made up."""

from __future__ import annotations

import json
import math
import subprocess
import threading
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import gpu_check, gpu_measure, gpu_report

TINY = [
    {"name": "square", "cin": 8, "cout": 4, "spatial": [16, 16], "kernel": [4, 4], "stride": [2, 2]},
    {"name": "line", "cin": 6, "cout": 2, "spatial": [40], "kernel": [4], "stride": [2]},
]
MACHINE = {
    "device": "NVIDIA Made-Up 100",
    "copy_gb_per_s": 1000.0,
    "peak_tflops": {"float32": 1.0, "tf32": 10.0, "float16": 20.0, "bfloat16": 20.0},
}
#: Milliseconds of one call.
TIMES = {"gather": 2.0, "scatter": 4.0, "auto": 2.2, "cudnn_heuristic": 6.0, "cudnn_search": 3.3}


class FakeDevice:
    """A device whose calls take as long as `times` says, on a clock that only it advances."""

    def __init__(self, times: dict[str, float], errors: dict[str, float] | None = None, build_seconds: float = 0.0):
        self.now, self.times, self.errors, self.build_seconds = 0.0, times, errors or {}, build_seconds
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now

    def clock_calls(self, call: Any, count: int, ahead: float = 0.0) -> Any:
        self.now += ahead
        names = [call() for _ in range(count)]
        self.now += sum(self.times[str(name)] for name in names) / 1e3
        return gpu_measure.Times([self.times[str(name)] for name in names], 1e-5 * count)

    def error(self, result: Any, expected: Any) -> float:
        assert expected == "expected"
        return self.errors.get(result, 0.0)

    def contenders(self, task: Any) -> Any:
        def build(name: str) -> Any:
            self.now += self.build_seconds
            if name == "refuses":
                raise RuntimeError("no such kernel\nand more")

            def call() -> str:
                self.calls.append(name)
                return name

            return call

        peers_too = task.layer.ndim > 1 or task.data_format == "channels_first"
        names = [name for name in self.times if peers_too or not name.startswith("cudnn")]
        return gpu_measure.Contenders("expected", {name: lambda name=name: build(name) for name in names})


@pytest.fixture
def layers_file(tmp_path: Path) -> Path:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(TINY))
    return path


def tasks_of(layers_file: Path, *arguments: str) -> list[Any]:
    return gpu_check.choose_tasks(gpu_check.make_parser().parse_args(["--layers", str(layers_file), *arguments]))


def rows_of(device: FakeDevice, tasks: list[Any], seconds: float = 100.0) -> list[dict[str, Any]]:
    budget = gpu_measure.Budget(seconds, device.clock)
    return [
        gpu_report.complete(row, MACHINE) for row in gpu_measure.measure(device, tasks, budget, tuple(device.times))
    ]


def test_tasks_come_in_order_of_importance(layers_file: Path) -> None:
    tasks = tasks_of(layers_file)
    assert len(tasks) == 2 * 4 * 2
    assert tasks[0][1:] == ("float16", "channels_first")
    assert [task.data_format for task in tasks] == ["channels_first"] * 8 + ["channels_last"] * 8
    some = tasks_of(layers_file, "--only", "line", "--precisions", "tf32", "--data-formats", "channels_last")
    assert [(t.layer.name, t.precision, t.data_format) for t in some] == [("line", "tf32", "channels_last")]


@pytest.mark.parametrize("arguments", [["--only", "oval"], ["--precisions", "float64"], ["--data-formats", "nhwc"]])
def test_unknown_names_are_refused(layers_file: Path, arguments: list[str], capsys: Any) -> None:
    assert gpu_check.main(["--layers", str(layers_file), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected ")
    assert arguments[1] in error


def test_rows(layers_file: Path) -> None:
    tasks = tasks_of(layers_file)
    rows = rows_of(FakeDevice(TIMES), tasks)
    assert [(r["layer"], r["precision"], r["data_format"]) for r in rows] == [
        (t.layer.name, t.precision, t.data_format) for t in tasks
    ]
    row = rows[0]
    assert row["flops"] == 2 * 8 * 4 * 16 * 16 * 16
    assert {name: entry["status"] for name, entry in row["contenders"].items()} == dict.fromkeys(TIMES, "ok")
    assert row["contenders"]["gather"]["ms"] == 2.0
    assert row["best_peer"] == "cudnn_search"
    assert row["ratios"] == {"gather": 3.3 / 2.0, "scatter": 3.3 / 4.0, "auto": 3.3 / 2.2}
    assert math.isclose(row["auto_loss"], 0.1)
    compute, memory = row["flops"] / 20e9, row["bytes"] / 1e9  # milliseconds at 20 TFLOP/s and 1 TB/s
    assert math.isclose(row["roofline_ms"], max(compute, memory))
    assert math.isclose(row["contenders"]["auto"]["matrix_fraction"], compute / 2.2)
    assert math.isclose(row["contenders"]["auto"]["copy_fraction"], memory / 2.2)
    without_peers = [row for row in rows if row["layer"] == "line" and row["data_format"] == "channels_last"]
    assert all(row["best_peer"] is None and row["ratios"] == {} for row in without_peers)


def test_wrong_results_are_not_timed(layers_file: Path) -> None:
    device = FakeDevice(TIMES, errors={"gather": 0.3, "cudnn_search": math.inf})
    rows = rows_of(device, tasks_of(layers_file))
    for row in rows:
        assert row["contenders"]["gather"]["status"] == "wrong"
        assert "ms" not in row["contenders"]["gather"]
        assert row["best_peer"] in ("cudnn_heuristic", None)
    assert device.calls.count("gather") == len(rows)  # once each, to be checked
    summary = gpu_report.summarise(rows)
    peers = sum("cudnn_search" in row["contenders"] for row in rows)
    assert len(summary["wrong"]) == len(rows) + peers
    assert summary["wrong"][0].startswith("square float16 channels_first: gather: wrong")


def test_a_result_that_is_not_a_number_is_wrong(layers_file: Path) -> None:
    rows = rows_of(FakeDevice(TIMES, errors={"auto": math.nan}), tasks_of(layers_file))
    assert {row["contenders"]["auto"]["status"] for row in rows} == {"wrong"}


def test_failures_stay_with_their_contender(layers_file: Path) -> None:
    rows = rows_of(FakeDevice(TIMES | {"refuses": 1.0}), tasks_of(layers_file))
    for row in rows:
        assert row["contenders"]["refuses"] == {"status": "failed", "note": "RuntimeError: no such kernel"}
        assert row["contenders"]["auto"]["status"] == "ok"
    assert len(gpu_report.summarise(rows)["failed"]) == len(rows)


def test_a_layer_that_does_not_fit_leaves_the_others(layers_file: Path) -> None:
    device = FakeDevice(TIMES)
    original = device.contenders

    def contenders(task: Any) -> Any:
        if task.layer.name == "square":
            raise MemoryError("no room")
        return original(task)

    device.contenders = contenders
    rows = rows_of(device, tasks_of(layers_file))
    assert {row["layer"] for row in rows if row["contenders"]} == {"line"}
    summary = gpu_report.summarise(rows)
    assert summary["not_reached"] == 0
    assert "square float16 channels_first: all: failed: MemoryError: no room" in summary["failed"]


@pytest.mark.parametrize("call_ms", [0.002, 0.5, 30.0])
@pytest.mark.parametrize("build_seconds", [0.0, 0.8])
def test_the_budget_holds(layers_file: Path, call_ms: float, build_seconds: float) -> None:
    device = FakeDevice(dict.fromkeys(TIMES, call_ms), build_seconds=build_seconds)
    tasks = tasks_of(layers_file) * 5
    seconds = 20.0
    rows = rows_of(device, tasks, seconds)
    assert len(rows) == len(tasks)
    longest = build_seconds + 100 * call_ms / 1e3 + 0.1
    assert device.now <= seconds + longest
    reached = [bool(row["contenders"]) for row in rows]
    assert reached == sorted(reached, reverse=True)  # what is left out is the end
    if build_seconds == 0 and call_ms < 30:
        assert all(reached)
    summary = gpu_report.summarise(rows)
    assert summary["not_reached"] == reached.count(False)


def test_short_calls_are_repeated_and_long_ones_less(layers_file: Path) -> None:
    for call_ms, counts in ((0.001, {100}), (5000.0, {3})):
        rows = rows_of(FakeDevice(dict.fromkeys(TIMES, call_ms)), tasks_of(layers_file), seconds=1e6)
        assert {entry["calls"] for row in rows for entry in row["contenders"].values()} == counts


def test_summary(layers_file: Path) -> None:
    rows = rows_of(FakeDevice(TIMES), tasks_of(layers_file))
    group = gpu_report.summarise(rows)["groups"]["tf32 channels_first"]
    assert (group["measured"], group["compared"], group["below_0.9"]) == (2, 2, 0)
    assert math.isclose(group["vs_best_peer"], 1.5)
    assert math.isclose(group["auto_loss"], 0.1)
    assert sorted(layer for layer, _ in group["worst"]) == ["line", "square"]
    slow = rows_of(FakeDevice(TIMES | {"auto": 6.6}), tasks_of(layers_file))
    group = gpu_report.summarise(slow)["groups"]["tf32 channels_first"]
    assert group["below_0.9"] == 2
    assert math.isclose(group["vs_best_peer"], 0.5)


def test_document_and_exit_status(layers_file: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "made-up.json"
    refused = {"gtc::kernel<float>": "RuntimeError: log"}
    for errors, tests, failed, status in (
        ({}, "passed", {}, 0),
        ({"scatter": 1.0}, "passed", {}, 1),
        ({}, "failed", {}, 1),
        ({}, "passed", refused, 1),
    ):
        device = FakeDevice(TIMES, errors)
        document = {"schema": 1, "machine": MACHINE, "tests": {"status": tests, "note": "3 passed"}}
        document["compiled"] = {"failed": failed}
        budget = gpu_measure.Budget(100.0, device.clock)
        summary = gpu_check.check(device, MACHINE, document, tasks_of(layers_file), budget, out)
        assert gpu_check.show(document, summary, out) == status
        written = json.loads(out.read_text())
        assert len(written["rows"]) == 16
        assert written["summary"] == json.loads(json.dumps(summary))
        printed = capsys.readouterr().out
        assert "NVIDIA Made-Up 100" in printed
        assert "tf32 channels_last" in printed
        assert "square" in printed


def test_contenders_compute_the_layer(layers_file: Path) -> None:
    """What runs on the device, with the CPU in its place: arrays, formats, precisions, peers, the check of results."""
    torch = pytest.importorskip("torch")
    gpu_device = import_module("benchmarks.gpu_device")

    class Cpu(gpu_device.CudaDevice):
        place = "cpu"
        broken = False

        def cache_bytes(self) -> int:
            return 10_000

        def clock_calls(self, call: Any, count: int, ahead: float = 0.0) -> Any:  # noqa: ARG002
            results = [call() for _ in range(count)]
            if self.broken:
                results[0][0, 0] += 1
            return gpu_measure.Times([1.0] * count, 1e-5)

    tasks = tasks_of(layers_file, "--precisions", "float32,float16,bfloat16")
    for broken, status in ((False, "ok"), (True, "wrong")):
        device = Cpu("cpu")
        device.broken = broken
        for row in gpu_measure.measure(device, tasks, gpu_measure.Budget(1e6), gpu_measure.OURS + gpu_measure.PEERS):
            has_peers = row["layer"] == "square" or row["data_format"] == "channels_first"
            names = (*gpu_measure.OURS, *(gpu_measure.PEERS if has_peers else ()))
            found = {name: entry["status"] for name, entry in row["contenders"].items()}
            assert found == dict.fromkeys(names, status), row
    assert len(device.contenders(tasks[0]).builds) == 5
    assert not torch.backends.cudnn.benchmark


def test_kernels_are_compiled_ahead(layers_file: Path) -> None:
    gpu_compile = import_module("benchmarks.gpu_compile")
    steps = gpu_compile.launches_of(tasks_of(layers_file), gpu_compile.DeviceProperties())
    kernels = [(step.source, step.kernel, step.shared) for step in steps]
    assert len(set(kernels)) == len(kernels)
    for word in ("gather", "scatter_atomic", "scatter_owned", "pack_weight", "gtc::half", "gtc::bfloat16", "float"):
        assert any(word in kernel for _, kernel, _ in kernels), word

    def refuse_halves(step: Any) -> None:
        if "gtc::half" in step.kernel:
            raise RuntimeError("log of the compiler\nmore of it")

    found = gpu_compile.compile_ahead(steps, refuse_halves, 60)
    assert found["kernels"] == len(steps) == found["compiled"] + len(found["failed"])
    assert set(found["failed"].values()) == {"RuntimeError: log of the compiler"}
    assert {"gtc::half" in kernel for kernel in found["failed"]} == {True}

    started: list[Any] = []
    gate = threading.Event()

    def hang(step: Any) -> None:
        started.append(step)
        gate.wait(0.5)

    found = gpu_compile.compile_ahead(steps * 20, hang, 0.05)
    assert found["compiled"] == 0
    assert len(started) < len(steps) * 20  # the others were given up


def test_tests_that_hang_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, env: dict[str, str], **_: Any) -> Any:
        assert command[1:5] == ["-m", "pytest", "-m", "gpu"]
        assert env["GPU_TRANSCONV_TEST_BACKENDS"] == "cupy"
        if timeout < 10:
            raise subprocess.TimeoutExpired(command, timeout)
        return SimpleNamespace(returncode=1, stdout="F.\n1 failed, 1 passed in 3s\n", stderr="")

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    assert gpu_check.run_tests(5.0, "cupy")["status"] == "stopped"
    found = gpu_check.run_tests(50.0, "cupy")
    assert (found["status"], found["note"]) == ("failed", "1 failed, 1 passed in 3s")


def test_tolerance_grows_with_the_precision_s_spacing(layers_file: Path) -> None:
    allowed = {task.precision: task.tolerance for task in tasks_of(layers_file)}
    assert allowed["float32"] < 1e-4 < allowed["tf32"] == allowed["float16"] < allowed["bfloat16"] < 0.04


def test_without_a_device_it_says_so(layers_file: Path, capsys: Any) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    assert gpu_check.main(["--layers", str(layers_file)]) == 2
    assert capsys.readouterr().err.startswith("error: no CUDA device with PyTorch")


def test_device_names_make_file_names() -> None:
    assert gpu_check.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
