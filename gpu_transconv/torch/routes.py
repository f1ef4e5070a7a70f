"""Which way a call goes.

Plain tensors go straight to the kernels, by way of a `torch.autograd.Function` where a gradient is wanted; compiled,
traced and fake ones to an operator; those inside a transform of torch.func to a function that it understands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd import forward_ad
from torch.compiler import is_compiling
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from ..dispatch.select import epoch
from ..problem.arguments import Activation, IntOrInts, Ints, Padding
from ..settings import in_force
from .casting import autocast
from .decisions import Decision, Layout, decide
from .functions import FORWARD
from .geometry import Flat, Spec, flat_params, settings_of, spec_of
from .kernels import run_on_cpu
from .ready import recall, remember
from .views import PLAIN, is_plain

_C = torch._C
#: stride, padding, output_padding, groups, dilation, activation, data_format, as the caller wrote them.
Geometry: TypeAlias = tuple[IntOrInts, Padding, IntOrInts, IntOrInts, IntOrInts, Activation, str]
#: precision, deterministic, formulation, backend.
Words: TypeAlias = tuple[str | None, bool | None, str, str]
#: The public functions by their number of axes: what a tensor with a way of its own is told was called.
PUBLIC: dict[int, Callable[..., Tensor]] = {}


def call(ndim: int, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, words: Words) -> Tensor:
    """Compute a layer, or record that it is to be computed."""
    if is_compiling():
        return _traced(ndim, x, weight, bias, geometry, words)
    if not (
        type(x) in PLAIN and type(weight) in PLAIN and x.is_cpu and weight.is_cpu
        and (bias is None or (type(bias) in PLAIN and bias.is_cpu)) and x.dim() == ndim + 2
        and geometry[-1] == "channels_first" and not _is_watched()
    ):  # fmt: skip
        return _unusual(ndim, x, weight, bias, geometry, words)
    asked = epoch(), in_force(), _C._get_deterministic_algorithms()
    ready = recall(asked, x, weight, bias, geometry, words)
    recorded = is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    if ready is not None and not (recorded and ready.spec.params.activation):
        if recorded:
            return FORWARD.record(x, weight, bias, ready.spec, ready)  # type: ignore[no-any-return]
        return ready.run(x, weight, bias, False)
    try:
        spec, decision = _decide(
            (*asked, ndim, words), (x.shape, x.stride(), x.dtype), (weight.shape, weight.stride(), weight.dtype),
            None if bias is None else (bias.shape, bias.dtype), *geometry,
        )  # fmt: skip
    except TypeError:  # a list, say, is no key of a cache; or an argument is wrong, which is said there
        return _unusual(ndim, x, weight, bias, geometry, words)
    if recorded and spec.params.activation is not None:
        return _apply(x, weight, bias, spec)
    y = FORWARD.record(x, weight, bias, spec, decision) if recorded else run_on_cpu(decision, x, weight, bias, False)
    remember(asked, x, weight, bias, geometry, words, spec, decision)
    return y


@lru_cache(maxsize=2048, typed=True)  # typed: True is not taken for 1
def _decide(
    asked: tuple[int, object, bool, int, Words], x: Layout, weight: Layout, bias: tuple[Ints, torch.dtype] | None,
    *geometry: Any,
) -> tuple[Spec, Decision]:  # fmt: skip
    """Decide what runs for plain tensors on the CPU; what is in force beside the arguments is in the key."""
    number, _, _, ndim, words = asked
    spec = spec_of(ndim, settings_of(False, *words), *geometry)
    return spec, decide(number, spec, "forward", "cpu", None, x, weight, bias)


def _is_watched() -> bool:
    """Whether a transform, forward-mode differentiation, a mode, a tracer or autocast has to do with a call."""
    return bool(
        _C._are_functorch_transforms_active() or forward_ad._current_level >= 0 or _C._len_torch_dispatch_stack()
        or _C._len_torch_function_stack() or _C._is_tracing() or _C._is_any_autocast_enabled()
    )  # fmt: skip


def _spec_of(ndim: int, cuda: bool, geometry: Geometry, words: Words) -> Spec:
    settings = settings_of(cuda, *words)
    try:
        return spec_of(ndim, settings, *geometry)
    except TypeError:  # what cannot be the key of a cache; or it is no int, which is said again
        return spec_of.__wrapped__(ndim, settings, *geometry)


def _unusual(ndim: int, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, words: Words) -> Tensor:
    """Any other call: tensors of a kind of their own, without a batch, with channels last, under autocast."""
    given = (x, weight) if bias is None else (x, weight, bias)
    for name, tensor in zip(("input", "weight", "bias"), given, strict=False):
        if torch.nn.parameter.is_lazy(tensor):
            raise RuntimeError(f"{name} must have values, got {type(tensor).__name__}; call its layer once")
    if has_torch_function(given):
        found: Tensor = handle_torch_function(PUBLIC[ndim], given, *given, **_keywords(geometry, words))
        return found
    _check(input=x, weight=weight, bias=bias)
    x, weight, bias = autocast(x, weight, bias)
    spec = _spec_of(ndim, x.is_cuda, geometry, words)
    last, batched = spec.params.data_format == "channels_last", x.dim() != ndim + 1
    x = x if batched else x.unsqueeze(0)
    x = x.movedim(-1, 1) if last and x.dim() > 2 else x
    y = _apply(x, weight, bias, spec)
    y = y.movedim(1, -1) if last else y
    return y if batched else y.squeeze(0)


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None, spec: Spec) -> Tensor:
    """Compute a layer on (N, C, *spatial), the activation in the kernel where nobody wants to know what was before."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if spec.params.activation is None or not (wanted or _is_watched() or not is_plain(*tensors)):
        return FORWARD(x, weight, bias, spec)
    return _activated(FORWARD(x, weight, bias, spec.bare), spec.params.activation, spec.params.slope)


