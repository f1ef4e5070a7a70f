"""What the public functions refuse about arrays and their dtypes, before any work."""

from __future__ import annotations

import numpy as np
import pytest
from checks import refused

import gpu_transconv as gtc
from gpu_transconv.dispatch.select import select
from gpu_transconv.kernels.registry import kernels
from gpu_transconv.problem.arguments import make_params
from gpu_transconv.problem.plan import make_plan
from gpu_transconv.settings import resolve

X, WEIGHT, BIAS = np.ones((1, 2, 4, 5)), np.ones((2, 3, 3, 3)), np.ones(3)
NAMES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int32", "int64")


@pytest.fixture(autouse=True)
def _nothing_runs(launched):
    yield
    assert launched == []


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
@pytest.mark.parametrize(
    "value", [[[1.0]], ((1.0,),), 1.0, np.float64(1), "x", range(3), object()], ids=lambda v: type(v).__name__
)
def test_no_arrays(name, value):
    given = {"x": X, "weight": WEIGHT, "bias": BIAS, name: value}
    with refused(TypeError, name, "must be an array", f"got {type(value).__name__}"):
        gtc.conv_transpose2d(**given)
    if not hasattr(value, "shape"):  # a NumPy scalar has one, from which the rank would come
        with refused(TypeError, name, "must be an array", f"got {type(value).__name__}"):
            gtc.conv_transpose(**given)


@pytest.mark.parametrize("name", ["x", "weight"])
def test_none_is_no_array(name):
    with refused(TypeError, name, "must be an array", "got NoneType"):
        gtc.conv_transpose2d(**{"x": X, "weight": WEIGHT, name: None})


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "uint32", "uint64", "longdouble", "O", "U3", "M8[s]", "f4,f4"]
)
def test_unsupported_dtypes(dtype):
    x = np.zeros(X.shape, dtype)
    with refused(TypeError, "x", *NAMES, f"got {x.dtype}"):
        gtc.conv_transpose2d(x, WEIGHT.astype("f4").astype(x.dtype) if dtype != "f4,f4" else WEIGHT)


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "complex128"])
def test_mixed_dtypes(name, dtype):
    given = {"x": X, "weight": WEIGHT, "bias": BIAS}
    given[name] = given[name].astype(dtype)
    with refused(TypeError, name, "x's dtype float64", f"got {dtype}"):
        gtc.conv_transpose2d(**given)


@pytest.mark.parametrize(
    ("dtype", "valid", "invalid"),
    [
        ("int32", ("relu",), ("leaky_relu", "tanh", "sigmoid", "silu", "gelu")),
        ("int64", ("relu",), ("leaky_relu", "tanh", "sigmoid", "silu", "gelu")),
        ("complex64", ("tanh", "sigmoid", "silu"), ("relu", "leaky_relu", "gelu")),
        ("complex128", ("tanh", "sigmoid", "silu"), ("relu", "leaky_relu", "gelu")),
    ],
)
def test_activations_without_a_meaning(dtype, valid, invalid):
    for activation in invalid:
        with refused(TypeError, f"activation {activation!r}", dtype, "None", *valid):
            gtc.conv_transpose2d(X.astype(dtype), WEIGHT.astype(dtype), activation=activation)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 1, 1, 1, 1, 1)])
def test_weight_of_no_rank(shape):
    with refused(ValueError, "weight", "3, 4 or 5 axes", f"got shape {shape}"):
        gtc.conv_transpose(X, np.ones(shape))


@pytest.mark.parametrize("ndim", [1, 3])
def test_weight_of_another_rank(ndim):
    with refused(ValueError, "weight", f"{ndim + 2} axes", "got shape (2, 3, 3, 3)"):
        getattr(gtc, f"conv_transpose{ndim}d")(X, WEIGHT)


