"""Functional calls: ours while `patch` is in force, torch's own afterwards, whatever happened in between."""

from __future__ import annotations

import threading

import pytest
from torch_models import DEPTHS, GEOMETRY, KINDS, assert_same, inputs

import gpu_transconv as gtc

torch = pytest.importorskip("torch")
F = torch.nn.functional
kept = pytest.importorskip("gpu_transconv.torch.packed")
prepare = kept.prepare
NAMES = [f"conv_transpose{axes}d" for axes in DEPTHS]


def current():
    return [getattr(F, name) for name in NAMES]


@pytest.fixture(autouse=True)
def torchs():
    """Torch's own functions, which must be in place again at the end."""
    before = current()
    yield before
    gtc.torch.unpatch()
    assert current() == before


@pytest.mark.parametrize("axes", DEPTHS)
def test_calls_and_modules_are_ours(axes, torchs, launched):
    module, x = KINDS[axes](3, 5, 4, **GEOMETRY), inputs(axes)
    want = module(x)
    with gtc.torch.patch():
        call = getattr(F, NAMES[axes - 1])
        assert call is not torchs[axes - 1]
        assert call.__name__ == NAMES[axes - 1]
        for got in (
            module(x),
            call(x, module.weight, module.bias, 2, 1),
            call(input=x, weight=module.weight, bias=module.bias, **GEOMETRY),
            call(x, module.weight, module.bias, stride=[2] * axes, padding=(1,) * axes),
        ):
            assert_same(got, want)
    assert len(launched) == 4
    assert current() == torchs
    assert_same(module(x), want)
    assert len(launched) == 4


def test_a_function_and_its_undoing(torchs):
    gtc.torch.patch()
    ours = current()
    assert ours != torchs
    gtc.torch.patch()
    assert current() == ours
    gtc.torch.unpatch()
    assert current() == torchs
    gtc.torch.unpatch()
    assert current() == torchs


def test_nested_blocks(torchs):
    with gtc.torch.patch():
        ours = current()
        with gtc.torch.patch():
            assert current() == ours
        assert current() == ours
        with pytest.raises(ZeroDivisionError), gtc.torch.patch():
            raise ZeroDivisionError
        assert current() == ours
    assert current() == torchs


def test_an_error_leaves_torchs_own(torchs):
    with pytest.raises(RuntimeError), gtc.torch.patch():
        F.conv_transpose1d(torch.ones(1, 3, 4), torch.ones(4, 3, 2))
    assert current() == torchs


def test_undone_inside_of_a_block(torchs):
    with gtc.torch.patch():
        gtc.torch.unpatch()
        assert current() == torchs
        with gtc.torch.patch():
            assert current() != torchs
        assert current() == torchs


def test_what_somebody_else_put_there_comes_back(monkeypatch, torchs):
    with monkeypatch.context() as theirs:
        theirs.setattr(F, NAMES[0], lambda *_: "theirs")
        with gtc.torch.patch():
            assert F.conv_transpose1d(torch.ones(1, 1, 1), torch.ones(1, 1, 1)).shape == (1, 1, 1)
        assert F.conv_transpose1d() == "theirs"
    assert current() == torchs


def test_threads(torchs):
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(50):
            with gtc.torch.patch():
                assert current() != torchs

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current() == torchs


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_an_expanded_filter_is_packed_once(mode, monkeypatch):
    taps, x, packs = torch.randn(1, 1, 12), torch.randn(2, 6, 9), []
    monkeypatch.setattr(kept, "prepare", lambda *arguments: packs.append(1) or prepare(*arguments))

    def call():
        return F.conv_transpose1d(x, taps.expand(6, -1, -1), stride=2, groups=6)

    changes = torch.clone, lambda t: t.mul_(2), lambda t: t.data.mul_(2)
    with mode(), gtc.torch.patch():
        for count, change in enumerate(changes, 1):
            change(taps)
            for _ in range(2):
                assert_same(call(), torch.conv_transpose1d(x, taps.expand(6, -1, -1), stride=2, groups=6))
            assert len(packs) == count


def test_other_views_of_a_filter():
    taps = torch.randn(4, 4, 3)
    with torch.no_grad(), gtc.torch.patch():
        for weight in (taps, taps.transpose(0, 1), taps.flip(2), taps[:, :2], taps[:, ::2], taps[:1].expand(4, -1, -1)):
            for _ in range(2):
                x = torch.randn(2, 4, 9)
                assert_same(F.conv_transpose1d(x, weight), torch.conv_transpose1d(x, weight))


def test_a_view_with_gradients():
    whole = torch.randn(4, 6, 5, requires_grad=True)
    x = torch.randn(2, 3, 7)
    with gtc.torch.patch():
        F.conv_transpose1d(x, whole[:3]).square().sum().backward()
    got = whole.grad.clone()
    whole.grad = None
    F.conv_transpose1d(x, whole[:3]).square().sum().backward()
    assert_same(got, whole.grad)


def test_compiled():
    taps, x = torch.randn(1, 1, 12), torch.randn(2, 6, 9)

    def call(x):
        return F.conv_transpose1d(x, taps.expand(6, -1, -1), stride=2, groups=6) * 2

    want, compiled = call(x), torch.compile(call, backend="eager", fullgraph=True)
    with torch.no_grad():
        with gtc.torch.patch():
            assert_same(compiled(x), want)
        assert_same(compiled(x), want)