def _activated(y: Tensor, name: str, slope: float) -> Tensor:
    """Apply an activation by torch's own functions, which know its derivative."""
    if name == "leaky_relu":
        return functional.leaky_relu(y, slope)
    if name == "gelu":
        return functional.gelu(y, approximate="tanh")
    return _ACTIVATIONS[name](y)


_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "silu": functional.silu}
_NAMES = ("stride", "padding", "output_padding", "groups", "dilation", "activation", "data_format")
_WORDS = ("precision", "deterministic", "formulation", "backend")


def _keywords(geometry: Geometry, words: Words) -> dict[str, Any]:
    return dict(zip(_NAMES + _WORDS, geometry + words, strict=True))


def _check(**tensors: Tensor | None) -> None:
    """Raise torch's error unless the arguments are dense tensors with values, or will be, on one device."""
    first = tensors["input"]
    for name, tensor in tensors.items():
        if tensor is None and name == "bias":
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
        assert isinstance(first, Tensor)
        if tensor.is_quantized:
            raise NotImplementedError(f"{name} must be a plain tensor, got one of {tensor.dtype}; use dequantize()")
        if tensor.is_nested:
            raise NotImplementedError(f"{name} must be a plain tensor, got a nested one; use to_padded_tensor(0.0)")
        if tensor.layout is not torch.strided:
            raise RuntimeError(f"{name} must be a dense tensor, got one of {tensor.layout}; use {name}.to_dense()")
        if tensor.device != first.device:
            raise RuntimeError(f"{name} must be on input's device {first.device}, got one on {tensor.device}")


# --- in compiled code, in which Dynamo, torch's tracer, reads what follows ---------------------------------


def _traced(ndim: int, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, words: Words) -> Tensor:
    """Put the operator into the graph that is being made."""
    flat, params = _constants(ndim, geometry, words)
    last, batched = flat[5], x.dim() != ndim + 1
    x = x if batched else x.unsqueeze(0)
    x = x.movedim(-1, 1) if last else x
    y: Tensor = torch.ops.gpu_transconv.conv_transpose(x, weight, bias, None, *flat)
    if params[0] is not None:
        y = _activated(y, *params)
    y = y.movedim(1, -1) if last else y
    return y if batched else y.squeeze(0)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constants(ndim: int, geometry: Geometry, words: Words) -> tuple[Flat, tuple[str | None, float]]:
    """Check and flatten a call's arguments; they are numbers and words, so the graph has them as constants.

    torch's switches and `gpu_transconv.use` are asked when the graph runs.
    """
    precision, deterministic, formulation, backend = words
    params = _spec_of(ndim, False, geometry, words).params
    flat = *flat_params(params), precision or "", deterministic, formulation, backend
    return flat, (params.activation, params.slope)
