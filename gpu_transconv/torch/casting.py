"""torch's autocast: transposed convolutions are among what it computes in the dtype that the user asks for.

A weight that no gradient is wanted of is cast once, as long as it holds the same values: what is packed of the cast
tensor is found by that, and would be packed again with every new one.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from .packed import Contents, contents_of, same_contents
from .views import is_plain, observed, transformed

#: What weights and biases were last cast to, with what they held then.
_CAST: MutableMapping[Tensor, tuple[Tensor, Contents | None, Contents | None]] = WeakIdKeyDictionary()


def autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the tensors of a call in the dtype that autocast computes in, where it is on for their device."""
    device = x.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return x, weight, bias
    return to_autocast_dtype(device, x, weight, bias)


def to_autocast_dtype(
    device: str, x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cast what autocast casts: floating tensors on the device, but for those in float64."""
    dtype = torch.get_autocast_dtype(device)
    keep = not (torch.compiler.is_compiling() or transformed() or observed())

    def cast(tensor: Tensor, keep: bool) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype in (torch.float64, dtype) or tensor.device.type != device:
            return tensor
        return _kept(tensor, dtype) if keep and _can_be_kept(tensor) else tensor.to(dtype)

    return cast(x, False), cast(weight, keep), None if bias is None else cast(bias, keep)


def _can_be_kept(tensor: Tensor) -> bool:
    recorded = torch.is_grad_enabled() and tensor.requires_grad
    return not recorded and is_plain(tensor) and tensor.is_cpu and not tensor.is_inference()


def _kept(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in another dtype: the one of the last call, if it and the given one hold what they did."""
    found = _CAST.get(tensor)
    if found is not None:
        result, known, given = found
        if result.dtype is dtype and same_contents(known, result) and same_contents(given, tensor):
            return result
    with torch.inference_mode(False), torch.no_grad():  # a tensor made in inference mode has no version
        result = tensor.detach().to(dtype)
    _CAST[tensor] = result, contents_of(result), contents_of(tensor)
    return result
