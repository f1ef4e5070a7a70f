"""Whole models: the class of modules changes and nothing else; new weights are seen by the next call."""

from __future__ import annotations

import copy
import io

import pytest
from torch_models import DEPTHS, GEOMETRY, KINDS, Named, Net, OwnForward, assert_same, inputs, ours_in, torchs

import gpu_transconv as gtc

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
nn = torch.nn
old_norm = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")


def weight_norm(module):
    return nn.utils.parametrizations.weight_norm(module)


def old_weight_norm(module):
    return nn.utils.weight_norm(module)


def spectral_norm(module):
    return nn.utils.parametrizations.spectral_norm(module)


def old_spectral_norm(module):
    return nn.utils.spectral_norm(module)


def pruned(module):
    return prune.l1_unstructured(module, "weight", 0.3)


class Doubled(nn.Module):
    """A parametrization with something that is no tensor."""

    factor = 2.0

    def forward(self, weight):
        return self.factor * weight


def doubled(module):
    return nn.utils.parametrize.register_parametrization(module, "weight", Doubled())


WRAPPERS = (lambda module: module, weight_norm, old_weight_norm, spectral_norm, old_spectral_norm, pruned, doubled)
names = ["plain", *(wrapper.__name__ for wrapper in WRAPPERS[1:])]


@old_norm
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=names)
@pytest.mark.parametrize("axes", DEPTHS)
def test_objects_stay(wrapper, axes):
    torch.manual_seed(0)
    model = Net(axes, wrapper).eval()
    x = inputs(axes)
    with torch.no_grad():
        want = model(x)
    before = dict(model.named_modules())
    classes = {name: type(module) for name, module in before.items()}
    parameters = {name: id(value) for name, value in model.named_parameters()}
    keys, text, hooks = list(model.state_dict()), repr(model), [list(m._forward_pre_hooks) for m in model.modules()]
    assert gtc.torch.accelerate(model) is model
    for _ in range(2):  # idempotent
        gtc.torch.accelerate(model)
        assert len(ours_in(model)) == 2
        assert all(isinstance(module, torchs(axes)) for module in ours_in(model))
        assert {name: id(module) for name, module in model.named_modules()} == {n: id(m) for n, m in before.items()}
        assert {name: id(value) for name, value in model.named_parameters()} == parameters
        assert (list(model.state_dict()), repr(model)) == (keys, text)
        assert [list(m._forward_pre_hooks) for m in model.modules()] == hooks
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad, torch.no_grad):
        with mode():
            assert_same(model(x), want)
    assert gtc.torch.restore(model) is model
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert all(type(h).__module__.startswith("torch.") for m in model.modules() for h in m._forward_pre_hooks.values())
    with torch.no_grad():
        assert torch.equal(model(x), want)


