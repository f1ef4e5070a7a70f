"""PyTorch's functions of the package called as PyTorch's own: values, strides, autocast, errors, threads."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
import threading
import time

import pytest
from checks import assert_close
from selection import one_of
from torch_cases import LAST, LAYERS, OURS, THEIRS, torch

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.runtime import threads as cpu_threads
from gpu_transconv.kernels.cpu.runtime.openmp import OpenMP
from gpu_transconv.torch.threads import OPENMP

DTYPES = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3, "complex64": 1e-4, "int64": 0}


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_signature(ndim):
    parameters = inspect.signature(OURS[ndim]).parameters.values()
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    documented = THEIRS[ndim].__doc__.partition("(")[2].partition(")")[0]
    assert named == [word.partition("=")[0].strip() for word in documented.split(",")]
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == [
        "activation", "data_format", "precision", "deterministic", "formulation", "backend",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype):
    for layer in one_of(4, LAYERS):
        tensors = layer.tensors(getattr(torch, dtype))
        for bias in (None, tensors[2]):
            ours, theirs = layer.ours(*tensors[:2], bias), layer.theirs(*tensors[:2], bias)
            assert ours.dtype is theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=DTYPES[dtype], atol=DTYPES[dtype])


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_a_kernel_by_name(formulation, launched):
    OURS[1](torch.ones(1, 2, 5), torch.ones(2, 2, 3), formulation=formulation, backend="cpu")
    with gtc.use(formulation=formulation):
        OURS[1](torch.ones(1, 2, 5), torch.ones(2, 2, 3))
    assert launched == [f"cpu/{formulation}"] * 2


# --- memory format ----------------------------------------------------------------------------------------

SHAPES = [(3, 4, 3, 2), (1, 4, 3, 2), (3, 1, 3, 2), (1, 1, 3, 1), (8, 8, 2, 2)]  # Cin, Cout, kernel, stride


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_strides_are_those_of_torch(dtype, ndim, shape):
    inputs, outputs, kernel, stride = shape
    x = torch.randn(2, inputs, *(5, 4, 6)[:ndim]).to(getattr(torch, dtype))
    weight = torch.randn(inputs, outputs, *[kernel] * ndim).to(x.dtype)
    odd = x.transpose(2, 3).contiguous().transpose(2, 3)
    for made, filters in itertools.product((x, x.to(memory_format=LAST[ndim]), odd, x[:1], x[:, :, :1]), (weight, 0)):
        filters = weight.to(memory_format=LAST[ndim]) if filters is not weight else weight
        ours, theirs = (side[ndim](made, filters, stride=stride) for side in (OURS, THEIRS))
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, rtol=DTYPES.get(dtype, 1e-9), atol=DTYPES.get(dtype, 1e-9))


@pytest.mark.parametrize("ndim", [2, 3])
def test_channels_last_is_computed_so(ndim, monkeypatch):
    from gpu_transconv.torch import kernels

    seen = []
    run = kernels.launch_packed
    monkeypatch.setattr(
        kernels, "launch_packed", lambda k, plan, x, w: seen.append((plan.channels_last, x.flags.c_contiguous)) or run(
            k, plan, x, w)
    )  # fmt: skip
    OURS[ndim](torch.randn(2, 4, *[5] * ndim).to(memory_format=LAST[ndim]), torch.randn(4, 3, *[2] * ndim))
    assert seen == [(True, True)]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_data_format(ndim, batch):
    x, weight = torch.randn(*batch, *[5] * ndim, 4), torch.randn(4, 3, *[3] * ndim)
    ours = OURS[ndim](x, weight, stride=2, data_format="channels_last")
    torch.testing.assert_close(ours, THEIRS[ndim](x.movedim(-1, -1 - ndim), weight, stride=2).movedim(-1 - ndim, -1))
    assert ours.is_contiguous()


def test_an_empty_batch():
    x, weight = torch.randn(0, 4, 5, 5, requires_grad=True), torch.randn(4, 3, 2, 2, requires_grad=True)
    y = OURS[2](x, weight)
    y.sum().backward()
    assert y.shape == (0, 3, 6, 6)
    assert not weight.grad.any()


# --- what is ours -----------------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "silu": torch.nn.functional.silu,
    "gelu": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    ("leaky_relu", 0.2): lambda y: torch.nn.functional.leaky_relu(y, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(activation):
    x, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 4, 5), (4, 3, 3)))
    want = ACTIVATIONS[activation](THEIRS[1](x, weight))
    function = lambda *t: OURS[1](*t, activation=activation)  # noqa: E731
    torch.testing.assert_close(function(x, weight), want)
    with torch.no_grad():
        torch.testing.assert_close(function(x, weight), want)
    torch.testing.assert_close(torch.func.vmap(function, (0, None))(x, weight), want)
    grads = [torch.autograd.grad(y.sum(), (x, weight)) for y in (want, function(x, weight))]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("padding", ["same", "valid", ((1, 0),)])
def test_padding_in_other_forms(padding):
    x, weight = torch.randn(1, 2, 7), torch.randn(2, 3, 5)
    want = gtc.conv_transpose1d(x.numpy(), weight.numpy(), stride=2, padding=padding)
    assert_close(OURS[1](x, weight, stride=2, padding=padding).numpy(), want, "float32", 6)


# --- autocast ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16])
def test_autocast(given, dtype):
    x, weight, bias = (torch.randn(s).to(given).requires_grad_() for s in ((1, 2, 9), (2, 3, 4), (3,)))
    with torch.autocast("cpu", dtype):
        ours, theirs = OURS[1](x, weight, bias), THEIRS[1](x, weight, bias)
    assert ours.dtype is theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    grads = [torch.autograd.grad(y.float().sum(), (x, weight, bias)) for y in (ours, theirs)]
    assert [g.dtype for g in grads[0]] == [given] * 3
    torch.testing.assert_close(*grads, rtol=3e-2, atol=3e-2)
    with torch.autocast("cpu", dtype, enabled=False):
        assert OURS[1](x, weight).dtype is given


def test_autocast_of_mixed_tensors():
    with torch.autocast("cpu"):
        y = OURS[1](torch.ones(1, 2, 9, dtype=torch.bfloat16), torch.ones(2, 3, 4), torch.ones(3))
    assert y.dtype is torch.bfloat16


# --- errors -----------------------------------------------------------------------------------------------

T, W = torch.ones(1, 2, 5), torch.ones(2, 3, 4)
#: Call, error, and words of the message. Where torch raises too, it raises the same type.
WRONG = {
    "channels": (lambda f: f(torch.ones(1, 5, 5), W), RuntimeError, "input must have as many channels"),
    "axes of input": (lambda f: f(torch.ones(1, 1, 2, 5), W), RuntimeError, "input must have 3 axes"),
    "axes of weight": (lambda f: f(T, torch.ones(2, 3, 4, 4)), RuntimeError, "weight must have 3 axes"),
    "bias": (lambda f: f(T, W, torch.ones(4)), RuntimeError, r"bias must have shape \(3,\)"),
    "dtypes": (lambda f: f(T, W.double()), RuntimeError, "weight must have input's dtype float32"),
    "int32": (lambda f: f(T.int(), W.int()), NotImplementedError, "input must have a floating"),
    "bool": (lambda f: f(T.bool(), W.bool()), NotImplementedError, "input must have a floating"),
    "sparse": (lambda f: f(T.to_sparse(), W), RuntimeError, "input must be a dense tensor"),
    "stride": (lambda f: f(T, W, stride=0), RuntimeError, "stride must be"),
    "strides": (lambda f: f(T, W, stride=(1, 2)), RuntimeError, "stride must be"),
    "word": (lambda f: f(T, W, stride="a"), TypeError, "stride must be an int"),
    "float": (lambda f: f(T, W, stride=1.0), TypeError, "stride must be an int"),
    "bool stride": (lambda f: f(T, W, stride=True), TypeError, "stride must be an int"),
    "padding": (lambda f: f(T, W, padding=-1), RuntimeError, "padding must be"),
    "no output": (lambda f: f(T, W, padding=10), RuntimeError, "padding leaves no output"),
    "output_padding": (lambda f: f(T, W, stride=2, output_padding=2), RuntimeError, "output_padding must be smaller"),
    "dilation": (lambda f: f(T, W, dilation=0), RuntimeError, "dilation must be"),
    "groups": (lambda f: f(T, W, groups=3), RuntimeError, "groups must divide"),
    "no groups": (lambda f: f(T, W, groups=0), RuntimeError, "groups must be"),
    "empty": (lambda f: f(torch.ones(1, 2, 0), W), RuntimeError, "input must not have an empty"),
    "array": (lambda f: f(T.numpy(), W), TypeError, "input must be a torch.Tensor, got ndarray"),
    "nothing": (lambda f: f(T, None), TypeError, "weight must be a torch.Tensor, got NoneType"),
}  # fmt: skip
OUR_OWN = {
    "devices": (lambda f: f(T, W.to("meta")), RuntimeError, "weight must be on input's device cpu, got one on meta"),
    "bias's dtype": (lambda f: f(T, W, torch.ones(3).double()), RuntimeError, "bias must have input's dtype"),
    "activation": (lambda f: f(T, W, activation="rulu"), ValueError, "activation must be"),
    "data_format": (lambda f: f(T, W, data_format="last"), ValueError, "data_format must be"),
    "formulation": (lambda f: f(T, W, formulation="gathr"), ValueError, "formulation must be"),
    "backend": (lambda f: f(T, W, backend="gpu"), ValueError, "backend must be"),
    "complex activation": (lambda f: f(T.cfloat(), W.cfloat(), activation="relu"), RuntimeError, "not defined for c"),
    "lazy": (lambda f: f(T, torch.nn.LazyConvTranspose1d(3, 4).weight), RuntimeError, "weight must have values"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), [*WRONG.values(), *OUR_OWN.values()], ids=[*WRONG, *OUR_OWN])
def test_wrong_calls(call, error, words, launched):
    for _ in range(2):
        with pytest.raises(error, match=words) as caught:
            call(OURS[1])
    assert type(caught.value) is error
    assert launched == []


@pytest.mark.parametrize(("call", "error", "words"), WRONG.values(), ids=WRONG)
def test_torch_raises_the_same(call, error, words):  # noqa: ARG001
    with pytest.raises(error) as caught:
        call(THEIRS[1])
    assert type(caught.value) is error


@pytest.mark.filterwarnings("ignore:.*quantized:UserWarning", "ignore:.*nested tensors:UserWarning")
def test_tensors_of_other_kinds():
    quantized = torch.quantize_per_tensor(T, 0.1, 0, torch.quint8)
    with pytest.raises(NotImplementedError, match="got quint8"):
        OURS[1](quantized, W)
    with pytest.raises(NotImplementedError, match="got a nested one"):
        OURS[1](torch.nested.nested_tensor([T]), W)


# --- threads and processes --------------------------------------------------------------------------------


def test_threads_follow_torch():
    import numba

    # Large enough for several threads; what a small layer is remembered for does not ask for them.
    x, weight = torch.ones(1, 64, 2000), torch.ones(64, 32, 8)
    counts, before = [], torch.get_num_threads()
    try:
        for count in (1, before):
            torch.set_num_threads(count)
            OURS[1](x, weight)
            counts.append(numba.get_num_threads())
    finally:
        torch.set_num_threads(before)
        OURS[1](x, weight)
    assert counts == [1, min(before, numba.config.NUMBA_NUM_THREADS)]


@pytest.mark.skipif(OPENMP is None, reason="torch has no OpenMP of GNU's")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_threads_are_torchs(dtype, monkeypatch):
    x, weight, before = torch.randn(1, 64, 2000).to(dtype), torch.randn(64, 32, 8).to(dtype), torch.get_num_threads()
    started, run = [], OpenMP.run
    monkeypatch.setattr(OpenMP, "run", lambda *given: started.append(given[3:]) or run(*given))
    try:
        torch.set_num_threads(2)
        y = OURS[1](x, weight, stride=3)
        assert (2, 2) in started
        monkeypatch.setattr(cpu_threads._process, "has_openmp", False)  # as after a fork
        started.clear()
        torch.testing.assert_close(OURS[1](x, weight, stride=3), y, rtol=0, atol=0)
        assert not started
    finally:
        torch.set_num_threads(before)
        OURS[1](x, weight)


ALONE = """
import os, time, torch, gpu_transconv as gtc
from pathlib import Path
torch.set_num_threads(1)
x, weight = torch.randn(1, 64, 4000, requires_grad=True), torch.randn(64, 64, 16, requires_grad=True)
def once():
    gtc.torch.conv_transpose1d(x, weight, stride=2).sum().backward()
