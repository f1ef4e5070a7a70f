"""The weight of a module, and not a new one at every call where it is worked out from other tensors.

Under weight_norm, a parametrization or pruning the weight is a fresh tensor in every call, so that packing it would never
pay. While gradients are off it is kept, beside the state of what it was made from. Nothing of this is in the module: the
dictionary is weak.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from .packed import state_of

#: The weight last worked out for a module, and the state of the tensors that it came from; None where only its contents
#: can tell whether it is still the right one.
_KEPT: WeakKeyDictionary[torch.nn.Module, tuple[Hashable, Tensor]] = WeakKeyDictionary()


def weight_of(module: torch.nn.Module) -> Tensor:
    """Return ``module.weight``; with gradients off the same tensor as before, as long as it has the same values."""
    weight = module._parameters.get("weight")
    if weight is not None:
        return weight
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        found: Tensor = module.weight  # type: ignore[assignment]
        return found
    parametrizations: Any = module._modules.get("parametrizations")
    made_by = parametrizations["weight"] if parametrizations is not None and "weight" in parametrizations else ()
    if len(made_by) == 1 and type(made_by[0]) is _WeightNorm:
        originals = made_by.original0, made_by.original1
        return _kept(module, originals, made_by[0].dim, lambda: module.weight)  # type: ignore[arg-type, return-value]
    return _same_contents(module, module.weight)  # type: ignore[arg-type]


class KeptWeightNorm(WeightNorm):
    """The hook of ``torch.nn.utils.weight_norm``, which works the weight out again only where it has changed."""

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        """Set the module's weight before its `forward`."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or self.name != "weight":
            super().__call__(module, inputs)
            return
        originals = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        weight = _kept(module, originals, self.dim, lambda: self.compute_weight(module))
        if module.__dict__.get(self.name) is not weight:
            setattr(module, self.name, weight)


def _kept(
    module: torch.nn.Module, originals: tuple[Tensor, Tensor], dim: int | None, make: Callable[[], Tensor]
) -> Tensor:
    """Return the weight kept for a module if its originals, and it itself, are what they were; else make it."""
    made_from = dim, state_of(originals[0]), state_of(originals[1])
    found = _KEPT.get(module)
    if found is not None and found[0] == (made_from, state_of(found[1])):
        return found[1]
    # A tensor made in inference mode has no version by which a later change of it would be seen.
    with torch.inference_mode(originals[0].is_inference() or originals[1].is_inference()), torch.no_grad():
        weight = make()
    _KEPT[module] = (made_from, state_of(weight)), weight
    return weight


def _same_contents(module: torch.nn.Module, weight: Tensor) -> Tensor:
    """Return the tensor kept for a module if it equals `weight`, which is kept from now on otherwise.

    On the CPU alone: on another device the comparison would wait for that.
    """
    if type(weight) is not Tensor or weight.device.type != "cpu" or weight.is_inference():
        return weight
    found = _KEPT.get(module)
    if found is not None and found[1].dtype is weight.dtype and torch.equal(found[1], weight):
        return found[1]
    _KEPT[module] = None, weight
    return weight
