"""Packed weights: kept while their tensor lives and holds the same, made anew after every way to change it."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
from torch_cases import OURS, THEIRS, torch

import gpu_transconv
from gpu_transconv.torch import packed as store
from gpu_transconv.torch import ready, routes

SMALL, LARGE = (3, 2, 4), (64, 32, 16)  # compared value by value, and by samples


@pytest.fixture
def packs(monkeypatch):
    """How often weights were packed to be kept."""
    made = []
    prepare = store.prepare
    monkeypatch.setattr(store, "prepare", lambda *arguments: made.append(1) or prepare(*arguments))
    monkeypatch.setattr(store, "_owners", {})
    return made


def call(x, weight, bias=None):
    with torch.no_grad():
        y = OURS[1](x, weight, bias, stride=2)
        want = THEIRS[1](x.double(), weight.double(), None if bias is None else bias.double(), stride=2)
        torch.testing.assert_close(y.double(), want, rtol=1e-2 if weight.dtype.itemsize == 2 else 1e-4, atol=1e-2)
    return y


def sgd(weight, bias):
    optimizer = torch.optim.SGD([weight, bias], lr=0.5)
    weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
    optimizer.step()


def load(weight, bias):
    layer = torch.nn.ConvTranspose1d(*weight.shape)
    layer.weight, layer.bias = weight, bias
    layer.load_state_dict({name: torch.randn_like(t) for name, t in layer.state_dict().items()})


def to_double_and_back(weight, bias):
    for tensor in (weight, bias):
        tensor.data = tensor.data.to(torch.bfloat16)


def vector(weight, bias):
    torch.nn.utils.vector_to_parameters(torch.randn(weight.numel() + bias.numel()), [weight, bias])


def prune(weight, bias):  # noqa: ARG001
    with torch.no_grad():
        weight.mul_(torch.rand_like(weight) > 0.5)


CHANGES = {
    "optimizer": sgd,
    "load_state_dict": load,
    "copy_": lambda w, _: w.detach().copy_(torch.randn_like(w)),
    "data.copy_": lambda w, _: w.data.copy_(torch.randn_like(w)),
    "data.mul_": lambda w, _: w.data.mul_(1.5),
    "data": lambda w, _: setattr(w, "data", torch.randn_like(w)),
    "to": to_double_and_back,
    "vector_to_parameters": vector,
    "pruning": prune,
    "bias.data.copy_": lambda _, b: b.data.copy_(torch.randn_like(b)),
    "bias.copy_": lambda _, b: b.detach().copy_(torch.randn_like(b)),
    "transposed": lambda w, _: setattr(w, "data", w.data.flip(2).transpose(0, 1).contiguous().transpose(0, 1)),
    "numpy": lambda w, _: w.detach().numpy().__imul__(2),
}


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_by_the_next_call(packs, shape, change):
    weight, bias = torch.nn.Parameter(torch.randn(shape) / 8), torch.nn.Parameter(torch.randn(shape[1]))
    x = torch.randn(1, shape[0], 9)
    for _ in range(2):
        call(x, weight, bias)
    assert len(packs) == 1
    with torch.no_grad():
        change(weight, bias)
    for _ in range(2):
        call(x.to(weight.dtype), weight, bias)
    assert len(packs) == 2


def test_one_value_of_a_small_weight_is_seen(packs):
    weight, x = torch.nn.Parameter(torch.randn(SMALL)), torch.randn(1, 3, 9)
    for place in range(weight.numel()):
        call(x, weight)
        weight.data.view(-1)[place] += 1
    assert len(packs) == weight.numel()


def test_one_pack_for_all_lengths(packs):
    weight = torch.nn.Parameter(torch.randn(LARGE))
    for length in (400, 500, 600):
        call(torch.randn(1, 64, length), weight)
    assert len(packs) == 1


def test_the_tensor_is_not_kept_alive(packs):
    weight = torch.nn.Parameter(torch.randn(LARGE))
    call(torch.randn(1, 64, 9), weight)
    assert packs
    assert store.kept_bytes() == weight.nbytes
    reference = weakref.ref(weight)
    del weight
    gc.collect()
    assert reference() is None
    assert store.kept_bytes() == 0


def test_views_of_one_filter_are_found_by_it(packs):
    """A filter that is spread over the channels anew at every call, as anti-aliased upsampling does."""
    window = torch.rand(1, 1, 12)
    for _ in range(3):
        y = OURS[1](torch.randn(1, 64, 20), window.expand(64, -1, -1), stride=2, groups=64)
    assert y.shape == (1, 64, 50)
    assert len(packs) == 1


def test_views_at_one_address_are_told_apart(packs):
    base, x = torch.randn(6, 6, 3), torch.randn(1, 6, 9)
    for _ in range(2):
        call(x, base)
        call(x, base.transpose(0, 1))
        call(x[:, :3], base[:3])
        call(x, base[:, :2])  # with gaps, so not kept
        call(x, base.flip(2))  # a tensor of its own
    assert len(packs) == 3 + 2
    complex_base = torch.randn(6, 6, 3, dtype=torch.complex64)
    for weight in (complex_base.imag, complex_base.conj().imag):
        call(x, weight)


def test_weights_being_trained(packs):
    x = torch.randn(1, 64, 9)
    for shape, count in ((LARGE, 0), ((64, 1, 4), 2)):  # forward and the gradient by x
        weight = torch.nn.Parameter(torch.randn(shape))
        packs.clear()
        for _ in range(2):
            OURS[1](x.requires_grad_(), weight).sum().backward()
        assert len(packs) == count


def test_parametrized_and_inference_weights_are_right():
    x, layer = torch.randn(1, 64, 9), torch.nn.ConvTranspose1d(64, 32, 16, 2)
    torch.nn.utils.parametrizations.weight_norm(layer)
    for _ in range(2):
        call(x, layer.weight, layer.bias)
        layer.parametrizations.weight.original0.data.mul_(2)
    with torch.inference_mode():
        weight = torch.randn(LARGE)
        call(x, weight)
        weight.mul_(2)
        call(x, weight)
    call(x, copy.deepcopy(layer).weight)


def test_what_is_kept_is_bounded(packs, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 3 * 64 * 32 * 16 * 4)
    weights = [torch.nn.Parameter(torch.randn(LARGE)) for _ in range(5)]
    for weight in weights:
        call(torch.randn(1, 64, 9), weight)
    assert store.kept_bytes() == store.MOST_BYTES
    call(torch.randn(1, 64, 9), weights[-1])
    assert len(packs) == 5
    window = torch.randn(400)
    for start in range(100):
        call(torch.randn(1, 2, 5), window[start : start + 24].view(2, 3, 4))
    assert len(store._owners[id(window)].entries) <= store._MOST_OF_ONE


def test_autocast_casts_and_packs_once(packs):
    weight, bias = torch.nn.Parameter(torch.randn(LARGE) / 8), torch.nn.Parameter(torch.randn(32))
    x = torch.randn(1, 64, 9)
    for count in (1, 2):
        for mode in (torch.no_grad, torch.inference_mode, torch.no_grad):
            with mode(), torch.autocast("cpu"):
                y = OURS[1](x, weight, bias)
                torch.testing.assert_close(y, THEIRS[1](x, weight, bias), rtol=2e-2, atol=2e-2)
            assert len(packs) == count
        weight.data.mul_(2)


# --- small layers called before ---------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """How often a call that was remembered was found again."""
    found = []
    find = routes.recall

    def recall(*arguments):
        call = find(*arguments)
        found.extend([1] if call else [])
        return call

    monkeypatch.setattr(routes, "recall", recall)
    return found


def same(x, weight, bias=None, **keywords):
    """Compare a call with torch's, gradients included."""
    results = []
    for function in (OURS[1], THEIRS[1]):
        with torch.no_grad():
            y = function(x, weight, bias, **keywords)
        wanted = [t for t in (x, weight, bias) if t is not None and t.requires_grad]
        grads = torch.autograd.grad(function(x, weight, bias, **keywords).square().sum(), wanted) if wanted else ()
        results.append((y, *grads))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_small_call_is_remembered(calls):
    weight, bias = torch.randn(SMALL, requires_grad=True), torch.randn(2, requires_grad=True)
    x = torch.randn(1, 3, 9, requires_grad=True)
    same(x, weight, bias, stride=2)
    assert len(calls) == 1  # without and with gradients
    for given in (x, torch.randn(1, 3, 9), torch.randn(1, 3, 9, dtype=torch.float64).to(torch.float32)):
        calls.clear()
        same(given, weight, bias, stride=2)
        assert len(calls) == 2
    keys = list(store._owners[id(weight)].entries)
    for change in (lambda: weight.data.mul_(2), lambda: bias.data.add_(1), lambda: weight.data.zero_()):
        calls.clear()
        change()
        same(x, weight, bias, stride=2)
        assert len(calls) == 2  # with the weights as they are now
    for value in (float("inf"), 1.0):
        weight.data[1, 0, 2] = value
        same(x, weight, bias, stride=2)
    assert list(store._owners[id(weight)].entries) == keys
    x.data[0, 1, 3] = float("inf")
    same(x, weight, bias, stride=2)


