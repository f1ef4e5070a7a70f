"""The gradients beside PyTorch's: the page is that of the kept results, and parts of a run meet in one file."""

from __future__ import annotations

import json

import pytest

from benchmarks import gradients, gradients_page
from gpu_transconv.tools.bench.layers import shipped

pytest.importorskip("torch")
MACHINE = {"threads": 1, "peak_gflops": {"float32": 100.0}, "copy_gb_per_s": 10.0}


def test_the_page_is_that_of_the_results():
    assert gradients_page.section() in gradients_page.PAGE.read_text(encoding="utf-8")
    for path in gradients_page.files():
        rows = gradients_page.read(path)["rows"]
        names = {name for name, layer in shipped().items() if layer.gmac <= 2}
        for key in {(row["operation"], row["threads"]) for row in rows}:
            assert {row["layer"]["name"] for row in gradients_page.rows_of({"rows": rows}, *key)} == names


def test_parts_of_a_run_come_together(monkeypatch, tmp_path):
    monkeypatch.setattr(gradients, "measure_machine", lambda _: dict(MACHINE))
    path = tmp_path / "out.json"
    fixed = ["--threads", "1", "--layers", "kokoro_pool_dw", "--seconds", "0.01", "--json", str(path)]
    for _ in range(2):
        for operation in gradients.OPERATIONS:
            assert gradients.main([*fixed, "--operation", operation]) == 0
    first, second = json.loads(path.read_text())["rows"]
    assert (first["operation"], second["operation"]) == gradients.OPERATIONS
    assert set(first["contenders"]) == {"torch", "function", "prepared"}
    assert set(second["contenders"]) == {"torch", "function"}
    assert gradients_page.kind_of(first) == "depthwise"
    peak, copies = gradients_page.parts_of(first, MACHINE)
    assert peak / copies == pytest.approx(first["flops"] / first["bytes"] / 10)


def test_wrong_gradients_get_no_time(monkeypatch, capsys):
    right = gradients.Case.ours
    monkeypatch.setattr(gradients.Case, "ours", lambda *words: lambda: right(*words)() * 1.001)
    monkeypatch.setattr(gradients, "measure_machine", lambda _: dict(MACHINE))
    fixed = ["--threads", "1", "--layers", "kokoro_pool_dw", "--seconds", "0.01", "--contenders", "function"]
    assert gradients.main([*fixed, "--operation", "input_grad"]) == 1
    assert "function: nothing right" in capsys.readouterr().out
