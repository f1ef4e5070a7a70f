"""The functions that users call, and which way a call goes.

Plain tensors go straight to the kernels, by way of a `torch.autograd.Function` where a gradient is wanted; compiled,
traced and fake ones to an operator; those inside a transform of torch.func to a function that it understands.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from ..problem.arguments import Activation, IntOrInts, Padding
from . import kernels
from .casting import autocast
from .functions import FORWARD, PLAIN, is_plain
from .geometry import Flat, Spec, flat_params, settings_of, spec_of

_C = torch._C
#: stride, padding, output_padding, groups, dilation, activation, data_format, as the caller wrote them.
_Geometry: TypeAlias = tuple[IntOrInts, Padding, IntOrInts, IntOrInts, IntOrInts, Activation, str]
#: precision, deterministic, formulation, backend.
_Words: TypeAlias = tuple[str | None, bool | None, str, str]


def conv_transpose1d(
    input: Tensor,  # noqa: A002 # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    precision: str | None = None,
    deterministic: bool | None = None,
    formulation: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed convolution over one spatial axis, in place of ``torch.nn.functional.conv_transpose1d``.

    Everything is as in `conv_transpose2d`.

    Examples
    --------
    >>> import torch, gpu_transconv.torch as gtt
    >>> gtt.conv_transpose1d(torch.tensor([[[1., 10.]]]), torch.tensor([[[1., 2., 3.]]]), stride=2)
    tensor([[[ 1.,  2., 13., 20., 30.]]])
    """
    geometry = stride, padding, output_padding, groups, dilation, activation, data_format
    return _call(1, input, weight, bias, geometry, (precision, deterministic, formulation, backend))


