"""Tensors on the CPU as NumPy's arrays and back, without a copy."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arrays.torch import TORCH
from ..arrays.views import HostArray
from .geometry import torch_errors

#: What NumPy has of its own, so that a tensor gives its array at once.
_DIRECT = frozenset((torch.float32, torch.float64, torch.float16, torch.int64))


def array_of(tensor: Tensor, name: str = "input") -> HostArray:
    """View a tensor on the CPU as an array, or raise `RuntimeError` where it has no such memory; `name` is for that."""
    if tensor.dtype in _DIRECT:
        try:
            array: HostArray = (tensor.detach() if tensor.requires_grad else tensor).numpy()
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
