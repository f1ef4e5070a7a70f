"""The operator in JAX: values and gradients of all orders against XLA's own convolution, under jit, grad and vmap."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from checks import refused
from selection import in_full, one_of

import gpu_transconv as gtc

jax = pytest.importorskip("jax")
from jax import numpy as jnp  # noqa: E402

from gpu_transconv.jax import conv_transpose  # noqa: E402

ACTIVATIONS: dict[object, Callable[[object], object]] = {
    None: lambda v: v, "relu": jax.nn.relu, ("leaky_relu", 0.2): lambda v: jax.nn.leaky_relu(v, 0.2), "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu, "gelu": lambda v: jax.nn.gelu(v, approximate=True),
}  # fmt: skip


class Problem(NamedTuple):
    """A random layer with its arrays."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    keywords: dict[str, object]


def draw(number: int) -> Problem:
    rng = np.random.default_rng(number)
    ndim, groups = 1 + number % 3, int(rng.choice([1, 1, 2, 3]))
    channels, features = groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    kernel, stride = rng.integers(1, 5, ndim).tolist(), rng.integers(1, 4, ndim).tolist()
    dilation = rng.integers(1, 3, ndim).tolist()
    extra = [int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True)]
    padding = [tuple(rng.integers(0, 3, 2).tolist()) for _ in range(ndim)]
    spatial = rng.integers(4, 7, ndim).tolist()
    last, batch = bool(rng.integers(2)), [[2], []][number // 3 % 2]
    x = rng.standard_normal((*batch, *spatial, channels) if last else (*batch, channels, *spatial))
    weight = rng.standard_normal((channels, features, *kernel)) / np.sqrt(channels / groups * np.prod(kernel))
    bias = rng.standard_normal(features * groups)
    keywords = {
        "stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": groups,
        "data_format": "channels_last" if last else "channels_first",
        "activation": list(ACTIVATIONS)[number // 2 % len(ACTIVATIONS)],
    }  # fmt: skip
    return Problem(x.astype(np.float32), weight.astype(np.float32), bias.astype(np.float32), keywords)


def by_xla(keywords: dict[str, object]) -> Callable[..., object]:
    """The same operator by XLA: an ordinary convolution of the input with zeros between its elements."""
    stride, dilation, groups = keywords["stride"], keywords["dilation"], keywords["groups"]
    last, ndim = keywords["data_format"] == "channels_last", len(keywords["stride"])

    def run(x, weight, bias):
        batched = x if x.ndim == ndim + 2 else x[None]
        first = jnp.moveaxis(batched, -1, 1) if last else batched
        channels, features, *kernel = weight.shape
        flipped = jnp.flip(weight, range(2, ndim + 2)).reshape(groups, channels // groups, features, *kernel)
        flipped = flipped.swapaxes(1, 2).reshape(groups * features, channels // groups, *kernel)
        pads = [
            (d * (k - 1) - low, d * (k - 1) - high + extra)
            for d, k, (low, high), extra in zip(
                dilation, kernel, keywords["padding"], keywords["output_padding"], strict=True
            )
        ]
        y = jax.lax.conv_general_dilated(
            first, flipped, (1,) * ndim, pads, lhs_dilation=stride, rhs_dilation=dilation, feature_group_count=groups,
            precision="highest",
        )  # fmt: skip
        y = ACTIVATIONS[keywords["activation"]](y + bias.reshape(-1, *[1] * ndim))
        y = jnp.moveaxis(y, 1, -1) if last else y
        return y if x.ndim == ndim + 2 else y[0]

    return run


def by_loop(function: Callable[..., object], in_axes: tuple[int | None, ...] | None = None) -> Callable[..., object]:
    """What `jax.vmap` gives, by its definition: XLA's own can be wrong (gradients in float32, with groups)."""

    def run(*arrays):
        mapped = in_axes or (0,) * len(arrays)
        calls = [[a if axis is None else a[i] for a, axis in zip(arrays, mapped, strict=True)] for i in range(2)]
        return jax.tree.map(lambda *results: jnp.stack(results), *(function(*call) for call in calls))

    return run


def everything(function: Callable[..., object], vmap: Callable[..., object]) -> Callable[..., object]:
    """Value, gradients, gradients of gradients, and all mapped over x, the weight or all, in one program."""

    def loss(*arrays):
        return 0.5 * (function(*arrays) ** 2).mean()

    grad = jax.grad(loss, (0, 1, 2))

    def second(*arrays):
        return jax.grad(lambda *a: sum((part**2).sum() for part in grad(*a)), (0, 1, 2))(*arrays)

    def run(x, weight, bias):
        two = [jnp.stack([a, 0.5 - a]) for a in (x, weight, bias)]
        return {
            "value": function(x, weight, bias),
            "grad": grad(x, weight, bias),
            "grad of grad": second(x, weight, bias),
            "vmap over x": vmap(function, (0, None, None))(two[0], weight, bias),
            "vmap over weight": vmap(function, (None, 0, None))(x, two[1], bias),
            "grad of vmap": jax.grad(lambda x, w: vmap(loss, (0, None, None))(x, w, bias).sum(), (0, 1))(
                two[0], weight
            ),
            "vmap of grad of grad": vmap(second)(*two),
        }

    return run


@pytest.mark.parametrize("number", one_of(25, range(100)))
def test_values_and_gradients_are_xlas(number):
    """To 1e-5 those of XLA in float64; where float32 itself loses more, with at most twice the error of XLA's own."""
    problem = draw(number)
    arrays = problem.x, problem.weight, problem.bias
    xla = by_xla(problem.keywords)
    found = jax.jit(everything(lambda *a: conv_transpose(*a, **problem.keywords), jax.vmap))(*arrays)
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, jax.jit(everything(xla, jax.vmap))(*(a.astype(np.float64) for a in arrays)))
    assert len(far_off(exact, exact, -1)) == 14
    missed = far_off(found, exact, 1e-5)
    if missed:
        errors = far_off(jax.jit(everything(xla, by_loop))(*arrays), exact, 0)
        assert {path: error for path, error in missed.items() if error > 2 * errors.get(path, 0)} == {}


def far_off(found: object, exact: object, most: float) -> dict[str, float]:
    """Errors that are more than `most` of the largest value, by their place."""
    errors = {}
    trees = (jax.tree_util.tree_leaves_with_path(tree) for tree in (found, exact))
    for (path, array), (_, values) in zip(*trees, strict=True):
        assert array.shape == values.shape, path
        assert array is values or array.dtype == np.float32, path
        errors[jax.tree_util.keystr(path)] = float(np.abs(array - values).max() / max(1e-3, np.abs(values).max()))
    return {path: error for path, error in errors.items() if error > most}


def test_nested_maps_fold_into_one_call(launched):
    x, weight = (
        np.random.default_rng(0).standard_normal((3, 4, 2, 5)).astype(np.float32),
        np.ones((2, 3, 4), np.float32),
    )
    layer = lambda one: conv_transpose(one, weight, stride=2)  # noqa: E731
    found = jax.vmap(jax.vmap(layer))(x)
    assert launched == ["cpu/gather"] or launched == ["cpu/scatter"]
    assert np.array_equal(found, gtc.conv_transpose(x.reshape(12, 2, 5), weight, stride=2).reshape(3, 4, 3, 12))


def test_an_empty_batch_and_loops_of_jax():
    weight = np.ones((2, 3, 4), np.float32)
    layer = lambda x: conv_transpose(x, weight, stride=2)  # noqa: E731
    assert jax.jit(layer)(np.ones((0, 2, 5), np.float32)).shape == (0, 3, 12)
    found = jax.lax.map(layer, np.ones((2, 1, 2, 5), np.float32))
    assert np.array_equal(found[0], layer(np.ones((1, 2, 5), np.float32)))


@pytest.mark.parametrize("dtype", ["bfloat16", "int32", "complex64"])
def test_other_dtypes(dtype):
    x, weight = jnp.arange(8).reshape(1, 2, 4).astype(dtype), jnp.arange(6).reshape(2, 1, 3).astype(dtype)
    found = conv_transpose(x, weight, stride=2)
    assert found.dtype == dtype
    assert np.array_equal(found, gtc.conv_transpose(np.asarray(x), np.asarray(weight), stride=2))


def test_a_complex_gradient_is_not_conjugated():
    x, weight = jnp.full((1, 1, 2), 1 + 2j, "complex64"), jnp.full((1, 1, 1), 3 - 1j, "complex64")
    grads = jax.grad(lambda x, w: conv_transpose(x, w).sum(), (0, 1), holomorphic=True)(x, weight)
    assert (grads[0].tolist(), grads[1].tolist()) == ([[[3 - 1j] * 2]], [[[2 + 4j]]])


def test_equal_calls_are_compiled_once(caplog):
    """Outside of jit too, where every call would otherwise be compiled anew."""
    x, weight = jnp.ones((1, 1, 37)), jnp.ones((1, 1, 2))
    with jax.log_compiles():
        conv_transpose(x, weight, stride=2)
        assert "Finished XLA compilation" in caplog.text
        caplog.clear()
        conv_transpose(x, weight, stride=2)
    assert "Finished XLA compilation" not in caplog.text


def test_settings_hold_as_traced(launched):
    x, weight = np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32)
    with gtc.use(formulation="scatter", backend="reference"):
        layer = jax.jit(lambda x: conv_transpose(x, weight, stride=2))
        layer(x)
    layer(x).block_until_ready()
    assert launched == ["reference/scatter"] * 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": np.ones((1, 3, 4), np.float32)}, ValueError, ["x must have as many channels", "3 channels"]),
        ({"x": [[[1.0]]]}, TypeError, ["x must be an array of JAX or NumPy", "list"]),
        ({"weight": np.ones((2, 1, 2), np.float16)}, TypeError, ["weight must have x's dtype float32", "float16"]),
        ({"stride": 0}, ValueError, ["stride", "got 0"]),
        ({"backend": "gpu"}, ValueError, ["backend must be one of"]),
    ],
    ids=["channels", "no array", "dtype", "stride", "backend"],
)
def test_bad_input_is_refused_when_it_is_traced(change, error, words):
    arguments = {"x": np.ones((1, 2, 4), np.float32), "weight": np.ones((2, 1, 2), np.float32)} | change
    with refused(error, *words):
        conv_transpose(**arguments)
    if change.keys() <= {"x", "weight"} and error is ValueError:
        x, weight = arguments["x"], arguments["weight"]
        with refused(error, *words):
            jax.jit(conv_transpose)(x, weight)


@in_full
@pytest.mark.long
def test_a_thousand_calls_do_not_hang():
    """In a process of their own, which is ended if they do."""
    code = """
import jax, jax.numpy as jnp
from gpu_transconv.jax import conv_transpose
x, weight = jnp.ones((1, 64, 8, 8, 8)), jnp.ones((64, 32, 2, 2, 2))
layer = jax.jit(lambda x, w: conv_transpose(x, w, stride=2))
results = [layer(x, weight) for _ in range(1000)]
assert float(results[-1][0, 0, 0, 0, 0]) == 64
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
