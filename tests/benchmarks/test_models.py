"""Whole models: the page is that of the kept results, and a comparison sees a wrong result and what is outside."""

from __future__ import annotations

import itertools

import pytest

from benchmarks import models, models_page
from benchmarks.model_zoo import MODELS, Model

torch = pytest.importorskip("torch")


def test_the_page_is_that_of_the_results():
    assert models_page.section() in models_page.PAGE.read_text(encoding="utf-8")
    assert len(MODELS) == 20


def _small(change=lambda y: y):
    model = torch.nn.Sequential(torch.nn.ConvTranspose1d(3, 4, 4, stride=2), torch.nn.Tanh()).eval()
    x = torch.randn(1, 3, 9)
    return model, lambda: change(model(x))


def test_a_model_is_measured_and_restored():
    built = _small()
    row = models.measure(Model("small", "none", "torch", lambda: built), 0.0)
    assert row["status"] == "ok"
    assert row["rounds"] == 5
    assert row["torch_inside_ms"] > 0
    assert row["ours_share"] > 0
    assert type(built[0][0]) is torch.nn.ConvTranspose1d
    assert not built[0][0]._forward_hooks


def test_a_wrong_result_gets_no_time():
    more = itertools.count()
    row = models.measure(Model("wrong", "none", "torch", lambda: _small(lambda y: y + next(more))), 0)
    assert row["status"] == "wrong"
    assert "ratio" not in row