@old_norm
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=names)
def test_training_is_that_of_torch(wrapper):
    torch.manual_seed(0)
    model, x = Net(1, wrapper), inputs(1)
    state = copy.deepcopy(model.state_dict())
    found = []
    for change in (gtc.torch.restore, gtc.torch.accelerate):
        torch.manual_seed(0)
        trained = change(Net(1, wrapper))
        trained.load_state_dict(state)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1)
        results = []
        for _ in range(3):
            trained.train()
            loss = trained(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trained.eval()
            with torch.no_grad():
                results += [trained(x), trained(x)]
        found.append(results)
    for got, want in zip(found[1], found[0], strict=True):
        assert_same(got, want, 1e-4)


def _step(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    with torch.enable_grad():
        nn.Module.__call__(module, inputs(1)).square().mean().backward()
    optimizer.step()


def _load(module):
    module.load_state_dict({name: value + 0.25 for name, value in module.state_dict().items()})


def _assign(module):
    module.load_state_dict({name: value + 0.25 for name, value in module.state_dict().items()}, assign=True)


def _copy(module):
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(value + 0.25)


def _data_copy(module):
    for value in module.parameters():
        value.data.copy_(value.data + 0.25)


def _data(module):
    for value in module.parameters():
        value.data = value.data + 0.25


def _double(module):
    module.to(torch.float64)


def _vector(module):
    vector = nn.utils.parameters_to_vector(module.parameters()).detach()
    nn.utils.vector_to_parameters(vector + 0.25, module.parameters())


def _remove(module):
    if nn.utils.parametrize.is_parametrized(module):
        nn.utils.parametrize.remove_parametrizations(module, "weight")
    elif "weight_g" in dict(module.named_parameters()):
        nn.utils.remove_weight_norm(module)
    _copy(module)


def _parametrize(module):
    if not nn.utils.parametrize.is_parametrized(module) and "weight" in module._parameters:
        doubled(module)
    else:
        _copy(module)


CHANGES = (_step, _load, _assign, _copy, _data_copy, _data, _double, _vector, _remove, _parametrize)


@old_norm
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("wrapper", WRAPPERS[:3], ids=names[:3])
def test_a_change_is_seen_by_the_next_call(wrapper, change):
    torch.manual_seed(0)
    module = gtc.torch.accelerate(wrapper(KINDS[1](3, 5, 4, **GEOMETRY)).eval())
    x = inputs(1)
    with torch.no_grad():
        first = module(x)
        assert torch.equal(module(x), first)
        change(module)
        x = x.to(next(module.parameters()).dtype)
        got = module(x)
        assert got.dtype == x.dtype
        plain = gtc.torch.restore(copy.deepcopy(module))
        assert not ours_in(plain)
        assert_same(got, plain(x))
        assert change is _double or not torch.allclose(got, first)
        assert_same(module(x), got)


def test_pruning_is_seen():
    module = gtc.torch.accelerate(KINDS[1](3, 5, 4, **GEOMETRY))
    x = inputs(1)
    with torch.no_grad():
        first = module(x)
        prune.random_unstructured(module, "weight", 0.5)
        for _ in range(2):
            got = module(x)
            assert_same(got, gtc.torch.restore(copy.deepcopy(module))(x))
            assert not torch.allclose(got, first)
        module.weight_orig.data.mul_(2)
        assert_same(module(x) - module.bias[:, None], 2 * (got - module.bias[:, None]))
        prune.remove(module, "weight")
        assert_same(module(x) - module.bias[:, None], 2 * (got - module.bias[:, None]))


@old_norm
@pytest.mark.parametrize("wrapper", WRAPPERS[1:4], ids=names[1:4])
def test_a_norm_is_not_worked_out_again(wrapper, monkeypatch):
    from gpu_transconv.torch.weights import weight_of

    module, x = gtc.torch.accelerate(wrapper(KINDS[1](3, 5, 4, **GEOMETRY)).eval()), inputs(1)
    with torch.no_grad():
        want, first = module(x), weight_of(module)
        with monkeypatch.context() as without:
            if wrapper is not spectral_norm:  # the weight of others is worked out, and compared with the one kept
                without.setattr(torch, "_weight_norm", None)
            assert torch.equal(module(x), want)
            assert weight_of(module) is first
    module(x).sum().backward()  # with gradients it is worked out from what they go to
    assert all(value.grad is not None for value in module.parameters())


@old_norm
@pytest.mark.parametrize("wrapper", [*WRAPPERS[:2], old_weight_norm], ids=names[:3])
def test_copies_and_files(wrapper):
    torch.manual_seed(0)
    with torch.no_grad():
        module, x = wrapper(Named(3, 5, 4, **GEOMETRY)).eval(), inputs(1)
        module(x)
        gtc.torch.accelerate(module, backend="cpu")
        want = module(x)
        copied = copy.deepcopy(module)
        assert type(copied) is type(module)
        assert_same(copied(x), want)
        for value in copied.parameters():
            value.zero_()
        assert not torch.allclose(copied(x), want)
        assert_same(module(x), want)
        if wrapper is not weight_norm:  # torch itself refuses to save parametrized modules
            file = io.BytesIO()
            torch.save(module, file)
            file.seek(0)
            loaded = torch.load(file, weights_only=False)
            assert type(loaded) is type(module)
            assert_same(loaded(x), want)
            assert type(gtc.torch.restore(loaded)) is Named


def test_state_dicts_go_both_ways():
    plain, changed = Net(2), gtc.torch.accelerate(Net(2))
    x = inputs(2)
    changed.load_state_dict(plain.state_dict())
    assert_same(changed(x), plain(x))
    with torch.no_grad():
        for value in changed.parameters():
            value.mul_(1.5)
    plain.load_state_dict(changed.state_dict())
    assert_same(changed(x), plain(x))


def test_the_model_itself_shared_modules_and_subclasses():
    shared = KINDS[2](3, 3, 4, **GEOMETRY)
    model = nn.ModuleDict({"a": shared, "b": shared, "own": OwnForward(3, 3, 4), "named": Named(3, 5, 4)})
    gtc.torch.accelerate(model)
    assert model["a"] is model["b"] is shared
    assert isinstance(shared, gtc.torch.ConvTranspose2d)
    assert type(model["own"]) is OwnForward
    assert isinstance(model["named"], gtc.torch.ConvTranspose1d)
    assert isinstance(model["named"], Named)
    assert type(model["named"]) is type(gtc.torch.accelerate(Named(1, 1, 1)))
    root = gtc.torch.accelerate(nn.ConvTranspose3d(1, 1, 2))
    assert type(root) is gtc.torch.ConvTranspose3d
    assert type(gtc.torch.restore(root)) is nn.ConvTranspose3d


def test_a_forward_replaced_in_the_object_is_left():
    module = KINDS[1](3, 5, 4)
    module.forward = lambda x: x
    gtc.torch.accelerate(module)
    assert not ours_in(module)


def test_filter():
    model = Net(1)
    asked = []
    gtc.torch.accelerate(model, filter_fn=lambda module, name: asked.append((module, name)) or name == "up.2")
    assert asked == [(model.up[0], "up.0"), (model.up[2], "up.2")]
    assert ours_in(model) == [model.up[2]]


def test_backends_are_kept_apart():
    model = Net(1)
    gtc.torch.accelerate(model, backend="reference", filter_fn=lambda _, name: name == "up.0")
    gtc.torch.accelerate(model, filter_fn=lambda _, name: name == "up.2")
    assert [module.backend for module in ours_in(model)] == ["reference", "auto"]
    gtc.torch.accelerate(model, backend="cpu")
    assert [module.backend for module in ours_in(model)] == ["cpu", "cpu"]
    assert_same(model(inputs(1)), gtc.torch.restore(copy.deepcopy(model))(inputs(1)))


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_lazy_modules(backend):
    module = gtc.torch.accelerate(nn.LazyConvTranspose1d(4, 3), backend=backend)
    assert [row.why for row in gtc.torch.explain(module)] == [
        "its parameters have no values yet; ours from the first call on"
    ]
    assert type(gtc.torch.restore(copy.deepcopy(module))) is nn.LazyConvTranspose1d
    x = torch.ones(1, 5, 7)
    first = module(x)
    assert isinstance(module, gtc.torch.ConvTranspose1d)
    assert module.backend == backend
    assert_same(module(x), first)
    assert type(gtc.torch.restore(module)) is nn.ConvTranspose1d
    assert_same(module(x), first)


@old_norm
def test_norms_added_and_removed_afterwards():
    x = inputs(1)
    for add, remove in (
        (weight_norm, lambda module: nn.utils.parametrize.remove_parametrizations(module, "weight")),
        (old_weight_norm, nn.utils.remove_weight_norm),
    ):
        module = gtc.torch.accelerate(KINDS[1](3, 5, 4, **GEOMETRY))
        with torch.no_grad():
            want = module(x)
            add(module)
            assert isinstance(module, gtc.torch.ConvTranspose1d)
            for _ in range(2):
                assert_same(module(x), want)
            restored = gtc.torch.restore(copy.deepcopy(module))
            assert not ours_in(restored)
            assert_same(restored(x), want)
            remove(restored)
            assert type(restored) is nn.ConvTranspose1d
            remove(module)
            assert type(module) is gtc.torch.ConvTranspose1d
            assert_same(module(x), want)


def test_a_second_parametrization_before_restore():
    module = weight_norm(KINDS[1](3, 5, 4, **GEOMETRY))
    before = type(module)
    gtc.torch.accelerate(module)
    nn.utils.parametrize.register_parametrization(module, "bias", Doubled())
    x = inputs(1)
    want = module(x)
    gtc.torch.restore(module)
    assert_same(module(x), want)
    nn.utils.parametrize.remove_parametrizations(module, "bias")
    assert_same(module(x), want)
    assert issubclass(before, nn.ConvTranspose1d)


def test_explain(capsys):
    model = nn.ModuleDict({"up": KINDS[2](3, 5, 4, stride=2, groups=1), "own": OwnForward(3, 3, 4), "other": nn.ReLU()})
    gtc.torch.accelerate(model, filter_fn=lambda _, name: name != "up")
    rows = gtc.torch.explain(model)
    text = capsys.readouterr().out
    assert [(row.name, row.accelerated) for row in rows] == [("up", False), ("own", False)]
    assert "OwnForward has a forward of its own" in text
    assert "3 -> 5, 4x4, stride 2x2" in text
    gtc.torch.accelerate(model)
    assert gtc.torch.explain(model)[0].accelerated
    assert gtc.torch.explain(nn.ReLU()) == []


@pytest.mark.parametrize("call", [gtc.torch.accelerate, gtc.torch.restore, gtc.torch.explain])
def test_no_module(call):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got dict"):
        call({})


def test_no_backend():
    module = KINDS[1](3, 5, 4)
    with pytest.raises(ValueError, match="backend"):
        gtc.torch.accelerate(module, backend="gpu")
    assert not ours_in(module)
