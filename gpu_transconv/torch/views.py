"""Tensors on the CPU as NumPy's arrays and back, without a copy; which tensors are plain, and who looks on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..arrays.torch import TORCH
from ..arrays.views import HostArray
from .geometry import torch_errors

_C = torch._C
#: Types of tensors whose memory holds their values, with nothing else that wants to know what is done with them.
PLAIN = frozenset((Tensor, torch.nn.Parameter))
#: Whether a tensor is a batch as torch.autograd makes one for `is_grads_batched`; the operators are called per part.
_is_batched = _C._functorch.is_legacy_batchedtensor
#: What NumPy has of its own, so that a tensor gives its array at once.
_DIRECT = frozenset((torch.float32, torch.float64, torch.float16, torch.int64))


def array_of(tensor: Tensor, name: str = "input") -> HostArray:
    """View a tensor on the CPU as an array, or raise `RuntimeError` where it has no such memory; `name` is for that."""
    if tensor.dtype in _DIRECT:
        try:
            array: HostArray = tensor.numpy(force=tensor.requires_grad)
            return array
        except (RuntimeError, TypeError):  # a view that stands for the negative of its memory, or there is none
            pass
    with torch_errors():
        return TORCH.view(name, tensor.detach())  # type: ignore[return-value] # not of a CUDA tensor


def tensor_of(result: HostArray, dtype: torch.dtype) -> Tensor:
    """Return a result as a tensor."""
    if dtype is not torch.bfloat16:
        return torch.from_numpy(result)
    return torch.from_numpy(result.view("int16")).view(torch.bfloat16)


def transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is going on."""
    return _C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def observed() -> bool:
    """Whether a mode or a tracer wants to see every operator."""
    return bool(_C._len_torch_dispatch_stack() or _C._len_torch_function_stack() or _C._is_tracing())


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether all tensors are plain ones with memory that a kernel can read."""
    return all(
        t is None or (type(t) in PLAIN and (t.is_cpu or t.is_cuda) and not _is_batched(t)) for t in tensors
    )  # fmt: skip
