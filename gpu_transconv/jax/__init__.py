"""The operator on JAX's arrays and tracers, on the CPU: under jit, grad, grad of grad and vmap.

XLA calls back into Python, which calls the package on NumPy arrays (`host`). Every derivative of the three operations
is one of them again, so reverse mode covers all orders.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from ..errors import missing_library
from ..problem.arguments import Activation, IntOrInts, Padding, Params, make_params
from ..problem.plan import ArraySpec, Operation, plan_call
from ..problem.shapes import Shape, spatial_axes
from ..settings import AUTO, HIGHEST, Settings, most_threads, resolve
from .host import Call, Host

try:
    import jax
except ImportError as error:
    raise missing_library("JAX", "jax") from error

__all__ = ["conv_transpose"]

#: What JAX traces: its arrays, and what stands for them.
Traced: TypeAlias = jax.Array
#: Gradients by x, weight and bias.
Gradients: TypeAlias = tuple[Traced, Traced, Traced | None]


def conv_transpose(
    x: Traced,
    weight: Traced,
    bias: Traced | None = None,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
) -> Traced:
    """Transposed convolution of JAX arrays, differentiable, in the package's CPU kernels.

    Works under ``jax.jit``, ``jax.grad`` and ``jax.vjp`` of any order, ``jax.vmap``, ``jax.lax.scan`` and ``map``.
    Forward mode (``jax.jvp``, ``jax.jacfwd``, ``jax.hessian``) is refused by JAX.

    Parameters
    ----------
    x : jax.Array, shape (N, Cin, *spatial) or (Cin, *spatial)
        Input on the CPU; the channels are last with ``data_format="channels_last"``. NumPy arrays are taken too, as
        JAX's own functions take them.
    weight : jax.Array, shape (Cin, Cout // groups, *kernel)
        Filters, in x's dtype.
    bias : jax.Array, shape (Cout,), optional
        Added to every output element, in x's dtype.
    stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `gpu_transconv.conv_transpose`.
    precision, deterministic, formulation, backend
        As there. They, and what `gpu_transconv.use` says, hold as they are when JAX traces the call: a compiled
        function keeps them.

    Returns
    -------
    jax.Array
        The result, in x's dtype.

    Raises
    ------
    ValueError, TypeError, MemoryError, BackendUnavailableError
        As `gpu_transconv.conv_transpose` does, when the call is traced; `ImportError` where JAX is not installed.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from gpu_transconv.jax import conv_transpose
    >>> x, weight = jnp.ones((1, 1, 2)), jnp.array([[[1., 2.]]])
    >>> jax.jit(lambda x: conv_transpose(x, weight, stride=2))(x).tolist()
    [[[1.0, 2.0, 1.0, 2.0]]]
    >>> jax.grad(lambda x: conv_transpose(x, weight, stride=2).sum())(x).tolist()
    [[[3.0, 3.0]]]
    """
    x, weight = _as_jax("x", x), _as_jax("weight", weight)
    bias = None if bias is None else _as_jax("bias", bias)
    params = make_params(
        spatial_axes(weight.shape), stride=stride, padding=padding, output_padding=output_padding,
        output_size=output_size, dilation=dilation, groups=groups, data_format=data_format, activation=activation,
    )  # fmt: skip
    settings = resolve(backend, formulation, deterministic, precision)
    return _forward(_make_call(params, settings, x, weight, bias), x, weight, bias)


def _as_jax(name: str, array: object) -> Traced:
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array of JAX or NumPy, got {type(array).__name__}")
    return jax.numpy.asarray(array)


def _make_call(params: Params, settings: Settings, x: Traced, weight: Traced, bias: Traced | None) -> Call:
    """Check shapes and dtypes, which raises where they are wrong, and write out the output's sizes."""
    biases = None if bias is None else ArraySpec(bias.shape, bias.dtype)
    plan = plan_call(
        params, ArraySpec(x.shape, x.dtype), ArraySpec(weight.shape, weight.dtype), biases, settings.precision
    )
    inputs, kernel, outputs = (axis[3 - params.ndim :] for axis in (plan.in_spatial, plan.kernel, plan.out_spatial))
    return Call(params, inputs, kernel, outputs, settings, most_threads())


# --- the three operations, each with the two others for derivatives --------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward(call: Call, x: Traced, weight: Traced, bias: Traced | None) -> Traced:
    shape = call.shape_like(x.shape, weight.shape[1] * call.params.groups, call.outputs)
    return _call_back("forward", call, shape, x, weight, *(() if bias is None else (bias,)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _input_grad(call: Call, grad: Traced, weight: Traced) -> Traced:
    shape = call.shape_like(grad.shape, weight.shape[0], call.inputs)
    return _call_back("input_grad", call, shape, grad, weight)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weight_grad(call: Call, x: Traced, grad: Traced) -> Traced:
    channel = -1 if call.params.data_format == "channels_last" else -1 - call.params.ndim
    shape = (x.shape[channel], grad.shape[channel] // call.params.groups, *call.kernel)
    return _call_back("weight_grad", call, shape, x, grad)


def _forward_saving(call: Call, x: Traced, weight: Traced, bias: Traced | None) -> tuple[Traced, tuple[object, ...]]:
    before = _forward(call.linear(), x, weight, bias)
    return _activate(call, before), (x, weight, bias, before if call.activation else None)


def _forward_pull(call: Call, saved: tuple[Traced, Traced, Traced | None, Traced | None], grad: Traced) -> Gradients:
    x, weight, bias, before = saved
    if before is not None:
        grad = jax.vjp(partial(_activate, call), before)[1](grad)[0]
    call = call.linear()
    last = call.params.data_format == "channels_last"
    channel = grad.ndim - 1 if last else grad.ndim - 1 - call.params.ndim
    others = [axis for axis in range(grad.ndim) if axis != channel]
    return _input_grad(call, grad, weight), _weight_grad(call, x, grad), None if bias is None else grad.sum(others)


def _activate(call: Call, values: Traced) -> Traced:
    """The activation in JAX, which differentiates it."""
    functions: dict[str, Callable[[Traced], Traced]] = {
        "relu": jax.nn.relu,
        "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=call.params.slope),
        "tanh": jax.numpy.tanh,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,
        "gelu": partial(jax.nn.gelu, approximate=True),
    }
    name = call.params.activation
    return values if name is None else functions[name](values)


def _saving(operation: Callable[..., Traced]) -> Callable[..., tuple[Traced, tuple[Traced, ...]]]:
    """Forward rule of a bilinear operation: its result, and its arrays for the backward rule."""
    return lambda call, *arrays: (operation(call, *arrays), arrays)


_forward.defvjp(_forward_saving, _forward_pull)
_input_grad.defvjp(
    _saving(_input_grad),
    lambda call, saved, x: (_forward(call, x, saved[1], None), _weight_grad(call, x, saved[0])),
)
_weight_grad.defvjp(
    _saving(_weight_grad),
    lambda call, saved, weight: (_input_grad(call, saved[1], weight), _forward(call, saved[0], weight, None)),
)


def _call_back(operation: Operation, call: Call, shape: Shape, *arrays: Traced) -> Traced:
    """Have XLA call Python; a mapped axis comes as one more in front, of size 1 where an array is not mapped."""
    result = jax.ShapeDtypeStruct(shape, arrays[0].dtype)  # type: ignore[no-untyped-call]
    host = Host(operation, call, tuple(array.ndim for array in arrays))
    found: Traced = jax.pure_callback(host, result, *arrays, vmap_method="expand_dims")
    return found
