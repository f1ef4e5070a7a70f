"""Prepared layers on a device: gradients, sizes that follow one another, every dtype and TF32, streams, graphs."""

from __future__ import annotations

import numpy as np
import pytest
from cases import COMPLEX, DATA_FORMATS, FLOATS, named
from checks import assert_close, expected, make_arrays
from support.gradients import exact_gradient, make_gradient, reduction_of

import gpu_transconv as gtc

CASE = named("2d-kernel-is-twice-stride")
#: Backend, dtype and precision.
KINDS = [("cupy", dtype, "highest") for dtype in FLOATS + COMPLEX] + [("cupy", "float32", "tf32")]
KINDS += [("numba-cuda", dtype, "highest") for dtype in ("float16", "float32", "float64")]


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def layer_of(weight, bias, data_format, **given):
    return gtc.ConvTranspose(weight, bias, **CASE.keywords, data_format=data_format, **given)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize(("backend", "dtype", "precision"), KINDS)
def test_one_layer_for_sizes_that_grow_and_shrink(backend, dtype, precision, formulation, data_format):
    arrays = make_arrays(CASE, dtype, data_format)
    given = {"backend": backend, "formulation": formulation, "precision": precision, "deterministic": True}
    layer = layer_of(arrays.weight, arrays.bias, data_format, **given)
    axis = 2 if data_format == "channels_first" else 1
    for repeats in (1, 3, 1, 0, 2):
        x = np.concatenate([arrays.x] * repeats, axis=axis) if repeats else arrays.x[:0]
        want = gtc.conv_transpose(
            x, arrays.weight, arrays.bias, **CASE.keywords, data_format=data_format, backend="reference"
        )
        if repeats == 1:
            want = expected(CASE, arrays, data_format)
        assert_close(layer(x), want, dtype, CASE.reduction, precision)


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize(("backend", "dtype", "precision"), KINDS)
def test_input_grad_of_a_layer(backend, dtype, precision, data_format):
    arrays = make_gradient(CASE, dtype, data_format)
    layer = layer_of(arrays.weight, None, data_format, backend=backend, precision=precision)
    want = exact_gradient(CASE, "input_grad", arrays, data_format)
    for _ in range(2):  # packs, then has packed
        got = layer.input_grad(arrays.bias)
        assert_close(got, want, dtype, max(1, reduction_of(CASE, "input_grad")), precision)


@pytest.mark.parametrize("operation", ["input_grad", "weight_grad"])
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("backend", ["cupy", "numba-cuda"])
def test_gradients_on_another_stream(cupy, backend, formulation, deterministic, operation):
    arrays = make_gradient(CASE, "float32", "channels_first")
    geometry = {
        key: value for key, value in CASE.keywords.items() if key in ("stride", "padding", "dilation", "groups")
    }
    given = {"backend": backend, "formulation": formulation, "deterministic": deterministic, **geometry}
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x, weight, grad = (cupy.asarray(array) for array in arrays)
        if operation == "input_grad":
            got = gtc.conv_transpose_input_grad(grad, weight, **given)
        else:
            got = gtc.conv_transpose_weight_grad(x, grad, kernel_size=CASE.weight[2:], **given)
    stream.synchronize()
    want = exact_gradient(CASE, operation, arrays, "channels_first")
    assert_close(got.get(), want, "float32", max(1, reduction_of(CASE, operation)))


@pytest.mark.parametrize("backend", ["cupy", "numba-cuda"])
def test_input_grad_in_a_graph(backend):
    torch = pytest.importorskip("torch")
    arrays = make_gradient(CASE, "float32", "channels_first")
    weight, grad = (torch.from_numpy(array).cuda() for array in (arrays.weight, arrays.bias))
    layer = layer_of(weight, None, "channels_first", backend=backend)
    layer.input_grad(grad)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = layer.input_grad(grad)
    want = exact_gradient(CASE, "input_grad", arrays, "channels_first")
    for factor in (1, -2):
        grad.copy_(torch.from_numpy(factor * arrays.bias))
        got.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert_close(got.cpu().numpy(), factor * want, "float32", max(1, reduction_of(CASE, "input_grad")))
