"""What ``gpu-transconv bench`` prints: plain words, in a width that a terminal has."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from gpu_transconv.tools.bench import comparison, contenders, libraries
from gpu_transconv.tools.bench.layers import REAL_LAYERS, _layer_from, load_layers
from gpu_transconv.tools.bench.options import LAYER_FILE
from gpu_transconv.tools.bench.report import describe, make_row, make_table, summarise
from gpu_transconv.tools.cli import main

MACHINE = {
    "cpu": "A Processor",
    "cpu_target": "swift",
    "virtual": True,
    "threads": 2,
    "busy": 0.5,
    "peak_gflops": {"float32": 100.0},
    "copy_gb_per_s": 10.0,
}
OK = {"status": "ok", "note": "", "min_ms": 12.3456, "median_ms": 23.4567, "calls": 3}
OUT = {"status": "left out", "note": "No module named [bold]onnxruntime[/]"}
WRONG = {"status": "wrong", "note": "error 3 of the largest value"}


def problem(layer):
    """What a row needs of a problem, without the arrays."""
    return SimpleNamespace(layer=layer, plan=layer.plan())


@pytest.fixture
def measured(monkeypatch):
    """Call with what the contenders did; no layer runs then."""

    def fake(found):
        def rows(layers, builds, machine, how):
            for layer in layers:
                entries = {name: found.get(name, OK) for name in builds}
                yield make_row(problem(layer), entries, machine, how.statistic)

        monkeypatch.setattr(comparison, "measure_rows", rows)
        monkeypatch.setattr(comparison, "measure_machine", lambda _: MACHINE)

    return fake


ALL = (*contenders.OURS, *libraries.PEERS)


@pytest.mark.parametrize(
    "found", [{}, {"torch": OUT}, {"prepared": WRONG}, dict.fromkeys(libraries.PEERS, OUT)], ids=repr
)
def test_no_markup_is_printed(capsys, measured, found):
    measured(found)
    assert main(["bench", "fsrcnn_x3", "centernet_dla_ida2"]) == ("prepared" in found)
    printed = capsys.readouterr().out
    assert "[/" not in printed.replace(OUT["note"], "")
    assert "[bold" not in printed.replace(OUT["note"], "")
    assert "A Processor (swift, virtual machine)" in printed
    table = printed[printed.index("layer") : printed.index("min time")].splitlines()
    assert max(map(len, table)) <= 160
    assert table[-2].split()[:2] == ["fsrcnn_x3", "compute"]
    assert table[-1].split()[:2] == ["centernet_dla_ida2", "memory"]
    assert table[-2].split().count("12.3") == len(ALL) - len(found)
    assert table[-2].split().count("WRONG") == list(found.values()).count(WRONG)


def test_notes_with_brackets_are_printed_whole(capsys, measured):
    measured({"onnxruntime": OUT})
    assert main(["bench", "fsrcnn_x3"]) == 0
    assert f"onnxruntime left out: {OUT['note']} (1 of 1 layers)" in capsys.readouterr().out


def test_without_peers_there_are_no_columns_of_them(capsys, measured):
    measured({})
    assert main(["bench", "fsrcnn_x3", "--no-peers"]) == 0
    printed = capsys.readouterr().out
    assert "other /" not in printed
    table = printed[printed.index("layer") : printed.index("min time")].splitlines()
    assert max(map(len, table)) <= 80
    assert "-" not in table[-1].split()


@pytest.mark.parametrize(("auto", "said"), [(8.0, "0.80 times"), (11.0, "1.10 times")])
def test_auto_that_is_faster_by_noise_is_not_called_slower(auto, said):
    layer = load_layers(REAL_LAYERS)[0]
    found = {name: OK | {"min_ms": 10.0} for name in contenders.KERNELS} | {"auto": OK | {"min_ms": auto}}
    row = make_row(problem(layer), found, MACHINE, "min")
    text = " ".join(describe(summarise([row])))
    assert said in text
    assert "slower" not in text
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(make_table([row], list(found), "min"))
    assert said.split()[0] in console.export_text()


def test_the_help_shows_a_layer_that_is_one():
    (line,) = (line.strip() for line in LAYER_FILE.splitlines() if line.strip().startswith("{"))
    layer = _layer_from(json.loads(line), "the help")
    assert layer.weight_shape == (64, 32, 4, 4)
    assert layer.plan().output_shape == (1, 32, 64, 64)


def test_json_says_when_where_and_with_what(capsys, measured):
    measured({})
    assert main(["bench", "fsrcnn_x3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"date", "commit", "machine", "versions", "rows"} <= set(found)


def test_ratios_name_the_best_peer():
    first = problem(load_layers(REAL_LAYERS)[0])

    def found(ms):
        return {"status": "ok", "note": "", "error": 0.0, "min_ms": ms, "median_ms": 2 * ms, "calls": 1}

    times = {"prepared_out": found(1.0), "function": found(8.0), "torch": found(4.0), "openvino": found(2.0)}
    row = make_row(first, times, MACHINE, "min")
    assert row["best_peer"] == "openvino"
    assert row["ratios"] == {"prepared_out": 2.0, "function": 0.25}
    summary = summarise([row])
    assert summary["prepared_out"]["geomean_vs_torch"] == pytest.approx(4)
    assert summary["function"]["slower_than_best_peer"] == 1
    assert summary["function"]["worst_layer"] == "dcgan_l1"
    assert summary["function"]["worst_ratio"] == 0.25
