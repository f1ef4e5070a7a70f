"""PyTorch's own sample inputs for its conv_transpose operators, in both formulations of the CPU backend."""

from __future__ import annotations

import inspect
import math

import pytest
from checks import assert_close

import gpu_transconv as gtc

DTYPES = ("float32", "float64", "complex64", "int64")


@pytest.fixture(scope="module")
def operators():
    """PyTorch's table of operators, by name; its import takes seconds."""
    pytest.importorskip("torch", reason="the samples come with PyTorch")
    with pytest.MonkeyPatch.context() as patch:
        # The import would forbid this process to set torch.backends.cudnn.benchmark and others, as other tests do.
        patch.setattr("torch.backends.disable_global_flags", lambda: None)
        from torch.testing._internal.common_methods_invocations import op_db

    return {op.name: op for op in op_db if "conv_transpose" in op.name}


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_samples(operators, ndim, dtype, formulation, launched):
    import torch

    operator = operators[f"nn.functional.conv_transpose{ndim}d"]
    ours = getattr(gtc, f"conv_transpose{ndim}d")
    samples = list(operator.sample_inputs("cpu", getattr(torch, dtype)))
    assert len(samples) >= 5
    for sample in samples:
        tensors = [sample.input, *sample.args]
        arrays = [None if t is None else t.numpy() for t in tensors]
        got = ours(*arrays, **sample.kwargs, backend="cpu", formulation=formulation)
        want = widest(operator, tensors, sample.kwargs)
        assert_close(got, want, dtype, math.prod(arrays[1].shape[2:]) * len(arrays[1]))
    assert launched == [f"cpu/{formulation}"] * len(samples)


def widest(operator, tensors, keywords):
    """PyTorch's own result, worked out in its widest type of the kind."""
    import torch

    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    return operator(*(None if t is None else t.to(wide.get(t.dtype, t.dtype)) for t in tensors), **keywords).numpy()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_arguments_in_pytorch_order(ndim):
    torch = pytest.importorskip("torch", reason="the order comes from PyTorch")
    ours = list(inspect.signature(getattr(gtc, f"conv_transpose{ndim}d")).parameters.values())
    positional = [p.name for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    documented = getattr(torch.nn.functional, f"conv_transpose{ndim}d").__doc__
    line = next(line for line in documented.splitlines() if line.startswith(f"conv_transpose{ndim}d("))
    theirs = [word.split("=")[0].strip() for word in line[line.index("(") + 1 : line.index(")")].split(",")]
    assert positional[1:] == theirs[1:]  # the first is x here and input there