def conv_transpose2d(
    input: Tensor,  # noqa: A002 # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    precision: str | None = None,
    deterministic: bool | None = None,
    formulation: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed convolution over two spatial axes, in place of ``torch.nn.functional.conv_transpose2d``.

    It can be differentiated as often as one likes, in reverse and forward mode, and works under ``torch.compile``,
    ``torch.export``, the transforms of ``torch.func`` and autocast. Weights are brought into the kernels' order once
    per tensor, and again when its values have changed. Threads are as many as ``torch.get_num_threads()`` says.

    Parameters
    ----------
    input : Tensor, shape (N, Cin, *spatial) or (Cin, *spatial)
        On the CPU or a CUDA device; floating, complex or int64. A tensor in ``torch.channels_last`` memory format is
        computed so.
    weight : Tensor, shape (Cin, Cout // groups, *kernel)
        Filters, in input's dtype.
    bias : Tensor, shape (Cout,), optional
        Added to every output element.
    stride, dilation, output_padding, groups
        As torch has them.
    padding : int, sequence of int, sequence of (int, int), "valid" or "same"
        As torch has it, and what else `gpu_transconv.conv_transpose` takes.
    activation : str or ("leaky_relu", float), optional
        relu, leaky_relu, tanh, sigmoid, silu or gelu (tanh form), applied to the result: in the same kernel where no
        gradient is wanted.
    data_format : {"channels_first", "channels_last"}
        With the latter input and result are (N, *spatial, C).
    precision : {"highest", "tf32", "fast"}, optional
        Whether tensor cores may round float32 to TF32; None follows ``torch.backends.cudnn.allow_tf32``.
    deterministic : bool, optional
        Whether results must be the same to the last bit on every run; None follows
        ``torch.use_deterministic_algorithms``. All CPU kernels are.
    formulation, backend
        As in `gpu_transconv.conv_transpose`.

    Returns
    -------
    Tensor
        With channels last where torch's result would be: where input or weight is.

    Raises
    ------
    RuntimeError
        If shapes, dtypes or devices do not fit or are not supported.
    TypeError
        If an argument is not of the right type.
    ValueError
        If one of those that torch does not have is not one of its values.

    Examples
    --------
    >>> import torch, gpu_transconv.torch as gtt
    >>> x, weight = torch.ones(1, 8, 16, 16), torch.ones(8, 4, 2, 2, requires_grad=True)
    >>> y = gtt.conv_transpose2d(x, weight, stride=2)
    >>> y.shape
    torch.Size([1, 4, 32, 32])
    >>> y.sum().backward()
    >>> weight.grad[0, 0, 0]
    tensor([256., 256.])
    """
    geometry = stride, padding, output_padding, groups, dilation, activation, data_format
    return _call(2, input, weight, bias, geometry, (precision, deterministic, formulation, backend))


def conv_transpose3d(
    input: Tensor,  # noqa: A002 # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    *,
    activation: Activation = None,
    data_format: str = "channels_first",
    precision: str | None = None,
    deterministic: bool | None = None,
    formulation: str = "auto",
    backend: str = "auto",
) -> Tensor:
    """Transposed convolution over three spatial axes, in place of ``torch.nn.functional.conv_transpose3d``.

    Everything is as in `conv_transpose2d`.

    Examples
    --------
    >>> import torch, gpu_transconv.torch as gtt
    >>> gtt.conv_transpose3d(torch.ones(1, 1, 2, 3, 4), torch.ones(1, 5, 2, 2, 2), stride=2).shape
    torch.Size([1, 5, 4, 6, 8])
    """
    geometry = stride, padding, output_padding, groups, dilation, activation, data_format
    return _call(3, input, weight, bias, geometry, (precision, deterministic, formulation, backend))


def _call(ndim: int, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry, words: _Words) -> Tensor:
    if torch.compiler.is_compiling():
        return _traced(ndim, x, weight, bias, geometry, words)
    if not (
        type(x) in PLAIN and type(weight) in PLAIN and x.is_cpu and weight.is_cpu
        and (bias is None or (type(bias) in PLAIN and bias.is_cpu)) and x.dim() == ndim + 2
        and geometry[-1] == "channels_first" and not _is_watched()
    ):  # fmt: skip
        return _unusual(ndim, x, weight, bias, geometry, words)
    spec = _spec_of(ndim, False, geometry, words)
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        if spec.params.activation is None:
            return FORWARD.record(x, weight, bias, spec, None)  # type: ignore[no-any-return]
        return _activated(FORWARD.record(x, weight, bias, spec.bare, None), spec.params.activation, spec.params.slope)
    return kernels.forward(x, weight, bias, spec, None, False)


def _is_watched() -> bool:
    """Whether a transform, forward-mode differentiation, a mode, a tracer or autocast has to do with a call."""
    return bool(
        _C._are_functorch_transforms_active() or forward_ad._current_level >= 0 or _C._len_torch_dispatch_stack()
        or _C._len_torch_function_stack() or _C._is_tracing() or _C._is_any_autocast_enabled()
    )  # fmt: skip


def _spec_of(ndim: int, cuda: bool, geometry: _Geometry, words: _Words) -> Spec:
    settings = settings_of(cuda, *words)
    try:
        return spec_of(ndim, settings, *geometry)
    except TypeError:  # what cannot be the key of a cache; or it is no int, which is said again
        return spec_of.__wrapped__(ndim, settings, *geometry)


def _unusual(ndim: int, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry, words: _Words) -> Tensor:
    """Any other call: tensors of a kind of their own, without a batch, with channels last, under autocast."""
    given = (x, weight) if bias is None else (x, weight, bias)
    if has_torch_function(given):
        public = (conv_transpose1d, conv_transpose2d, conv_transpose3d)[ndim - 1]
        return cast(Tensor, handle_torch_function(public, given, *given, **_keywords(geometry, words)))
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
    return cast(Tensor, _ACTIVATIONS[name](y))


_ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "silu": functional.silu}
_NAMES = ("stride", "padding", "output_padding", "groups", "dilation", "activation", "data_format")
_WORDS = ("precision", "deterministic", "formulation", "backend")


def _keywords(geometry: _Geometry, words: _Words) -> dict[str, Any]:
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
        if torch.nn.parameter.is_lazy(tensor):
            raise RuntimeError(f"{name} must have values, got {type(tensor).__name__}; call its layer once")
        if tensor.is_quantized:
            raise NotImplementedError(f"{name} must be a plain tensor, got one of {tensor.dtype}; use dequantize()")
        if tensor.is_nested:
            raise NotImplementedError(f"{name} must be a plain tensor, got a nested one; use to_padded_tensor(0.0)")
        if tensor.layout is not torch.strided:
            raise RuntimeError(f"{name} must be a dense tensor, got one of {tensor.layout}; use {name}.to_dense()")
        if tensor.device != first.device:
            raise RuntimeError(f"{name} must be on input's device {first.device}, got one on {tensor.device}")


# --- in compiled code, in which Dynamo, torch's tracer, reads what follows ---------------------------------


def _traced(ndim: int, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry, words: _Words) -> Tensor:
    """Put the operator into the graph that is being made."""
    flat, params = _constants(ndim, geometry, words)
    last, batched = flat[5], x.dim() != ndim + 1
    x = x if batched else x.unsqueeze(0)
    x = x.movedim(-1, 1) if last else x
    y = torch.ops.gpu_transconv.conv_transpose(x, weight, bias, None, *flat)
    if params[0] is not None:
        y = _activated(y, *params)
    y = y.movedim(1, -1) if last else y
    return y if batched else y.squeeze(0)


@torch.compiler.assume_constant_result
def _constants(ndim: int, geometry: _Geometry, words: _Words) -> tuple[Flat, tuple[str | None, float]]:
    """Check and flatten a call's arguments; they are numbers and words, so the graph has them as constants.

    torch's switches and `gpu_transconv.use` are asked when the graph runs.
    """
    precision, deterministic, formulation, backend = words
    params = _spec_of(ndim, False, geometry, words).params
    flat = *flat_params(params), precision or "", deterministic, formulation, backend
    return flat, (params.activation, params.slope)
