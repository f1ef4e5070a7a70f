"""PyTorch's operators of the package in graphs: compiled, exported, traced, and on tensors without values."""

from __future__ import annotations

import warnings

import pytest
from selection import in_full
from torch_cases import LAST, OURS, THEIRS, torch

import gpu_transconv

#: PyTorch's own, of what it imports to look into graphs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OPERATORS = torch.ops.gpu_transconv
GEOMETRY = {
    1: ([2], [1, 0], [1], [2], 2), 2: ([2, 1], [1, 1, 0, 1], [1, 0], [1, 2], 2),
    3: ([2, 2, 1], [0, 0, 1, 0, 1, 1], [0, 1, 0], [1, 1, 1], 2),
}  # fmt: skip
WORDS = ("", None, "auto", "auto")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("form", ["first", "format", "forced"])
def test_operators_keep_their_promises(ndim, form):
    flat = (*GEOMETRY[ndim], form == "forced", *WORDS)
    x, weight, bias = torch.randn(2, 4, *(5, 4, 3)[:ndim]), torch.randn(4, 3, *(3, 3, 2)[:ndim]), torch.randn(6)
    if form == "format":
        x = x.to(memory_format=LAST.get(ndim, torch.contiguous_format))
    x, weight, bias = (t.requires_grad_() for t in (x, weight, bias))
    y = OPERATORS.conv_transpose(x, weight, bias, None, *flat)
    grad = torch.randn_like(y).requires_grad_()
    checks = [
        (OPERATORS.conv_transpose.default, (x, weight, bias, None, *flat)),
        (OPERATORS.conv_transpose.default, (x, weight, None, y.shape[2:], *flat)),
        (OPERATORS.conv_transpose_input_grad.default, (grad, weight, x.shape[2:], *flat)),
        (OPERATORS.conv_transpose_weight_grad.default, (x, grad, weight.shape[2:], *flat)),
    ]
    for operator, arguments in checks:
        torch.library.opcheck(operator, arguments)


class Block(torch.nn.Module):
    """A layer between two others, by one side's function."""

    def __init__(self, function):
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.randn(4, 6, 4)), torch.nn.Parameter(torch.randn(6))
        self.function = function

    def forward(self, x):
        return torch.relu(self.function(x * 2, self.weight, self.bias, 2, 1)) + 1


