"""Modules of ours are torch's in constructor, parameters, errors and results; those of PyTorch's own table pass."""

from __future__ import annotations

import inspect

import pytest
from torch_models import DEPTHS, GEOMETRY, KINDS, assert_same, inputs

import gpu_transconv as gtc

torch = pytest.importorskip("torch")
OURS = {axes: getattr(gtc.torch, f"ConvTranspose{axes}d") for axes in DEPTHS}


@pytest.fixture(scope="module")
def table():
    """What PyTorch tests its own modules with, by axes; its import takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        # The import would forbid this process to set torch.backends.cudnn.benchmark and others, as other tests do.
        patch.setattr("torch.backends.disable_global_flags", lambda: None)
        from torch.testing._internal.common_modules import module_db
    return {axes: next(info for info in module_db if info.module_cls is KINDS[axes]) for axes in DEPTHS}


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("axes", DEPTHS)
def test_inputs_of_pytorchs_table(table, axes, dtype):
    info = table[axes]
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert len(samples) >= 2
    for sample in samples:
        made, called = sample.constructor_input, sample.forward_input
        torchs, ours = (kind(*made.args, **made.kwargs).to(dtype) for kind in (KINDS[axes], OURS[axes]))
        ours.load_state_dict(torchs.state_dict())
        results = []
        for module in (torchs, ours):
            given = [value.detach().clone().requires_grad_() for value in called.args]
            y = module(*given, **called.kwargs)
            y.abs().square().sum().backward()
            results.append([y, *(value.grad for value in (*given, *module.parameters()))])
            if sample.reference_fn is not None:
                assert_same(y, sample.reference_fn(module, *given, **called.kwargs), 1e-4)
        for got, want in zip(results[1], results[0], strict=True):
            assert_same(got, want, 1e-4)


@pytest.mark.parametrize("axes", DEPTHS)
def test_they_are_torchs_own(axes):
    torchs, ours = KINDS[axes](3, 6, 4, **GEOMETRY, groups=3), OURS[axes](3, 6, 4, **GEOMETRY, groups=3)
    assert isinstance(ours, KINDS[axes])
    assert repr(ours) == repr(torchs)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    assert vars(ours).keys() == vars(torchs).keys()
    assert inspect.signature(OURS[axes]) == inspect.signature(KINDS[axes])
    assert inspect.signature(ours.forward).parameters.keys() == inspect.signature(torchs.forward).parameters.keys()


@pytest.mark.parametrize("axes", DEPTHS)
def test_output_size_and_no_batch(axes):
    torchs, ours = KINDS[axes](3, 5, 4, stride=3), OURS[axes](3, 5, 4, stride=3)
    ours.load_state_dict(torchs.state_dict())
    x = inputs(axes)
    for given in (x, x[0]):
        assert_same(ours(given), torchs(given))
        size = [n + 1 for n in torchs(given).shape[-axes:]]
        assert_same(ours(given, output_size=size), torchs(given, output_size=size))
        assert_same(ours(given, (*given.shape[:-axes], *size)), torchs(given, size))
        with pytest.raises(ValueError, match="requested an output size"):
            ours(given, output_size=[n + 9 for n in size])


@pytest.mark.parametrize("axes", DEPTHS)
def test_no_other_padding_modes(axes):
    with pytest.raises(ValueError, match='Only "zeros" padding mode is supported'):
        OURS[axes](3, 5, 4, padding_mode="circular")


@pytest.mark.parametrize("axes", [2, 3])
def test_channels_last(axes, launched):
    form = torch.channels_last if axes == 2 else torch.channels_last_3d
    torchs, ours = KINDS[axes](3, 5, 4, **GEOMETRY), OURS[axes](3, 5, 4, **GEOMETRY)
    ours.load_state_dict(torchs.state_dict())
    x = inputs(axes)
    with torch.no_grad():
        for given in (x, x.to(memory_format=form)):
            assert_same(ours(given), torchs(given))
        for module in (torchs, ours):
            module.to(memory_format=form)
        assert_same(ours(x), torchs(x))
    assert len(launched) == 3


def test_traced_in_one_graph():
    module = torch.nn.Sequential(OURS[1](3, 5, 4, **GEOMETRY), torch.nn.Tanh())
    x = inputs(1)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            assert_same(torch.compile(module, backend="aot_eager", fullgraph=True)(x), module(x))
    exported = torch.export.export(module, (x,))
    assert_same(exported.module()(x), module(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_traced_with_a_norm():
    norm = torch.nn.utils.parametrizations.weight_norm
    module, x = gtc.torch.accelerate(norm(KINDS[1](3, 5, 4, **GEOMETRY))), inputs(1)
    with torch.no_grad():
        want = module(x)
        assert_same(torch.compile(module, backend="eager", fullgraph=True)(x), want)
        traced = torch.jit.trace(gtc.torch.restore(module), x)
        assert_same(traced(x), want)
