"""The recipe of docs/develop/architecture.md for a backend, followed: one kernel of its own passes the case table."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cases import CASES, COMPLEX, CORE, DATA_FORMATS, FLOATS, INTEGERS
from checks import assert_close, expected, make_arrays, poisoned, refused

import gpu_transconv as gtc
from gpu_transconv import settings
from gpu_transconv.dispatch.select import invalidate
from gpu_transconv.kernels import registry
from gpu_transconv.kernels.kernel import Backend, Description, Kernel

TABLE = [(case, "float32") for case in CASES]
TABLE += [(case, dtype) for case in CORE for dtype in FLOATS + COMPLEX + INTEGERS if dtype != "float32"]
TABLE = [pytest.param(case, dtype, id=f"{case.name}-{dtype}") for case, dtype in TABLE if case.takes(dtype)]


def launch(plan, x, weight, bias, out, packed):  # noqa: ARG001
    """Stamp tap by tap: all inputs that a tap brings to an output that is not cut off, at once."""
    if plan.channels_last:
        x, out = np.moveaxis(x, -1, -1 - plan.ndim), np.moveaxis(out, -1, -1 - plan.ndim)
    x = x.reshape(plan.batch, plan.groups, plan.in_channels // plan.groups, *plan.in_spatial).astype(plan.accumulate)
    weight = weight.reshape(plan.groups, x.shape[2], -1, *plan.kernel).astype(plan.accumulate)
    sums = np.zeros((plan.batch, plan.groups, weight.shape[2], *plan.out_spatial), plan.accumulate)
    for taps in itertools.product(*map(range, plan.kernel)):
        met = [axis.inputs_of(tap) for axis, tap in zip(plan.axes, taps, strict=True)]
        if not all(met):
            continue
        source = (..., *(slice(inputs.start, inputs.stop) for inputs in met))
        ends = [[a.output_of(i, k) for i in (m[0], m[-1])] for a, k, m in zip(plan.axes, taps, met, strict=True)]
        target = (..., *(slice(a, b + 1, axis.stride) for (a, b), axis in zip(ends, plan.axes, strict=True)))
        sums[target] += np.einsum("ngi...,gio->ngo...", x[source], weight[(..., *taps)])
    if bias is not None:
        sums += bias.astype(plan.accumulate).reshape(1, plan.groups, -1, 1, 1, 1)
    out[...] = sums.reshape(out.shape)


def refusal(plan):
    return None if plan.activation is None else "it knows no activations"


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    """The folder, the line in the registry, and the name that callers may write."""
    kernel = Kernel(
        "toy", "scatter", launch, refusal=refusal, describe=lambda plan: Description("tap by tap", plan.output_bytes)
    )
    dtypes = FLOATS + COMPLEX + INTEGERS
    folder = SimpleNamespace(BACKEND=Backend("toy", "cpu", dtypes, lambda: None, lambda: (kernel,)))
    monkeypatch.setitem(sys.modules, "gpu_transconv.kernels.toy", folder)
    monkeypatch.setitem(registry.FOLDERS, "toy", ".toy")
    monkeypatch.setattr(settings, "BACKENDS", (*settings.BACKENDS, "toy"))
    invalidate()
    yield
    monkeypatch.undo()
    invalidate()


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("case", "dtype"), TABLE)
def test_definition(case, dtype, data_format, launched):
    arrays = make_arrays(case, dtype, data_format)
    want = expected(case, arrays, data_format)
    out, keywords = poisoned(want.shape, dtype), {**case.keywords, "data_format": data_format, "backend": "toy"}
    if case.geometry["activation"] is not None:
        with refused(gtc.BackendUnavailableError, "toy/scatter cannot run this problem: it knows no activations"):
            gtc.conv_transpose(*arrays, **keywords, out=out)
        return
    with np.errstate(all="ignore"):
        assert gtc.conv_transpose(*arrays, **keywords, out=out) is out
    assert launched == ["toy/scatter"]
    assert_close(out, want, dtype, case.reduction)


def test_the_rest_of_the_package_knows_it(folder):  # noqa: ARG001
    x, weight = np.ones((1, 2, 5)), np.ones((2, 3, 4))
    assert gtc.backends()["toy"] == (True, None)
    found = gtc.explain(x, weight, stride=2, backend="toy")
    assert found.kernel == "toy/scatter: tap by tap"
    assert found.workspace_bytes == 3 * 12 * 8
    layer = gtc.ConvTranspose(weight, stride=2, backend="toy")
    assert layer(x).shape == (1, 3, 12)
    assert list(layer.tune(x, seconds=0.01)) == ["toy/scatter"]
    with refused(gtc.BackendUnavailableError, "backend 'toy' has no kernel for", "'gather'"):
        gtc.conv_transpose(x, weight, backend="toy", formulation="gather")
    assert gtc.conv_transpose(x, weight).shape == (1, 3, 8)
    assert gtc.last_choice().implementation.backend == "cpu"
