"""The operator on Dask's chunked arrays, lazily, where one machine or its memory is outgrown."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ..arrays import Array, check_device, view_of
from ..errors import missing_library
from ..problem.arguments import Activation, IntOrInts, Padding, make_params
from ..problem.plan import ArraySpec, Plan, plan_call
from ..problem.shapes import spatial_axes
from ..settings import AUTO, HIGHEST, most_threads, resolve

try:
    import dask
    import dask.array
    from dask.array import overlap
except ImportError as error:
    raise missing_library("Dask", "dask") from error

from .chunks import Sizes, cut_axis, cut_channels
from .worker import ChunkOperator, Cuts

__all__ = ["conv_transpose"]

#: A chunked array; Dask's own types are not exported.
DaskArray: TypeAlias = Any


def conv_transpose(
    x: DaskArray,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "channels_first",
    activation: Activation = None,
    precision: str = HIGHEST,
    deterministic: bool | None = None,
    formulation: str = AUTO,
    backend: str = AUTO,
) -> DaskArray:
    """Transposed convolution of a chunked array, computed chunk by chunk when Dask asks for it.

    Each chunk of x makes the outputs from its own first input on, so that nothing is computed twice, nothing cropped.
    It needs ``floor((kernel - 1)*dilation / stride)`` inputs of the chunk before, on the low side alone: none where the
    kernel is no longer than the stride, and then there is one task for each chunk. Chunks that are shorter than that,
    and those of the channels of one group, are brought together first.

    Parameters
    ----------
    x : dask.array.Array, shape (N, Cin, *spatial) or (Cin, *spatial)
        Input, of NumPy or CuPy chunks of known sizes, along any axes; channels are last with
        ``data_format="channels_last"``.
    weight : array, shape (Cin, Cout // groups, *kernel)
        Filters in memory, of the kind of x's chunks, in x's dtype. Each worker gets them once and packs them once.
    bias : array, shape (Cout,), optional
        Added to every output element.
    stride, padding, output_padding, groups, dilation, output_size, data_format, activation
        As in `gpu_transconv.conv_transpose`.
    precision, deterministic, formulation, backend
        As there. They, and what `gpu_transconv.use` says, hold as they are now, on all workers. With a formulation
        named, on the CPU and unless the precision is "fast", every chunk runs the kernel chosen for the whole array,
        and the result has the same bits however x is cut. Threads: those of ``use(threads=...)``, else the cores of a
        machine shared by its tasks.

    Returns
    -------
    dask.array.Array
        The result, with x's chunks times the stride, the first and the last ones cut.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `gpu_transconv.conv_transpose` does, before anything is scheduled; and if a chunk size is unknown.
    ImportError
        If Dask is not installed.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> from gpu_transconv.dask import conv_transpose
    >>> x = da.ones((1, 8, 64, 64, 64), chunks=(1, 8, 32, 32, 32), dtype=np.float32)
    >>> y = conv_transpose(x, np.ones((8, 4, 2, 2, 2), np.float32), stride=2)
    >>> y.shape, y.chunks[2], float(y[0, 0, 0, 0, 0])
    ((1, 4, 128, 128, 128), (64, 64), 8.0)
    """
    _check_chunked(x)
    _, weights = view_of("weight", weight)
    biases = None if bias is None else view_of("bias", bias)[1]
    check_device("bias", biases, "weight", weights)
    params = make_params(
        spatial_axes(weights.shape), stride=stride, padding=padding, output_padding=output_padding,
        output_size=output_size, dilation=dilation, groups=groups, data_format=data_format, activation=activation,
    )  # fmt: skip
    settings = resolve(backend, formulation, deterministic, precision)
    specs = [None if a is None else ArraySpec(tuple(a.shape), a.dtype) for a in (x, weights, biases)]
    plan = plan_call(params, specs[0], specs[1], specs[2], settings.precision)  # type: ignore[arg-type]
    channel, first = _places(plan)
    cuts = _cut(plan, x.chunks[channel], x.chunks[first : first + plan.ndim])
    return _map(x, ChunkOperator(plan, cuts, settings, most_threads(), weight, bias))


def _places(plan: Plan) -> tuple[int, int]:
    """Which axis of x has the channels, and which is the first spatial one."""
    batch = 0 if plan.unbatched else 1
    return (batch + plan.ndim, batch) if plan.channels_last else (batch, batch + 1)


def _cut(plan: Plan, channels: Sizes, spatial: tuple[Sizes, ...]) -> Cuts:
    axes = plan.axes[3 - plan.ndim :]
    pieces = tuple(cut_axis(axis, sizes) for axis, sizes in zip(axes, spatial, strict=True))
    return Cuts(cut_channels(plan, channels), pieces)


def _check_chunked(x: DaskArray) -> None:
    if not isinstance(x, dask.array.Array):
        raise TypeError(f"x must be a Dask array, got {type(x).__name__}; dask.array.from_array makes one")
    if any(np.isnan(size) for sizes in x.chunks for size in sizes):
        raise ValueError(
            f"x must have chunks of known sizes, got {x.chunks}; call x.compute_chunk_sizes(), which computes them"
        )


def _map(x: DaskArray, operator: ChunkOperator) -> DaskArray:
    """Bring chunks together, add the halos, and apply the operator to every chunk."""
    cuts, (channel, first) = operator.cuts, _places(operator.plan)
    inputs: dict[int, Sizes] = {channel: cuts.channels.inputs}
    outputs: dict[int, Sizes] = {channel: cuts.channels.outputs}
    for number, cut in enumerate(cuts.spatial, first):
        inputs[number], outputs[number] = cut.inputs, cut.outputs
    x = x.rechunk({axis: sizes for axis, sizes in inputs.items() if sizes != x.chunks[axis]})
    depth = {axis: (cut.halo, 0) for axis, cut in enumerate(cuts.spatial, first) if cut.halo}
    source = overlap.overlap(x, depth=depth, boundary="none", allow_rechunk=False) if depth else x
    chunks = tuple(outputs.get(axis, sizes) for axis, sizes in enumerate(x.chunks))
    token = dask.base.tokenize(x, operator)
    kept = dask.delayed(operator, name=f"conv-transpose-weights-{token}", traverse=False)
    return dask.array.map_blocks(
        _apply, source, kept, chunks=chunks, dtype=x.dtype, meta=x._meta, name=f"conv-transpose-{token}"
    )


def _apply(block: Array, operator: ChunkOperator, block_id: tuple[int, ...] = ()) -> Array:
    return operator(block, block_id)