# One row of each kind, through the public functions; the helpers' own tests have all of them.
@pytest.mark.parametrize(
    ("keywords", "error", "argument", "words"),
    [
        ({"stride": 0}, ValueError, "stride", ("2 ints", ">= 1", "got 0")),
        ({"stride": (1, 2, 3)}, ValueError, "stride", ("2 ints", "got (1, 2, 3)")),
        ({"dilation": 1.5}, ValueError, "dilation", ("2 ints", "got 1.5")),
        ({"padding": -1}, ValueError, "padding", ("got -1", "negative")),
        ({"padding": "full"}, ValueError, "padding", ("'valid'", "'same'", "got 'full'")),
        ({"padding": 9}, ValueError, "padding", ("leaves no output", "in=4", "padding=(9, 9)", "= -12")),
        ({"output_padding": 1}, ValueError, "output_padding", ("smaller than", "got 1")),
        ({"output_size": 4}, ValueError, "output_size", ("between 6 and 6", "got 4")),
        (
            {"output_size": 6, "stride": 2, "output_padding": 1},
            ValueError,
            "output_size and output_padding",
            (),
        ),
        ({"groups": 3}, ValueError, "groups", ("2 input channels", "got 3")),
        ({"groups": True}, ValueError, "groups", ("int >= 1", "got True")),
        ({"data_format": "NHWC"}, ValueError, "data_format", ("'channels_last'", "got 'NHWC'")),
        ({"data_format": "channels_last"}, ValueError, "x", ("got 5 channels", "channels_last")),
        ({"activation": "swish"}, ValueError, "activation", ("'silu'", "got 'swish'")),
        ({"bias": np.ones(4)}, ValueError, "bias", ("shape (3,)", "got (4,)")),
        ({"x": np.ones((4, 5))}, ValueError, "x", ("4 axes", "got shape (4, 5)")),
        ({"backend": "gpu"}, ValueError, "backend", ("'cpu'", "got 'gpu'")),
        ({"formulation": "both"}, ValueError, "formulation", ("'gather'", "got 'both'")),
        ({"precision": "low"}, ValueError, "precision", ("'tf32'", "got 'low'")),
        ({"deterministic": "yes"}, ValueError, "deterministic", ("True", "got 'yes'")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_arguments(keywords, error, argument, words):
    for function in (gtc.conv_transpose, gtc.conv_transpose2d):
        with refused(error, argument, *words):
            function(**{"x": X, "weight": WEIGHT, **keywords})


def plan_of(x, weight, **keywords):
    return make_plan(make_params(len(weight) - 2, **keywords), x, weight, "float32", False)


@pytest.mark.parametrize("deterministic", [None, True, False])
@pytest.mark.parametrize("precision", ["highest", "tf32"])
def test_every_backend_has_both_formulations(deterministic, precision):
    plan = plan_of((1, 3, 8, 8), (3, 2, 2, 2), stride=2)
    names = [row.name for row in kernels()]
    assert len(set(names)) == len(names)
    for name, status in gtc.backends().items():
        for formulation in ("gather", "scatter") if status else ():
            choice = select(plan, resolve(name, formulation, deterministic, precision))
            assert choice.implementation.name.startswith(f"{name}/{formulation}")
            assert repr(name) in choice.reason
            assert repr(formulation) in choice.reason


@pytest.mark.parametrize("x", [(1, 3, 8, 8), (1, 256, 4, 4), (1, 1, 1, 1)])
def test_numpy_arrays_run_on_the_cpu_by_default(x):
    for keywords in ({}, {"stride": 2}, {"data_format": "channels_last"}):
        shape = (x[0], *x[2:], x[1]) if keywords.get("data_format") else x
        choice = select(plan_of(shape, (x[1], 3, 2, 2), **keywords), resolve())
        assert choice.implementation.backend == "cpu"
        assert choice.reason


def test_a_formulation_by_name_leaves_the_backend_open():
    plan = plan_of((1, 3, 8, 8), (3, 2, 2, 2))
    for formulation in ("gather", "scatter"):
        assert select(plan, resolve(formulation=formulation)).implementation.name == f"cpu/{formulation}"
