"""The weight of a module, and not a new one at every call where it is worked out from other tensors.

Under weight_norm, a parametrization or pruning the weight is a fresh tensor in every call, so that packing it would
never pay. While gradients are off it is kept, beside the contents of what it was made from. Nothing of this is in the
module: the dictionary is weak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from .packed import Contents, contents_of, same_contents
from .views import is_plain

#: The weight last worked out for a module, with the contents of itself and the tensors that it came from, and the axis
#: of its norm; no contents where its values alone can tell whether it is still the right one.
_KEPT: WeakKeyDictionary[torch.nn.Module, tuple[Tensor, tuple[Contents | None, ...], int | None]] = WeakKeyDictionary()


def weight_of(module: torch.nn.Module) -> Tensor:
    """Return ``module.weight``; with gradients off the same tensor as before, as long as it has the same values."""
    weight = module._parameters.get("weight")
    if weight is not None:
        return weight
    if _is_recorded():
        return module.weight  # type: ignore[return-value]
    parametrizations: Any = module._modules.get("parametrizations")
    made_by: Any = parametrizations["weight"] if parametrizations is not None and "weight" in parametrizations else ()
    if len(made_by) == 1 and type(made_by[0]) is _WeightNorm:
        originals = made_by.original0, made_by.original1
        return _kept(module, originals, made_by[0].dim, lambda: module.weight)  # type: ignore[arg-type, return-value]
    return _same_values(module, module.weight)  # type: ignore[arg-type]


class KeptWeightNorm(WeightNorm):
    """The hook of ``torch.nn.utils.weight_norm``, which works the weight out again only where it has changed."""

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        """Set the module's weight before its `forward`."""
        if _is_recorded() or self.name != "weight":
            super().__call__(module, inputs)
            return
        originals = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        weight = _kept(module, originals, self.dim, lambda: self.compute_weight(module))
        if module.__dict__.get(self.name) is not weight:
            setattr(module, self.name, weight)


def _is_recorded() -> bool:
    """Whether somebody wants to see how the weight comes about: autograd, a compiler, a tracer, a mode."""
    return bool(
        torch.compiler.is_compiling() or torch.is_grad_enabled() or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack()
    )  # fmt: skip


def _kept(
    module: torch.nn.Module, originals: tuple[Tensor, Tensor], dim: int | None, make: Callable[[], Tensor]
) -> Tensor:
    """Return the weight kept for a module if its originals, and it itself, are what they were; else make it."""
    found = _KEPT.get(module)
    if found is not None and found[2] == dim and found[1] and all(map(same_contents, found[1], (found[0], *originals))):
        return found[0]
    if not _can_be_seen(*originals):
        return make()
    with torch.inference_mode(False), torch.no_grad():  # a tensor made in inference mode has no version
        weight = make()
    _KEPT[module] = weight, (contents_of(weight), *map(contents_of, originals)), dim
    return weight


def _same_values(module: torch.nn.Module, weight: Tensor) -> Tensor:
    """Return the tensor kept for a module if it equals `weight`, which is kept from now on otherwise."""
    if not _can_be_seen(weight):
        return weight
    found = _KEPT.get(module)
    if found is not None and found[0].dtype is weight.dtype and torch.equal(found[0], weight):
        return found[0]
    _KEPT[module] = weight, (), None
    return weight


def _can_be_seen(*tensors: Tensor) -> bool:
    """Whether changes of tensors show: they are plain, and on the CPU (another device would have to be waited for)."""
    return is_plain(*tensors) and all(tensor.is_cpu and not tensor.is_inference() for tensor in tensors)
