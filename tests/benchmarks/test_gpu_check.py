"""The stages of a check on a GPU, on a device that is made up: what is wrong, what breaks, what time does not reach."""

from __future__ import annotations

import json
import math
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support.fake_gpu import FAULTS, STEPS, TIMES, FakeGpu

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import compile_ahead, measure, merge, records, report, stage_measure, stage_profile, supervise

TINY = [
    {"name": "square", "cin": 8, "cout": 4, "spatial": [16, 16], "kernel": [4, 4], "stride": [2, 2]},
    {"name": "line", "cin": 6, "cout": 2, "spatial": [40], "kernel": [4], "stride": [2]},
]
MACHINE = {
    "copy_gb_per_s": 1000.0,
    "peak_tflops": {"float32": 1.0, "tf32": 10.0, "float16": 20.0, "bfloat16": 20.0},
}
DEVICE = ("--device", "support.fake_gpu:FakeGpu")
CONTENDERS = (*measure.OURS, *measure.PEERS)


@pytest.fixture
def layers_file(tmp_path: Path) -> Path:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture
def _tests_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def tasks_of(layers_file: Path, *arguments: str) -> list[Any]:
    given = ["measure", "--out", "unused", "--layers", str(layers_file), *arguments]
    return stage_measure.choose_tasks(gpu_check.make_parser().parse_args(given))


def rows_of(tasks: list[Any], device: Any = None) -> list[dict[str, Any]]:
    rows = []
    for task in tasks:
        row = dict(zip(("layer", "precision", "data_format"), task.key, strict=True))
        row |= {"flops": task.plan.flops, "bytes": task.plan.bytes}
        row["contenders"] = dict(measure.measure_task(device or FakeGpu(), task, CONTENDERS))
        rows.append(report.complete(row, MACHINE))
    return rows


def test_tasks_come_in_order_of_importance(layers_file: Path) -> None:
    tasks = tasks_of(layers_file)
    assert len(tasks) == 2 * 4 * 2
    assert tasks[0][1:] == ("float16", "channels_first")
    assert [task.data_format for task in tasks] == ["channels_first"] * 8 + ["channels_last"] * 8
    some = tasks_of(layers_file, "--only", "line", "--precisions", "tf32", "--data-formats", "channels_last")
    assert [task.key for task in some] == [("line", "tf32", "channels_last")]
    assert measure.task_from(json.loads(json.dumps(tasks[3].as_dict()))) == tasks[3]


