"""PyTorch's tensors, on the CPU and on CUDA devices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

from ..problem.plan import Plan
from .library import ArrayLibrary
from .standard import REFUSALS
from .views import Array, CudaArray, View, numpy_dtype


def loaded(module: str, name: str) -> Any:
    """Return an attribute of a module that somebody has imported, or None."""
    return getattr(sys.modules.get(module), name, None)


class Torch(ArrayLibrary):
    """Tensors; NumPy and the GPU libraries see bfloat16 as 16 bits."""

    title = "a torch.Tensor"

    def owns(self, value: object) -> bool:
        return isinstance(value, sys.modules["torch"].Tensor)

    def view(self, name: str, array: Array) -> View:
        torch = sys.modules["torch"]
        _check(torch, name, array)
        tensor = array.detach().resolve_conj().resolve_neg()
        dtype = str(array.dtype).removeprefix("torch.")
        bits = tensor.view(torch.int16) if dtype == "bfloat16" else tensor
        if array.device.type == "cuda":
            stream = torch.cuda.current_stream(array.device).cuda_stream
            return CudaArray(bits, tuple(array.shape), dtype, array.device.index, stream)
        return _on_host(name, bits, dtype)

    def view_out(self, out: Array) -> View:
        view = super().view_out(out)
        if out.is_conj() or out.is_neg():
            raise TypeError("out must be a tensor of its own memory, got a conjugate or negative view")
        if not out.is_inference():  # so that autograd knows of the change
            sys.modules["torch"].autograd.graph.increment_version(out)
        return view

    def wrap(self, result: Array, given: Array) -> Array:  # noqa: ARG002
        torch = sys.modules["torch"]
        if isinstance(result, CudaArray):
            return result.array.view(torch.bfloat16) if result.dtype == "bfloat16" else result.array
        if result.dtype.name == "bfloat16":
            return torch.from_numpy(result.view("int16")).view(torch.bfloat16)
        return torch.from_numpy(result)

    def empty(self, plan: Plan, given: Array) -> CudaArray:
        view = self.view("out", _empty(plan.output_shape, given.dtype, given.device, "the output"))
        assert isinstance(view, CudaArray)
        return view

    def allocator(self, given: Array) -> Callable[[int], Array] | None:
        dtype, device = sys.modules["torch"].uint8, given.device
        return (lambda size: _empty((size,), dtype, device, "scratch memory")) if given.is_cuda else None

    def device(self, given: Array) -> AbstractContextManager[object]:
        return sys.modules["torch"].cuda.device(given.device) if given.is_cuda else super().device(given)


def _empty(shape: tuple[int, ...], dtype: object, device: object, what: str) -> Array:
    torch = sys.modules["torch"]
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(f"{what} of shape {shape} and dtype {dtype} does not fit: {error}") from error


def _check(torch: ModuleType, name: str, array: Array) -> None:
    """Raise `TypeError` unless a tensor's memory holds its values, and nobody records what is done with it."""
    kind = type(array)
    if kind is not torch.Tensor and torch.nn.parameter.is_lazy(array):
        raise TypeError(f"{name} must have values, got {kind.__name__}; call its layer once")
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        cure = next((cure for method, cure in _CURES if hasattr(array, method)), "convert it first")
        raise TypeError(f"{name} must be a plain tensor, got {kind.__name__}; {cure.format(name)}")
    if array.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name} must be a tensor that needs no gradient, got one with requires_grad=True: this function records "
            f"no gradients; call it under torch.no_grad(), or pass {name}.detach()"
        )
    if array.is_quantized:
        raise TypeError(f"{name} must be a plain tensor, got one of {array.dtype}; use {name}.dequantize()")
    if array.is_nested:
        raise TypeError(f"{name} must be a plain tensor, got a nested one; use {name}.to_padded_tensor(0.0)")
    if array.layout is not torch.strided or array.device.type not in ("cpu", "cuda"):
        cure = "" if array.layout is torch.strided else f"; use {name}.to_dense()"
        raise TypeError(
            f"{name} must be a dense tensor on a cpu or cuda device, got {array.layout} on {array.device}{cure}"
        )
    _check_unobserved(torch, name, array)


#: Method by which a tensor with a dispatch of its own is known, and what to do.
_CURES = (
    ("to_tensor", "use {}.to_tensor(value), which fills what is masked"),
    ("full_tensor", "use {}.full_tensor() or {}.to_local()"),
    ("fake_mode", "call this function outside of torch.export and FakeTensorMode, on tensors with values"),
)


def _check_unobserved(torch: ModuleType, name: str, array: Array) -> None:
    """Raise `TypeError` where a transform would get its values from elsewhere, or lose what it follows."""
    modes = torch.autograd.forward_ad
    if modes._current_level >= 0 and modes.unpack_dual(array).tangent is not None:
        raise TypeError(
            f"{name} must be a tensor without a tangent: this function records no forward gradients; "
            f"pass torch.autograd.forward_ad.unpack_dual({name}).primal"
        )
    if torch._is_functional_tensor(array):
        raise TypeError(f"{name} must be a plain tensor, got one inside torch.func.functionalize; call it outside")
    if torch.jit.is_tracing() or (torch._C._len_torch_dispatch_stack() and _is_proxied()):
        raise TypeError(
            f"{name} must not be traced: the result would be recorded as a constant; call this function outside of "
            "torch.jit.trace, make_fx and torch.export"
        )


def _is_proxied() -> bool:
    found = loaded("torch.fx.experimental.proxy_tensor", "get_proxy_mode")
    return found is not None and found() is not None


def _on_host(name: str, tensor: Array, dtype: str) -> View:
    try:
        view: View = tensor.numpy().view(numpy_dtype(dtype)) if dtype == "bfloat16" else tensor.numpy()
    except ImportError:
        raise TypeError(f"{name} is in bfloat16, which needs the package ml_dtypes: pip install ml_dtypes") from None
    except REFUSALS as error:  # a dtype that NumPy has not, or a tensor without memory of its own
        raise TypeError(
            f"{name} must be a tensor that NumPy can read, outside of the transforms of torch.func (vmap, jvp, grad), "
            f"got one of {dtype}: {error}"
        ) from error
    return view


TORCH = Torch()
