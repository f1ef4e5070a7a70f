"""A hundred slips: each is refused before any work, in words that begin with the argument and name the cure."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused

import gpu_transconv as gtc

X, W, B = np.ones((1, 2, 4, 5), "f4"), np.ones((2, 3, 3, 3), "f4"), np.ones(3, "f4")
LAST = np.ones((1, 4, 5, 2), "f4")
M = np.ones((2, 1, 3))  # a weight that SciPy's matrices take, of pictures with one channel
SWAP = "weight.swapaxes(0, 1)"


def call(x=X, weight=W, bias=None, **keywords):
    return gtc.conv_transpose2d(x, weight, bias, **keywords)


def build(weight=W, bias=None, **keywords):
    return gtc.ConvTranspose(weight, bias, **keywords)


def explain(x=(1, 2, 4, 5), weight=(2, 3, 3, 3), bias=None, **keywords):
    return gtc.explain(x, weight, bias, **keywords)


def use(**keywords):
    with gtc.use(**keywords):
        pass


def matrix(weight=M, image_shape=(1, 8), **keywords):
    gtc.operators.ConvOperator(weight, image_shape, **keywords)
    return gtc.operators.conv_matrix(weight, image_shape, **keywords)


def convolution(weight=W, **keywords):
    return gtc.operators.as_convolution(weight, **keywords)


T, V = TypeError, ValueError
# What is called, its keywords, the error, how its message begins, and words in it.
SLIPS = [
    # arrays
    (call, {"x": [[1.0]]}, T, "x must be an array", "got list", "numpy.asarray(x, dtype)"),
    (call, {"weight": ((1.0,),)}, T, "weight must be an array", "got tuple", "numpy.asarray(weight, dtype)"),
    (call, {"bias": 1.0}, T, "bias must be an array", "got float", "numpy.asarray(bias, dtype)"),
    (call, {"x": None}, T, "x must be an array", "got NoneType"),
    (call, {"x": "photo.png"}, T, "x must be an array", "got str"),
    (call, {"x": X.astype("u1")}, T, "x must have one of the dtypes", "got uint8", "/ 255"),
    (call, {"x": X > 0}, T, "x must have one of the dtypes", "got bool", "x.astype('float32')"),
    (call, {"x": X.astype("O")}, T, "x must have one of the dtypes", "got object", "x.astype('float32')"),
    (call, {"x": X.astype("f8")}, T, "weight must have x's dtype float64", "got float32", "weight.astype(x.dtype)"),
    (call, {"bias": B.astype("f2")}, T, "bias must have x's dtype float32", "bias.astype(x.dtype)", "bias.to(x.dtype)"),
    (call, {"x": np.ma.array(X)}, T, "x must be an array without a mask", "x.filled(value)"),
    (call, {"out": np.ma.zeros((1, 3, 6, 7), "f4")}, T, "out must be an array without a mask", "out.data"),
    (call, {"out": [1.0]}, T, "out must be a NumPy array like x", "got list"),
    (call, {"out": np.zeros((1, 3, 6, 7))}, T, "out must have x's dtype float32", "got float64"),
    (call, {"out": np.zeros((1, 3, 7, 6), "f4")}, V, "out must have the output's shape (1, 3, 6, 7)"),
    # shapes
    (call, {"x": X[0, 0]}, V, "x must have 4 axes", "3 without the batch", "got shape (4, 5)"),
    (call, {"weight": W[0]}, V, "weight must have 4 axes", "got shape (3, 3, 3)"),
    (call, {"x": np.ones((1, 3, 4, 5), "f4")}, V, "x must have as many channels", "got 3 channels", SWAP),
    (call, {"x": X[:, :1]}, V, "x must have as many channels", "got 1 channel in x"),
    (call, {"x": LAST}, V, "x must have as many channels", "did you mean data_format='channels_last'?"),
    (call, {"data_format": "channels_last"}, V, "x must have", "did you mean data_format='channels_first'?"),
    (call, {"weight": np.ones((3, 3, 5, 2), "f4")}, V, "x must have", "weight.transpose(3, 2, 0, 1)"),
    (call, {"x": X[:, :, :0]}, V, "x must not have an empty channel or spatial axis"),
    (call, {"weight": W[:, :, :0]}, V, "weight must not have an empty axis"),
    (call, {"bias": np.ones(2, "f4")}, V, "bias must have shape (3,)", "got (2,)"),
    (call, {"bias": np.ones((3, 1, 1), "f4")}, V, "bias must have shape (3,)", "got (3, 1, 1)"),
    # geometry
    (call, {"stride": 0}, V, "stride must be an int or 2 ints", "got 0"),
    (call, {"stride": 1.5}, V, "stride must be an int or 2 ints", "got 1.5"),
    (call, {"stride": "2"}, V, "stride must be an int or 2 ints", "got '2'"),
    (call, {"stride": None}, V, "stride must be an int or 2 ints", "got None"),
    (call, {"stride": (2, 2, 2)}, V, "stride must be an int or 2 ints", "got (2, 2, 2)"),
    (call, {"stride": ()}, V, "stride must be an int or 2 ints", "got ()"),
    (call, {"dilation": -1}, V, "dilation must be an int or 2 ints", ">= 1", "got -1"),
    (call, {"dilation": True}, V, "dilation must be an int or 2 ints", "got True"),
    (call, {"padding": -1}, V, "padding must be an int >= 0", "negative padding"),
    (call, {"padding": "SAME"}, V, "padding must be an int >= 0", "did you mean 'same'?"),
    (call, {"padding": "VALID"}, V, "padding must be an int >= 0", "did you mean 'valid'?"),
    (call, {"padding": "SAME_UPPER"}, V, "padding must be an int >= 0", "did you mean 'same'?"),
    (call, {"padding": (1, 1, 1, 1)}, V, "padding must be an int >= 0", "2 (low, high) pairs", "got (1, 1, 1, 1)"),
    (call, {"padding": 4}, V, "padding leaves no output", "= -2"),
    (call, {"output_padding": 1}, V, "output_padding must be smaller", "got 1"),
    (call, {"stride": 2, "output_padding": -1}, V, "output_padding must be an int or 2 ints", "got -1"),
    (call, {"stride": 2, "padding": "same", "output_padding": 1}, V, "output_padding and padding='same' exclude"),
    (call, {"stride": 2, "output_padding": 1, "output_size": 10}, V, "output_size and output_padding exclude"),
    (call, {"stride": 2, "output_size": (9, 13)}, V, "output_size on spatial axis 1", "between 11 and 12", "got 13"),
    (call, {"output_size": (2, 3, 6, 7)}, V, "output_size must be the result's whole shape (1, 3, 6, 7)"),
    (call, {"output_size": (1, 4, 6, 7)}, V, "output_size must be the result's whole shape", "alone, (6, 7)"),
    (call, {"output_size": (3, 6, 7)}, V, "output_size must be the result's whole shape", "got (3, 6, 7)"),
    (call, {"output_size": 0}, V, "output_size must be an int or 2 ints", "whole shape", "got 0"),
    (call, {"groups": 3}, V, "groups must divide the 2 input channels", "got 3"),
    (call, {"groups": 0}, V, "groups must be an int >= 1", "got 0"),
    (call, {"groups": (1,)}, V, "groups must be an int >= 1", "got (1,)"),
    (call, {"stride": 2**60, "padding": [(3 * 2**60, 0), (0, 2**62)]}, V, "stride, dilation and padding reach too far"),
    (call, {"dilation": 2**60}, MemoryError, "the output of shape", "bytes"),
    # words
    (call, {"data_format": "NCHW"}, V, "data_format must be one of", "did you mean 'channels_first'?"),
    (call, {"data_format": "NHWC"}, V, "data_format must be one of", "did you mean 'channels_last'?"),
    (call, {"data_format": "channel_last"}, V, "data_format must be one of", "did you mean 'channels_last'?"),
    (call, {"data_format": None}, V, "data_format must be one of", "got None"),
    (call, {"activation": "swish"}, V, "activation must be None", "did you mean 'silu'?"),
    (call, {"activation": "leakyrelu"}, V, "activation must be None", "did you mean 'leaky_relu'?"),
    (call, {"activation": "LeakyReLU"}, V, "activation must be None", "did you mean 'leaky_relu'?"),
    (call, {"activation": ("leakyrelu", 0.2)}, V, "activation must be None", "did you mean 'leaky_relu'?"),
    (call, {"activation": "softmax"}, V, "activation must be None", "got 'softmax'"),
    (call, {"activation": np.tanh}, V, "activation must be None", "ufunc"),
    (call, {"activation": ("leaky_relu", "0.2")}, V, "activation's slope must be a number", "got '0.2'"),
    (call, {"activation": ("leaky_relu", 10**400)}, V, "activation's slope must be a number"),
    (call, {"activation": [np.ones(2), 1]}, V, "activation must be None"),
    (call, {"backend": "cuda"}, V, "backend must be one of", "did you mean 'cupy' or 'numba-cuda'?"),
    (call, {"backend": "gpu"}, V, "backend must be one of", "did you mean 'cupy' or 'numba-cuda'?"),
    (call, {"backend": "numba"}, V, "backend must be one of", "did you mean 'cpu' or 'numba-cuda'?"),
    (call, {"backend": "CPU"}, V, "backend must be one of", "did you mean 'cpu'?"),
    (call, {"backend": "numba_cuda"}, V, "backend must be one of", "did you mean 'numba-cuda'?"),
    (call, {"backend": None}, V, "backend must be one of", "got None"),
    (call, {"backend": ["cpu"]}, V, "backend must be one of", "got ['cpu']"),
    (call, {"formulation": "Gather"}, V, "formulation must be one of", "did you mean 'gather'?"),
    (call, {"formulation": "scater"}, V, "formulation must be one of", "did you mean 'scatter'?"),
    (call, {"precision": "TF32"}, V, "precision must be one of", "did you mean 'tf32'?"),
    (call, {"precision": "high"}, V, "precision must be one of", "did you mean 'highest'?"),
    (call, {"deterministic": "yes"}, V, "deterministic must be None, True or False", "got 'yes'"),
    (call, {"deterministic": 1}, V, "deterministic must be None, True or False", "got 1"),
    (call, {"x": X.astype("i4"), "weight": W.astype("i4"), "activation": "gelu"}, T, "activation 'gelu'", "int32"),
    # the prepared operator
    (build, {"weight": W.tolist()}, T, "weight must be an array", "got list"),
    (build, {"weight": None}, T, "weight must be an array", "got NoneType"),
    (build, {"weight": W[0, 0]}, V, "weight must have 3, 4 or 5 axes", "got shape (3, 3)"),
    (build, {"weight": np.ma.array(W)}, T, "weight must be an array without a mask", "weight.filled(value)"),
    (build, {"weight": W.astype("u1")}, T, "weight must have one of the dtypes", "got uint8"),
    (build, {"bias": np.ones(2, "f4")}, V, "bias must have shape (3,)"),
    (build, {"bias": np.ones(3)}, T, "bias must have weight's dtype float32", "bias.astype(weight.dtype)"),
    (build, {"groups": 4}, V, "groups must divide the 2 input channels"),
    (build, {"stride": 0}, V, "stride must be an int or 2 ints"),
    (build, {"backend": "cuda"}, V, "backend must be one of", "did you mean"),
    (lambda **given: build()(**given), {"x": X[0, 0]}, V, "x must have 4 axes"),
    (lambda **given: build()(**given), {"x": X.astype("f8")}, T, "weight must have x's dtype float64"),
    (lambda **given: build()(**given), {"x": X.tolist()}, T, "x must be an array", "got list"),
    (lambda **given: build()(**given), {"x": X, "out": 3}, T, "out must be a NumPy array like x", "got int"),
    (lambda **given: build(output_size=(2, 3, 6, 7))(**given), {"x": X}, V, "output_size must be the result's whole"),
    (lambda **given: build().tune(**given), {"x": [1]}, T, "x must be an array", "got list"),
    (lambda **given: build().tune(**given), {"x": X[:, :1]}, V, "x must have as many channels"),
    (lambda **given: build().tune(X, **given), {"seconds": -1}, V, "seconds must be a number > 0", "got -1"),
    (lambda **given: build().tune(X, **given), {"seconds": "1"}, V, "seconds must be a number > 0", "got '1'"),
    (lambda **given: build().tune(X, **given), {"seconds": float("nan")}, V, "seconds must be a number > 0"),
    # explanations and settings
    (explain, {"paddin": 1}, T, "explain() got an unexpected keyword argument 'paddin'"),
    (explain, {"x": "1x2x4x5"}, T, "x must be an array", "got str"),
    (explain, {"x": (1, 2, 4.5, 5)}, V, "x must be an array or a shape of ints", "got (1, 2, 4.5, 5)"),
    (explain, {"x": (1, 2, -4, 5)}, V, "x must be an array or a shape of ints", "got (1, 2, -4, 5)"),
    (explain, {"weight": (2, 3)}, V, "weight must have 3, 4 or 5 axes", "got shape (2, 3)"),
    (explain, {"weight": None}, T, "weight must be an array", "got NoneType"),
    (explain, {"dtype": "float"}, T, "dtype must be one of", "did you mean 'float32'?"),
    (explain, {"dtype": "bf16"}, T, "dtype must be one of", "did you mean 'bfloat16'?"),
    (explain, {"dtype": np.uint8}, T, "dtype must be one of", "got <class 'numpy.uint8'>"),
    (explain, {"x": (1, 2, 2**70, 5)}, MemoryError, "the x of shape"),
    (use, {"backend": "cuda"}, V, "backend must be one of", "did you mean"),
    (use, {"formulation": 1}, V, "formulation must be one of", "got 1"),
    (use, {"deterministic": "no"}, V, "deterministic must be None, True or False"),
    # the operator as a matrix
    (matrix, {"weight": M.tolist()}, T, "weight must be a NumPy array", "got list"),
    (matrix, {"weight": M.astype("f2")}, T, "weight must have one of the dtypes", "got float16"),
    (matrix, {"weight": np.ma.array(M)}, T, "weight must be an array without a mask"),
    (matrix, {"weight": M[0]}, V, "weight must have 3, 4 or 5 axes"),
    (matrix, {"image_shape": (2, 8)}, V, "image_shape must begin with the 1 output channel", "got (2, 8)"),
    (matrix, {"image_shape": 8}, V, "image_shape must be 2 ints >= 1", "got 8"),
    (matrix, {"image_shape": (1, 2)}, V, "image_shape must have at least 3 pixels", "got 2"),
    (matrix, {"image_shape": (1, 2**70)}, MemoryError, "the picture of shape"),
    (matrix, {"image_shape": (1, 7), "stride": 2, "padding": "same"}, V, "image_shape must have multiples of stride"),
    (matrix, {"stride": 0}, V, "stride must be an int or 1 ints", "got 0"),
    (lambda **given: matrix() @ given["v"], {"v": np.ones(7)}, V, ""),
    (convolution, {"weight": None}, T, "weight must be a NumPy array", "got NoneType"),
    (convolution, {"groups": 3}, V, "groups must divide the 2 input channels"),
    (lambda **given: convolution().apply(**given), {"x": X.astype("f8")}, T, "x must be a NumPy array", "got float64"),
    (lambda **given: convolution().apply(**given), {"x": np.ma.array(X)}, T, "x must be an array without a mask"),
    (lambda **given: convolution().stuff(**given), {"x": [1]}, T, "x must be a NumPy array", "got list"),
    (lambda **given: convolution().stuff(**given), {"x": X[:, :1]}, V, "x must have as many channels"),
]


def name_of(slip):
    function, keywords, *_ = slip
    name = "method" if function.__name__ == "<lambda>" else function.__name__
    return "-".join((name, *(f"{k}={v}" if isinstance(v, str | int) else k for k, v in keywords.items())))


@pytest.mark.parametrize("slip", SLIPS, ids=[f"{i}-{name_of(slip)[:50]}" for i, slip in enumerate(SLIPS)])
def test_a_slip_is_refused(slip, launched):
    function, keywords, error, *words = slip
    with refused(error, *words):
        function(**keywords)
    assert launched == []


@pytest.mark.parametrize("function", [gtc.backends, gtc.last_choice])
def test_functions_without_arguments(function):
    with refused(TypeError, function.__name__, "takes 0 positional arguments"):
        function("cpu")


def test_a_name_that_is_not_there():
    with refused(AttributeError, "module 'gpu_transconv' has no attribute 'backend'", "did you mean 'backends'?"):
        _ = gtc.backend
    assert {"operators", "explain"} <= set(dir(gtc))


@pytest.mark.parametrize("keywords", [{"stride": (2,)}, {"stride": [2], "padding": (1,), "dilation": np.array([2])}])
def test_sequences_of_one_are_for_all_axes(keywords):
    one = {name: value[0] for name, value in keywords.items()}
    np.testing.assert_array_equal(call(**keywords), call(**one))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_the_idiom_of_a_skip_connection(data_format):
    x = X if data_format == "channels_first" else LAST
    skip = np.zeros((1, 3, 10, 11) if data_format == "channels_first" else (1, 10, 11, 3), "f4")
    keywords = {"stride": 2, "data_format": data_format}
    want = call(x, **keywords, output_size=(10, 11))
    np.testing.assert_array_equal(call(x, **keywords, output_size=skip.shape), want)
    np.testing.assert_array_equal(call(x[0], **keywords, output_size=skip.shape[1:]), want[0])
    layer = build(**keywords, output_size=skip.shape)
    np.testing.assert_array_equal(layer(x), want)


def test_the_idiom_of_a_skip_connection_in_torch():
    torch = pytest.importorskip("torch")
    x, weight, skip = torch.ones(1, 2, 4, 5), torch.ones(2, 3, 3, 3), torch.ones(1, 3, 10, 12)
    own = torch.nn.ConvTranspose2d(2, 3, 3, stride=2, bias=False)
    own.weight.data = weight
    with torch.no_grad():
        want = own(x, output_size=skip.size())
        got = gtc.conv_transpose2d(x, weight, stride=(2,), output_size=skip.size())
    torch.testing.assert_close(got, want)
