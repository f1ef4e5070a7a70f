"""What a batch of calls is as one call: batches become images where the filters are shared, else groups of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from ..problem.arguments import Ints
from .geometry import Spec

#: A map of two tensors, linear in each: (first, second, spec, sizes) to the result.
Bilinear: TypeAlias = Callable[[Tensor, Tensor, Spec, Ints | None], Tensor]


def call_batch(
    call: Bilinear, axes: tuple[int, int, int], batch: int, in_dims: tuple[int | None, int | None],
    tensors: tuple[Tensor, Tensor], spec: Spec, sizes: Ints | None,
) -> Tensor:  # fmt: skip
    """Call a map once for a whole batch of calls; the batch is the first axis of the result.

    Parameters
    ----------
    call : callable
        The map.
    axes : tuple of int
        Where groups are, of both tensors and of the result: 1 where that is (N, C, *spatial), 0 of a weight.
    batch : int
        Number of calls.
    in_dims : tuple of int or None
        Which axis of each tensor counts the calls; None where all share it.
    tensors, spec, sizes
        What the map is called with.
    """
    first, second = (
        tensor if dim is None else tensor.movedim(dim, 0) for tensor, dim in zip(tensors, in_dims, strict=True)
    )
    if in_dims[1] is None and axes[1] == 0:  # a weight that all share
        result = call(first.flatten(0, 1), second, spec, sizes)
        return result.unflatten(0, first.shape[:2])
    merged = [
        (tensor.expand(batch, *tensor.shape) if dim is None else tensor).movedim(0, axis).flatten(axis, axis + 1)
        for tensor, dim, axis in zip((first, second), in_dims, axes, strict=False)
    ]
    result = call(merged[0], merged[1], spec.with_groups(batch * spec.params.groups), sizes)
    place = axes[2]
    return result.unflatten(place, (batch, result.shape[place] // batch)).movedim(place, 0)
