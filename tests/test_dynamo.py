"""Calls inside compiled PyTorch code: a break of the graph, the right value, and nothing of the package traced."""

from __future__ import annotations

import types
import warnings

import pytest

import gpu_transconv as gtc
from gpu_transconv import dynamo

torch = pytest.importorskip("torch", reason="its compiler is asked")
X, WEIGHT = torch.arange(48.0).reshape(1, 3, 4, 4) / 7, torch.arange(96.0).reshape(3, 2, 4, 4) % 11
LAYER = gtc.ConvTranspose(WEIGHT, stride=2)


def function(x):
    return gtc.conv_transpose2d(x * 2, WEIGHT, stride=2) + 1


def settings(x):
    with gtc.use(formulation="scatter"):
        return gtc.conv_transpose(x * 2, WEIGHT, stride=2) + 1


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = LAYER

    def forward(self, x):
        return self.layer(x * 2) + 1


@pytest.fixture
def counters():
    """Dynamo's own counts, from zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch's own imports
        found = pytest.importorskip("torch._dynamo.utils").counters
    torch._dynamo.reset()
    found.clear()
    return found


@pytest.mark.parametrize(("call", "breaks"), [(function, 1), (settings, None), (Module(), 1)])
def test_a_call_in_compiled_code(counters, call, breaks):
    compiled = torch.compile(call, backend="eager")
    want = torch.nn.functional.conv_transpose2d(X * 2, WEIGHT, stride=2) + 1
    for _ in range(2):
        torch.testing.assert_close(compiled(X), want)
    if breaks is not None:  # else the block around the call is not traced either
        assert sum(counters["graph_break"].values()) == breaks
        assert counters["frames"]["total"] == 2  # before the call, and after it


def test_one_graph_is_refused(counters):  # noqa: ARG001
    with pytest.raises(torch._dynamo.exc.Unsupported, match="conv_transpose2d"):
        torch.compile(function, backend="eager", fullgraph=True)(X)


def test_where_dynamo_is_there_already(counters):
    owner = types.SimpleNamespace(inner=lambda x: x + 1)
    original = owner.inner
    dynamo.stay_out((owner, "inner"))
    assert owner.inner is not original
    assert owner.inner(2) == 3
    compiled = torch.compile(lambda x: owner.inner(x) * 2, backend="eager")
    assert compiled(torch.ones(1)).item() == 4
    assert sum(counters["graph_break"].values()) == 1


def test_a_dynamo_of_another_kind_is_left_alone(monkeypatch):
    monkeypatch.setitem(dynamo.sys.modules, "torch._dynamo", types.ModuleType("torch._dynamo"))
    monkeypatch.setitem(dynamo.sys.modules, "torch._dynamo.trace_rules", types.ModuleType("trace_rules"))
    dynamo.stay_out()
