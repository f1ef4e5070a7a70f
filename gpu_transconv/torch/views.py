"""Tensors on the CPU as NumPy's arrays and back, without a copy."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arrays.torch import TORCH
from ..arrays.views import HostArray

#: What NumPy has of its own, so that a tensor gives its array at once.
_DIRECT = frozenset((torch.float32, torch.float64, torch.float16, torch.int64))


def array_of(tensor: Tensor) -> HostArray:
    """View a tensor on the CPU as an array."""
    if tensor.dtype in _DIRECT and not tensor.is_neg():
        array: HostArray = tensor.detach().numpy()
        return array
    return TORCH.view("input", tensor.detach())  # type: ignore[return-value] # not of a CUDA tensor


def tensor_of(result: HostArray, dtype: torch.dtype) -> Tensor:
    """Return a result as a tensor."""
    if dtype is not torch.bfloat16:
        return torch.from_numpy(result)
    return torch.from_numpy(result.view("int16")).view(torch.bfloat16)
