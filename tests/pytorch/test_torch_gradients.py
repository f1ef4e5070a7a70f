"""Gradients of PyTorch's functions of the package: of any order, both modes, in batches, by torch.func."""

from __future__ import annotations

import itertools

import pytest
from selection import one_of
from torch_cases import LAYERS, OURS, THEIRS, torch

from gpu_transconv.torch.functions import FORWARD, INPUT_GRAD, WEIGHT_GRAD

#: What PyTorch loads itself for forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
FUNC = torch.func
SAME = {"rtol": 1e-10, "atol": 1e-10}


def given(layer, tensors):
    """The layer as a function of the tensors that it has."""
    return lambda *some: layer.ours(*some, *[None] * (3 - len(some))), [t for t in tensors if t is not None]


@pytest.mark.parametrize("layer", one_of(8, LAYERS), ids=lambda layer: layer.name)
def test_numerical_gradients(layer):
    function, tensors = given(layer, layer.tensors(requires_grad=True))
    assert torch.autograd.gradcheck(
        function, tensors, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(function, tensors, check_fwd_over_rev=True, check_batched_grad=True)


@pytest.mark.parametrize("dtype", [torch.complex128])
def test_numerical_gradients_of_complex_layers(dtype):
    x, weight = (torch.randn(shape, dtype=dtype, requires_grad=True) for shape in ((1, 2, 3), (2, 1, 3)))
    assert torch.autograd.gradcheck(lambda *t: OURS[1](*t, stride=2), (x, weight), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *t: OURS[1](*t, stride=2), (x, weight))


@pytest.mark.parametrize("layer", one_of(4, LAYERS), ids=lambda layer: layer.name)
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_gradients_equal_torch(layer, last, launched):
    found = []
    for function in (layer.ours, layer.theirs):
        x, weight, bias = layer.tensors(requires_grad=True)
        y = function(x, weight, bias)
        grad = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        if last and y.dim() == 4:
            grad = grad.contiguous(memory_format=torch.channels_last)
        (y * grad).sum().backward()
        found.append([y, x.grad, weight.grad] + ([] if bias is None else [bias.grad]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **SAME)
    assert [name.split("/")[1] for name in launched][-2:] == ["input_grad", "weight_grad"]


def test_only_what_is_wanted_is_computed(launched):
    x, weight = torch.randn(1, 2, 5), torch.randn(2, 3, 4, requires_grad=True)
    OURS[1](x, weight).sum().backward()
    forward, gradient = (name.split("/")[1] for name in launched)
    assert forward in ("gather", "scatter")
    assert gradient == "weight_grad"
    with torch.no_grad():
        assert OURS[1](x, weight).grad_fn is None


# --- torch.func -------------------------------------------------------------------------------------------

X = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
WEIGHT = torch.randn(3, 4, 3, 3, 4, dtype=torch.float64)
BIAS = torch.randn(3, 6, dtype=torch.float64)
KEYWORDS = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2}
SIDES = [lambda *t: THEIRS[2](*t, **KEYWORDS), lambda *t: OURS[2](*t, **KEYWORDS)]


def cube(function):
    return lambda *tensors: (function(*tensors) ** 3).sum()


def close(call):
    """Both sides agree in whatever `call` makes of a function."""
    theirs, ours = (torch.utils._pytree.tree_leaves(call(function)) for function in SIDES)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **SAME)


@pytest.mark.parametrize("dims", [d for d in itertools.product((0, None), repeat=3) if any(i == 0 for i in d)], ids=str)
def test_vmap(dims):
    tensors = [t if dim == 0 else t[0] for t, dim in zip((X, WEIGHT, BIAS), dims, strict=True)]
    close(lambda function: FUNC.vmap(function, in_dims=dims)(*tensors))
    close(lambda function: FUNC.vmap(FUNC.grad(cube(function), (0, 1, 2)), in_dims=dims)(*tensors))


def test_vmap_over_other_axes_and_twice():
    moved = X.movedim(0, 1), WEIGHT.movedim(0, 2), BIAS.movedim(0, 1)
    close(lambda function: FUNC.vmap(function, in_dims=(1, 2, 1), out_dims=2)(*moved))
    close(lambda function: FUNC.vmap(FUNC.vmap(function, in_dims=(0, None, None)))(X, WEIGHT, BIAS))


def test_grad_and_jvp():
    tensors, tangents = (X[0], WEIGHT[0], BIAS[0]), (X[1], WEIGHT[1], BIAS[1])
    close(lambda function: FUNC.grad(cube(function), (0, 1, 2))(*tensors))
    close(lambda function: FUNC.jvp(function, tensors, tangents))
    for place in range(3):

        def alone(function, place=place):
            return FUNC.jvp(lambda t: function(*tensors[:place], t, *tensors[place + 1 :]), *(
                (some[place],) for some in (tensors, tangents)))  # fmt: skip

        close(alone)


@pytest.mark.parametrize("first", [0, 1])
def test_second_derivatives(first):
    tensors = X[0, :1, :2, :2, :2], WEIGHT[0, :2, :1, :2, :2], BIAS[0, :2]
    close(lambda function: FUNC.jacrev(FUNC.jacrev(cube(function), first), 1 - first)(*tensors))
    close(lambda function: FUNC.hessian(cube(function), first)(*tensors))
    close(lambda function: FUNC.jacfwd(function, first)(*tensors))


def test_third_derivatives_close_over_the_three_maps():
    """Of the sum of cubes of a layer without bias, homogeneous of degree 3 in x, by Euler's relation."""
    x, weight = X[0, :1, :2, :1, :2], WEIGHT[0, :2, :1, :2, :2]
    loss = cube(lambda t: OURS[2](t, weight, None, **KEYWORDS))
    third = FUNC.jacrev(FUNC.jacrev(FUNC.jacrev(loss)))(x)
    for _ in range(3):
        third = torch.tensordot(third, x, dims=x.dim())
    torch.testing.assert_close(third, 6 * loss(x), **SAME)


@pytest.mark.parametrize("mapping", [FORWARD, INPUT_GRAD, WEIGHT_GRAD], ids=lambda mapping: mapping.operation)
def test_each_map_is_differentiated_by_the_others(mapping):
    from gpu_transconv.torch.geometry import settings_of, spec_of

    spec = spec_of(1, settings_of(False, None, None, "auto", "auto"), 2, 1, 1, 2, 1, None, "channels_first")
    x, weight = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    grad = torch.randn(2, 4, 6, dtype=torch.float64)
    pairs = {"forward": (x, weight, None), "input_grad": (grad, weight, (3,)), "weight_grad": (x, grad, (3,))}
    first, second, sizes = pairs[mapping.operation]
    tensors = [tensor.clone().requires_grad_() for tensor in (first, second)]
    function = lambda *t: mapping(*t, None, spec, sizes)  # noqa: E731
    assert torch.autograd.gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, tensors, check_fwd_over_rev=True)