def others():
    tasks = [t for t in Path("/proc/self/task").iterdir() if int(t.name) != os.getpid()]
    return sum(sum(map(int, (t / "stat").read_text().rpartition(")")[2].split()[11:13])) for t in tasks)
once()
before, start = others(), time.process_time()
while time.process_time() < start + 0.5:
    once()
print(others() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the threads' times of Linux")
def test_with_one_thread_no_other_works():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1  # hundredths of a second, of at least fifty


def test_four_threads_at_once():
    x, weight = torch.randn(2, 8, 400), torch.nn.Parameter(torch.randn(8, 8, 8))
    want = THEIRS[1](x, weight, stride=2)
    wrong = []

    def work():
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            y = OURS[1](x, weight, stride=2)
            if not torch.allclose(y, want, atol=1e-4):
                wrong.append(y)
            torch.autograd.grad(y.sum(), weight)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Upsampled(torch.utils.data.Dataset):
    """Items that a worker computes."""

    weight = torch.linspace(-1, 1, 4 * 4 * 4).reshape(4, 4, 4)

    def __len__(self):
        return 6

    def __getitem__(self, number):
        return OURS[1](torch.full((4, 200), float(number)), self.weight, stride=2)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*worker processes:UserWarning")
def test_forked_workers():
    data = Upsampled()
    want = torch.stack([data[number] for number in range(len(data))])
    loader = torch.utils.data.DataLoader(data, 2, num_workers=2, multiprocessing_context="fork")
    torch.testing.assert_close(torch.cat(list(loader)), want)


def test_the_name_is_reached_lazily_and_its_absence_explained():
    code = """
import sys, gpu_transconv as gtc
assert "torch" not in sys.modules and "torch" in dir(gtc)
sys.modules["torch"] = None
try:
    gtc.torch
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ".[torch]" in done.stdout