@pytest.mark.parametrize(
    "arguments", [["--only", "oval"], ["--precisions", "float64"], ["--data-formats", "nhwc"], ["--contenders", "me"]]
)
def test_unknown_names_are_refused(layers_file: Path, tmp_path: Path, arguments: list[str], capsys: Any) -> None:
    given = ["measure", "--out", str(tmp_path / "out"), "--layers", str(layers_file), *DEVICE]
    assert gpu_check.main([*given, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected ")
    assert arguments[1] in error


def test_rows(layers_file: Path) -> None:
    rows = rows_of(tasks_of(layers_file))
    row = rows[0]
    assert row["flops"] == 2 * 8 * 4 * 16 * 16 * 16
    assert {name: entry["status"] for name, entry in row["contenders"].items()} == dict.fromkeys(TIMES, "ok")
    auto = row["contenders"]["auto"]
    assert (auto["ms"], auto["graph_ms"], auto["host_us"]) == pytest.approx((2.2, 1.98, 20.0))
    assert row["best_peer"] == "cudnn_search"
    assert row["ratios"] == {name: 3.3 / TIMES[name] for name in measure.OURS}
    assert math.isclose(row["auto_loss"], 0.1)
    compute, memory = row["flops"] / 20e9, row["bytes"] / 1e9  # milliseconds at 20 TFLOP/s and 1 TB/s
    assert math.isclose(row["roofline_ms"], max(compute, memory))
    assert math.isclose(auto["matrix_fraction"], compute / 2.2)
    assert math.isclose(auto["copy_fraction"], memory / 2.2)
    without = [row for row in rows if row["layer"] == "line" and row["data_format"] == "channels_last"]
    assert all(row["best_peer"] is None and row["ratios"] == {} for row in without)
    assert {row["contenders"]["cudnn_search"]["status"] for row in without} == {"absent"}


def test_calls_are_as_many_as_fit_into_the_time(layers_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ms, calls in ((0.001, 100), (1.0, 50), (5000.0, 3)):
        monkeypatch.setitem(TIMES, "auto", ms)
        (entry,) = dict(measure.measure_task(FakeGpu(), tasks_of(layers_file)[0], ["auto"])).values()
        assert entry["calls"] == calls


def run_measure(folder: Path, names: list[str], *arguments: str) -> int:
    layers = folder / "layers.json"
    layers.write_text(json.dumps([{**TINY[0], "name": name} for name in names]))
    given = ["measure", "--out", str(folder), "--layers", str(layers), *DEVICE]
    return gpu_check.main([*given, "--precisions", "tf32", "--data-formats", "channels_first", *arguments])


@pytest.mark.usefixtures("_tests_on_path")
def test_what_is_wrong_or_breaks_costs_one_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Nothing written, a column missing, a context broken, a crash, a hang: reported so, and the next row is right."""
    monkeypatch.setattr(stage_measure, "_CONTENDER_SECONDS", 1.5)
    bad = [f"{fault} {'cudnn_heuristic' if fault == 'short' else 'scatter_owned'}" for fault in FAULTS]
    names = [name for fault in bad for name in (fault, f"right after {fault}")]
    assert run_measure(tmp_path, names) == 1
    document = merge.merge(tmp_path)
    rows = {row["layer"]: row["contenders"] for row in document["rows"]}
    assert list(rows) == names
    expected = dict(zip(FAULTS, ("wrong", "wrong", "failed", "failed", "failed", "failed"), strict=True))
    for name in names:
        fault, _, guilty = name.partition(" ")
        found = {contender: entry["status"] for contender, entry in rows[name].items()}
        assert found == dict.fromkeys(CONTENDERS, "ok") | ({guilty: expected[fault]} if fault in expected else {})
    notes = {name.split()[0]: rows[name][name.split()[1]] for name in bad}
    assert "illegal memory access" in notes["breaks"]["note"]
    assert "SIGKILL" in notes["dies"]["note"]
    assert "no answer in 1.5 s" in notes["hangs"]["note"]
    assert notes["raises"]["note"] == "ValueError: no such kernel"
    assert [fault for fault, entry in notes.items() if entry.get("context") == "broken"] == ["breaks", "dies", "hangs"]
    assert len(document["conditions"]) == 4  # of the first worker, and of those that came after broken ones
    assert gpu_check.main(["merge", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "lazy scatter_owned tf32 channels_first: scatter_owned: wrong" in printed
    assert "(the context broke; a new worker went on)" in printed
    assert "lazy" not in (tmp_path / "measure.log").read_text()  # workers printed nothing


@pytest.mark.usefixtures("_tests_on_path")
def test_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FAKE_GPU_PAUSE", "0.3")
    names = ["one", "two", "raises auto"]
    assert run_measure(tmp_path, names, "--seconds", "3") == 3
    begun = [record for record in records.read(tmp_path / "measure.jsonl") if "contender" in record]
    assert 0 < len(begun) < 18
    monkeypatch.setenv("FAKE_GPU_PAUSE", "0")
    assert run_measure(tmp_path, names) == 1
    found = [record for record in records.read(tmp_path / "measure.jsonl") if "contender" in record]
    assert found[: len(begun)] == begun
    assert len(found) == 18  # nothing twice
    assert "time is up" in capsys.readouterr().out
    assert run_measure(tmp_path, names) == 0  # nothing to do
    assert run_measure(tmp_path, names, "--again") == 1
    again = [record for record in records.read(tmp_path / "measure.jsonl") if "contender" in record]
    assert [record["contender"] for record in again[18:]] == ["auto"]


@pytest.mark.usefixtures("_tests_on_path")
def test_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GPU_DIES_AT", "call 3")
    given = ["probe", "--out", str(tmp_path), *DEVICE]
    assert gpu_check.main(given) == 1
    found = {record["step"]: record["status"] for record in records.read(tmp_path / "probe.jsonl")}
    assert found == dict.fromkeys(STEPS, "ok") | {"call 3": "failed"}
    document = merge.merge(tmp_path)
    assert document["machine"]["device"] == "NVIDIA Made-Up 100"
    assert document["machine"]["peak_tflops"] == MACHINE["peak_tflops"]
    monkeypatch.setenv("FAKE_GPU", "missing")
    assert gpu_check.main([*given, "--again"]) == 2


@pytest.mark.usefixtures("_tests_on_path")
def test_two_processes_at_one_stage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("benchmarks.gpu_check.processes._STOP_SECONDS", 0.1)
    with gpu_check.stages.at_work("probe", tmp_path, 1.0, False):
        assert gpu_check.main(["probe", "--out", str(tmp_path), *DEVICE]) == 2
    assert "another process is at this stage" in capsys.readouterr().err


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        supervise.Supervisor(["no.such:Device"], tmp_path / "log", math.inf, print) as one,
        pytest.raises(supervise.NoDeviceError, match="No module named"),
    ):
        list(one.run({"kind": "probe"}, ["step"], 1.0))


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    assert records.read(path) == []
    records.append(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b')
    records.append(path, {"a": 3})
    assert [record["a"] for record in records.read(path)] == [1, 3]


def test_merge_without_a_probe_still_has_a_table(tmp_path: Path, capsys: Any) -> None:
    records.append(tmp_path / "measure.jsonl", {
        "layer": "square", "precision": "tf32", "data_format": "channels_last", "flops": 10, "bytes": 10,
        "contender": "auto", "status": "ok", "ms": 2.5,
    })  # fmt: skip
    assert gpu_check.main(["merge", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "square" in printed
    assert "2.5" in printed
    assert json.loads((tmp_path / "merged.json").read_text())["rows"][0]["contenders"]["auto"]["ms"] == 2.5
    assert gpu_check.main(["merge", "--out", str(tmp_path / "nowhere")]) == 2


def test_summary(layers_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = report.summarise(rows_of(tasks_of(layers_file)))["groups"]["tf32 channels_first"]
    assert (group["measured"], group["compared"], group["below_0.9"]) == (2, 2, 0)
    assert math.isclose(group["vs_best_peer"], 1.5)
    assert math.isclose(group["auto_loss"], 0.1)
    assert sorted(layer for layer, _ in group["worst"]) == ["line", "square"]
    monkeypatch.setitem(TIMES, "auto", 6.6)
    group = report.summarise(rows_of(tasks_of(layers_file)))["groups"]["tf32 channels_first"]
    assert group["below_0.9"] == 2
    assert math.isclose(group["vs_best_peer"], 0.5)


def test_contenders_compute_the_layer(layers_file: Path) -> None:
    """What runs on the device, with the CPU in its place: arrays, formats, precisions, peers, the check of results."""
    torch = pytest.importorskip("torch")
    device_module = import_module("benchmarks.gpu_check.device")

    class Cpu(device_module.CudaDevice):
        place = "cpu"
        broken = False

        def cache_bytes(self) -> int:
            return 10_000

        def is_healthy(self) -> bool:
            return True

        def clock_calls(self, call: Any, count: int, ahead: float = 0.0) -> Any:  # noqa: ARG002
            results = [call() for _ in range(count)]
            if self.broken and results[0] is not None:
                results[0][0, 0] += 1
            return measure.Times([1.0] * count, 1e-5)

        def clock_host(self, call: Any, count: int) -> float:  # noqa: ARG002
            return 1e-5

        def clock_graph(self, call: Any, calls: int, replays: int) -> list[float]:  # noqa: ARG002
            raise RuntimeError("no graphs")

    tasks = tasks_of(layers_file, "--precisions", "float32,float16,bfloat16")
    own = [name for name in measure.OURS if name != "scatter_atomic"]  # which the CPU has not
    for task in tasks:
        found = dict(measure.measure_task(Cpu("cpu"), task, [*own, *measure.PEERS]))
        has_peers = task.layer.name == "square" or task.data_format == "channels_first"
        statuses = {name: entry["status"] for name, entry in found.items()}
        assert statuses == dict.fromkeys(own, "ok") | dict.fromkeys(measure.PEERS, "ok" if has_peers else "absent")
        assert found["auto"]["graph_note"] == "RuntimeError: no graphs"
    assert len(Cpu("cpu").contenders(tasks[0]).builds) == 6
    assert not torch.backends.cudnn.benchmark
    device = Cpu("cpu")
    free = device.poisoned(torch.zeros(2, 3, 4, 5), tasks[-1])
    assert free.shape == (2, 4, 5, 3)
    assert bool(torch.isnan(free).all())


def test_kernels_are_compiled_ahead(layers_file: Path) -> None:
    steps = compile_ahead.launches_of(tasks_of(layers_file), compile_ahead.DeviceProperties())
    kernels = [(step.source, step.kernel) for step in steps]
    for word in ("gather", "scatter_atomic", "scatter_owned", "pack_weight", "gtc::half", "gtc::bfloat16", "float"):
        assert any(word in kernel for _, kernel in kernels), word

    def refuse_halves(step: Any) -> None:
        if "gtc::half" in step.kernel:
            raise RuntimeError("log of the compiler\nmore of it")

    found = compile_ahead.compile_ahead(steps, refuse_halves, 60)
    assert found["kernels"] == len(steps) == found["compiled"] + len(found["failed"])
    assert set(found["failed"].values()) == {"RuntimeError: log of the compiler"}
    assert {"gtc::half" in kernel for kernel in found["failed"]} == {True}

    started: list[Any] = []
    gate = threading.Event()

    def hang(step: Any) -> None:
        started.append(step)
        gate.wait(0.5)

    found = compile_ahead.compile_ahead(steps * 20, hang, 0.05)
    assert found["compiled"] == 0
    assert len(started) < len(steps) * 20  # the others were given up


@pytest.mark.long
def test_no_kernel_is_compiled_twice() -> None:
    """Of all shipped layers: no two that differ in the memory of their launch alone."""
    tasks = stage_measure.choose_tasks(gpu_check.make_parser().parse_args(["measure", "--out", "unused"]))
    steps = compile_ahead.launches_of(tasks, compile_ahead.DeviceProperties())
    kernels = [(step.source, step.kernel) for step in steps]
    assert len(tasks) > 400
    assert len({*kernels}) == len(kernels) > 100


def test_the_worst_layers_are_profiled(tmp_path: Path, layers_file: Path) -> None:
    layers = [task.layer for task in tasks_of(layers_file, "--precisions", "tf32", "--data-formats", "channels_first")]
    path = tmp_path / "measure.jsonl"
    assert next(t.key for t in stage_profile.worst(path, layers)) == ("square", "float16", "channels_first")
    for name, contender, ms in (("square", "auto", 1.0), ("square", "cudnn_search", 2.0), ("line", "auto", 3.0),
                                ("line", "cudnn_heuristic", 1.0)):  # fmt: skip
        records.append(path, {"layer": name, "precision": "tf32", "data_format": "channels_last", "ms": ms,
                              "contender": contender, "status": "ok"})  # fmt: skip
    assert [task.key[0] for task in stage_profile.worst(path, layers)] == ["line", "square"]


def test_tolerance_grows_with_the_precision_s_spacing(layers_file: Path) -> None:
    allowed = {task.precision: task.tolerance for task in tasks_of(layers_file)}
    assert allowed["float32"] < 1e-4 < allowed["tf32"] == allowed["float16"] < allowed["bfloat16"] < 0.04


def test_without_a_device_it_says_so(tmp_path: Path, layers_file: Path, capsys: Any) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    assert gpu_check.main(["measure", "--out", str(tmp_path), "--layers", str(layers_file)]) == 2
    assert "sees no CUDA device" in capsys.readouterr().err


def test_device_names_make_file_names() -> None:
    assert merge.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
