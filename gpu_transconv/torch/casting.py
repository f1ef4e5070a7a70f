"""torch's autocast: transposed convolutions are among what it computes in the dtype that the user asks for."""

from __future__ import annotations

import torch
from torch import Tensor


def autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the tensors of a call in the dtype that autocast computes in, where it is on for their device."""
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return x, weight, bias
    return to_autocast_dtype(device, x, weight, bias)


def to_autocast_dtype(
    device: str, x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast what autocast casts: floating tensors on the device, but for those in float64."""
    dtype = torch.get_autocast_dtype(device)

    def cast(tensor: Tensor) -> Tensor:
        wanted = tensor.is_floating_point() and tensor.dtype is not torch.float64 and tensor.device.type == device
        return tensor.to(dtype) if wanted else tensor

    return cast(x), cast(weight), None if bias is None else cast(bias)