def test_another_call_is_not_taken_for_it(calls):
    weight, x = torch.randn(SMALL), torch.randn(1, 3, 9)
    same(x, weight, stride=2)
    wide = torch.randn(1, 3, 18)
    others = (
        lambda: same(x, weight, stride=1), lambda: same(x, weight, stride=2, padding=1),
        lambda: same(x[:, :2], weight[:2]),
        lambda: same(x, weight, torch.randn(2), stride=2), lambda: same(wide[:, :, ::2], weight, stride=2),
        lambda: same(torch.randn(2, 3, 9), weight, stride=2), lambda: same(x, weight.flip(2), stride=2),
        lambda: same(x.double(), weight.double(), stride=2), lambda: same(torch._neg_view(x), weight, stride=2),
    )  # fmt: skip
    for other in others:
        other()
    with pytest.raises(TypeError, match="stride must be an int"):
        OURS[1](x, weight, stride=True)
    calls.clear()
    with torch.no_grad():
        OURS[1](x, weight, stride=2, activation="relu")
        torch.testing.assert_close(
            OURS[1](x, weight, stride=2, activation="relu"), torch.relu(THEIRS[1](x, weight, stride=2))
        )
        assert len(calls) == 1
        with gpu_transconv.use(backend="reference"):
            OURS[1](x, weight, stride=2)
            assert gpu_transconv.last_choice().implementation.backend == "reference"
    leaf = x.clone().requires_grad_()
    OURS[1](leaf, weight, stride=2, activation="relu").sum().backward()
    want = torch.autograd.grad(torch.relu(THEIRS[1](x.requires_grad_(), weight, stride=2)).sum(), x)[0]
    torch.testing.assert_close(leaf.grad, want)


def test_remembered_calls_are_bounded():
    weight = torch.randn(SMALL)
    for length in range(1, 2 * ready._MOST):
        same(torch.randn(1, 3, length), weight)
    assert len(store._owners[id(weight)].ready) <= ready._MOST
