"""Whole models: modules change their class in place, and everything else about them stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.weight_norm import WeightNorm

from ..arrays.pool import outputs
from ..settings import AUTO, resolve
from .classes import Module, backend_of, is_ours, original_for, ours_for, refusal
from .weights import KeptWeightNorm

Model = TypeVar("Model", bound=torch.nn.Module)
Filter: TypeAlias = Callable[[torch.nn.Module, str], bool]


def accelerate(model: Model, *, backend: str = AUTO, filter_fn: Filter | None = None) -> Model:
    """Let the transposed convolutions of a model run on this package's kernels.

    In place, `model` itself included: every module whose `forward` is that of ``torch.nn.ConvTranspose1d``, ``2d`` or
    ``3d`` changes its class to one of ours. The modules, their parameters, hooks, parametrizations and ``state_dict``
    stay what they are, and ``isinstance`` with torch's classes still holds. Calling it again changes nothing.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    backend : str, optional
        As in `gpu_transconv.conv_transpose`, for all of its modules.
    filter_fn : callable, optional
        Called with each such module and its name in the model; where the answer is false the module is left.

    Returns
    -------
    torch.nn.Module
        The model itself.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> model = torch.nn.Sequential(torch.nn.ConvTranspose1d(8, 4, 4, stride=2), torch.nn.Tanh())
    >>> gtc.torch.accelerate(model)(torch.ones(1, 8, 16)).shape
    torch.Size([1, 4, 34])
    """
    resolve(backend)
    outputs.keep_heap()
    for name, module in _convolutions(model):
        if filter_fn is not None and not filter_fn(module, name):
            continue
        if is_ours(module) and backend_of(module) != backend:
            _restore(module)
        if not is_ours(module) and not refusal(module):
            module.__class__ = ours_for(module, backend)
        if is_ours(module):
            _change_hooks(module, WeightNorm, KeptWeightNorm)
    return model


def restore(model: Model) -> Model:
    """Give the modules that `accelerate` changed their own class again; those made from our classes become torch's.

    Parameters
    ----------
    model : torch.nn.Module
        The model.

    Returns
    -------
    torch.nn.Module
        The model itself.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> layer = gtc.torch.accelerate(torch.nn.ConvTranspose1d(8, 4, 4))
    >>> type(gtc.torch.restore(layer)) is torch.nn.ConvTranspose1d
    True
    """
    for _, module in _convolutions(model):
        if is_ours(module):
            _restore(module)
    return model


@dataclass(frozen=True)
class Row:
    """What `explain` says of one module."""

    name: str
    kind: str
    shapes: str
    accelerated: bool
    why: str


def explain(model: torch.nn.Module) -> list[Row]:
    """Print a row per transposed convolution of a model: name, shapes, whether `accelerate` changed it, and why not.

    Parameters
    ----------
    model : torch.nn.Module
        The model.

    Returns
    -------
    list of Row
        What was printed: `name`, `kind`, `shapes`, `accelerated` and `why` of each.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> import torch, gpu_transconv as gtc
    >>> rows = gtc.torch.explain(torch.nn.Sequential(torch.nn.ConvTranspose1d(8, 4, 4, stride=2)))
    name  module           shapes                state  why
    0     ConvTranspose1d  8 -> 4, 4, stride 2   left   accelerate was not called, or its filter_fn left it
    >>> rows[0].accelerated
    False
    """
    rows = [_row(name, module) for name, module in _convolutions(model)]
    table = [("name", "module", "shapes", "state", "why")]
    table += [(r.name, r.kind, r.shapes, "ours" if r.accelerated else "left", r.why) for r in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return rows


def _convolutions(model: torch.nn.Module) -> Iterator[tuple[str, Module]]:
    """Yield every transposed convolution once; TypeError where `model` is none."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    yield from [(name, module) for name, module in model.named_modules() if isinstance(module, _ConvTransposeNd)]


def _restore(module: Module) -> None:
    module.__class__ = original_for(module)
    _change_hooks(module, KeptWeightNorm, WeightNorm)


def _change_hooks(module: Module, old: type[WeightNorm], new: type[WeightNorm]) -> None:
    for hook in module._forward_pre_hooks.values():
        if type(hook) is old:
            hook.__class__ = new


def _row(name: str, module: Module) -> Row:
    lazy = any(map(torch.nn.parameter.is_lazy, module.parameters()))
    accelerated = is_ours(module)
    why = "its parameters have no values yet; ours from the first call on" if accelerated and lazy else ""
    if not accelerated:
        why = refusal(module) or "accelerate was not called, or its filter_fn left it"
    return Row(name or "(the model)", type(module).__name__, _shapes(module), accelerated, why)


def _shapes(module: Module) -> str:
    numbers = ("x".join(map(str, size)) for size in (module.kernel_size, module.stride))  # type: ignore[arg-type]
    kernel, stride = numbers
    groups = f", groups {module.groups}" if module.groups != 1 else ""
    return f"{module.in_channels or '?'} -> {module.out_channels}, {kernel}, stride {stride}{groups}"
