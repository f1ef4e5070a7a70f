"""Training steps beside PyTorch's: the page is that of the kept results, and a wrong result gets no time."""

from __future__ import annotations

import pytest

from benchmarks import training
from gpu_transconv.tools.bench.layers import shipped

torch = pytest.importorskip("torch")


def test_the_page_is_that_of_the_results():
    assert training.section() in training.PAGE.read_text(encoding="utf-8")


def test_a_layer_is_measured_and_a_wrong_one_is_not(monkeypatch, capsys):
    layer = shipped()["fcn8s_up2"]
    assert training.measure(layer, 0.0)["ours_ms"] > 0
    make = training.make_step

    def make_wrong(layer, ours, *dtype):
        step = make(layer, ours, *dtype)
        return (lambda: [2 * tensor for tensor in step()]) if ours else step

    monkeypatch.setattr(training, "make_step", make_wrong)
    assert "ours_ms" not in training.measure(layer, 0.0)
    assert "fcn8s_up2: error" in capsys.readouterr().err