@pytest.fixture
def blocks():
    """The same block by our function and by torch's."""
    ours, theirs = Block(OURS[1]), Block(THEIRS[1])
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture
def compiler():
    """Compile as one graph, counting graphs from zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own imports
        import torch._dynamo
        import torch._inductor.codecache

        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        yield lambda function, **keywords: torch.compile(function, fullgraph=True, **keywords)
        torch._dynamo.reset()


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


LENGTHS = (7, 9, 12, 20, 31)


@pytest.mark.long
@pytest.mark.parametrize("backend", [pytest.param("aot_eager", marks=in_full), "inductor"])
def test_compiled_inference_and_training(blocks, compiler, backend):
    ours, theirs = blocks
    compiled = compiler(ours, backend=backend)
    with torch.no_grad():
        for length in LENGTHS:
            x = torch.randn(2, 4, length)
            torch.testing.assert_close(compiled(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert graphs() <= 3
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = compiler(ours, backend=backend)
    for length in LENGTHS:
        x = torch.randn(2, 4, length)
        grads = []
        for function, block in ((compiled, ours), (theirs, theirs)):
            given = x.clone().requires_grad_()
            grads.append(torch.autograd.grad((function(given) ** 2).sum(), [given, *block.parameters()]))
        torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3)
    assert graphs() <= 3


def test_compiled_with_our_own_arguments(compiler):
    def function(x, weight):
        y = OURS[2](x, weight, stride=(2, 1), padding="same", activation=("leaky_relu", 0.2))
        return OURS[2](y, weight.transpose(0, 1), data_format="channels_first", activation="gelu")

    x, weight = torch.randn(1, 3, 5, 5).to(memory_format=torch.channels_last), torch.randn(3, 2, 4, 3)
    compiled, want = compiler(function, backend="aot_eager"), function(x, weight)
    torch.testing.assert_close(compiled(x, weight), want)
    assert compiled(x, weight).stride() == want.stride()
    last = compiler(lambda t: OURS[1](t, weight[0], data_format="channels_last"), backend="aot_eager")
    torch.testing.assert_close(
        last(torch.ones(2, 5, 2)), OURS[1](torch.ones(2, 5, 2), weight[0], data_format="channels_last")
    )
    with pytest.raises(Exception, match="stride must be"):
        compiler(lambda t: OURS[2](t, weight, stride=0), backend="aot_eager")(x)


def test_compiled_under_autocast(blocks, compiler):
    ours, theirs = blocks
    x, compiled = torch.randn(2, 4, 9), compiler(ours, backend="aot_eager")
    with torch.autocast("cpu"), torch.no_grad():
        y, want = compiled(x), theirs(x)
    assert y.dtype is want.dtype is torch.bfloat16
    torch.testing.assert_close(y, want, rtol=2e-2, atol=2e-2)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm])
def test_compiled_with_a_weight_that_is_worked_out(compiler, norm):
    model = torch.nn.Sequential(norm(torch.nn.ConvTranspose1d(4, 6, 4, stride=2)), torch.nn.Tanh())
    x = torch.randn(2, 4, 9)

    def results(function):
        with torch.no_grad():
            y = function(x)
        return y, *torch.autograd.grad(function(x).square().sum(), list(model.parameters()))

    want = results(model)
    compiled = compiler(gpu_transconv.torch.accelerate(model), backend="aot_eager")
    torch.testing.assert_close(results(compiled), want, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
        torch.testing.assert_close(compiled(x), gpu_transconv.torch.restore(model)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_export_and_ahead_of_time(blocks, tmp_path):
    ours, theirs = blocks
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=2, max=4096)
    dims = {"x": {0: batch, 2: length}}
    program = torch.export.export(ours, (torch.randn(2, 4, 9),), dynamic_shapes=dims)
    targets = [node.target for node in program.graph.nodes]
    assert OPERATORS.conv_transpose.default in targets
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "block.pt2"))
    loaded = torch._inductor.aoti_load_package(package)
    for shape in ((3, 4, 17), (1, 4, 5)):
        x = torch.randn(shape)
        for call in (program.module(), program.run_decompositions().module(), loaded):
            torch.testing.assert_close(call(x), theirs(x), rtol=1e-4, atol=1e-5)


# --- other ways to look at a call -------------------------------------------------------------------------

X, WEIGHT = torch.randn(1, 4, 5), torch.randn(4, 6, 4)


def layer(x):
    return OURS[1](x, WEIGHT, stride=2)


def test_fx_records_the_function():
    graph = torch.fx.symbolic_trace(layer)
    assert OURS[1] in [node.target for node in graph.graph.nodes]
    torch.testing.assert_close(graph(X + 1), layer(X + 1))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_jit_trace():
    traced = torch.jit.trace(layer, (X,))
    other = torch.randn(2, 4, 9)
    torch.testing.assert_close(traced(other), layer(other))


def test_make_fx():
    from torch.fx.experimental.proxy_tensor import make_fx

    def slope(x):
        return torch.func.grad(lambda t: (layer(t) ** 2).sum())(x)

    for function in (layer, slope):
        graph = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(X)
        assert any("gpu_transconv" in str(node.target) for node in graph.graph.nodes)
        torch.testing.assert_close(graph(X + 1), function(X + 1))


def test_tensors_without_values():
    from torch._subclasses import FakeTensorMode

    x = torch.empty(1, 4, 5, device="meta", requires_grad=True)
    y = OURS[1](x, WEIGHT.to("meta"), stride=2, activation="relu")
    y.sum().backward()
    assert (y.device.type, tuple(y.shape), tuple(x.grad.shape)) == ("meta", (1, 6, 12), (1, 4, 5))
    with FakeTensorMode():
        assert OURS[1](torch.empty(1, 4, 5), torch.empty(4, 6, 4)).shape == (1, 6, 8)
        with pytest.raises(RuntimeError, match="as many channels"):
            OURS[1](torch.empty(1, 3, 5), torch.empty(4, 6, 4))
        with pytest.raises(RuntimeError, match="no output"):
            OURS[1](torch.empty(1, 4, 5), torch.empty(4, 6, 4), padding=9)


class Named(torch.Tensor):
    """A subclass without rules of its own."""


def test_subclasses_and_modes():
    y = OURS[1](X.as_subclass(Named), WEIGHT.clone().requires_grad_(), stride=2)
    assert type(y) is Named
    y.sum().backward()
    with torch.device("cpu"):
        torch.testing.assert_close(layer(X), y.detach().as_subclass(torch.Tensor))
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        torch.testing.assert_close(layer(X), y.detach().as_subclass(torch.Tensor))
