"""The operator on input that comes in pieces: a stream keeps what later outputs need, and nothing else."""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .arrays import NUMPY, Array, ArrayLibrary, HostArray, Operands, View, check_device, view_of
from .arrays.views import numpy_dtype
from .dispatch.select import Choice, note, select
from .prepared import ConvTranspose
from .problem.arguments import Activation, IntOrInts, Padding, Params
from .problem.axis import Axis
from .problem.dtypes import dtype_name
from .problem.flow import Flow
from .problem.plan import ArraySpec, Plan, plan_call
from .problem.shapes import check_shapes
from .run import Weights, launch, prepare
from .settings import AUTO, resolve

#: Inputs, besides those that padding cuts off, for which the formulation is chosen, whatever the chunks are: about a
#: second of codec frames. Chosen, not measured.
_TYPICAL = 64
#: Pieces whose plans are kept: one for each length of a chunk, and those at the ends.
_MOST_PIECES = 256


class _Shape(NamedTuple):
    """What the first chunk decides: the shape beside the stream's axis, and what runs."""

    sizes: tuple[int, ...]  # of a chunk of typical length
    rest: tuple[int, ...]  # the same without the stream's axis
    axis: int  # the stream's, among those of the arrays
    plan: Plan  # of a typical length
    choice: Choice
    pieces: dict[tuple[int, int, int], tuple[Plan, Weights]]  # by input size, what is cut off, and output size


class StreamingConvTranspose:
    """A transposed convolution whose input comes in chunks along one axis.

    Each chunk gives the outputs that no later one can change; `finish` gives the rest. Put together they are
    `conv_transpose` of all chunks, within the dtype's tolerance, and to the bit the same however the input is cut:
    the sum of an output has one order. What is kept from chunk to chunk are the inputs that later outputs need,
    ``floor(dilation*(kernel - 1) / stride)`` positions.

    Parameters
    ----------
    weight : array, shape (Cin, Cout // groups, *kernel)
        Filters; copied. Like the chunks in host memory: for CUDA devices there are no streams yet.
    bias : array, shape (Cout,), optional
        Added to every output element.
    stride, padding, output_padding, dilation, groups, activation, data_format
        As in `conv_transpose`. Along the stream's axis the low padding is cut from its start, the high one from its
        end.
    axis : int
        Which of the spatial axes the chunks follow each other along; -1 is the last one, in either data format.
    backend, formulation
        As in `conv_transpose`; what is not given is taken from `use` and the environment now. Of "auto" the
        formulation is chosen once, for a typical length.

    Raises
    ------
    ValueError, TypeError
        As `conv_transpose` does; at the construction where the weights or the arguments are at fault.
    BackendUnavailableError
        At the first chunk, if the backend cannot run here, or cannot keep the order of its sums.

    Examples
    --------
    >>> import numpy as np, gpu_transconv as gtc
    >>> stream = gtc.StreamingConvTranspose(np.array([[[1., 2., 3., 4.]]]), stride=2)
    >>> stream(np.array([[[1., 1.]]]))
    array([[[1., 2., 4., 6.]]])
    >>> stream(np.array([[[1.]]]))
    array([[[4., 6.]]])
    >>> stream.delay, stream.finish()
    (2, array([[[3., 4.]]]))
    """

    def __init__(
        self,
        weight: Array,
        bias: Array | None = None,
        *,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        output_padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        activation: Activation = None,
        data_format: str = "channels_first",
        axis: int = -1,
        backend: str = AUTO,
        formulation: str = AUTO,
    ) -> None:
        self._settings = resolve(backend, formulation)
        self._layer = ConvTranspose(
            weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
            groups=groups, activation=activation, data_format=data_format, backend=backend, formulation=formulation,
        )  # fmt: skip
        self._axis = _as_axis(axis, self._layer._params.ndim)
        self._flow = Flow(_typical_axis(self._layer, self._axis))
        self._shapes: dict[tuple[tuple[int, ...], str, str], _Shape] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all input: the next chunk is the first one."""
        self._shape: _Shape | None = None
        self._given = self._done = self._first = 0
        self._carry: HostArray | None = None
        self._kind: tuple[ArrayLibrary, Array] = (NUMPY, None)

    def copy(self) -> StreamingConvTranspose:
        """Return a stream that goes on from here by itself; both share the weights.

        Returns
        -------
        StreamingConvTranspose
            With the same state as this one.
        """
        other = object.__new__(StreamingConvTranspose)
        other.__dict__.update(self.__dict__)
        return other

    @property
    def delay(self) -> int:
        """Outputs held back, in samples along the axis: the length of what `finish` gives.

        Of a short input it gives fewer. A layer whose high padding cuts off all that overlaps has no delay.
        """
        return self._flow.held

    def __getstate__(self) -> dict[str, object]:
        """Return weights, arguments and state: what was chosen and packed fits this machine and this process."""
        begun = self._shape and (self._shape.sizes, self._shape.plan.dtype)
        return {**self.__dict__, "_shapes": {}, "_shape": None, "begun": begun}

    def __setstate__(self, state: dict[str, Any]) -> None:
        begun = state.pop("begun")
        self.__dict__.update(state)
        if begun:
            sizes, dtype = begun
            self._shape = self._begin(sizes, dtype, "cpu")

    def __call__(self, x: Array) -> Array:
        """Take the next chunk of the input, and return the outputs that no later one can change.

        Parameters
        ----------
        x : array, shape (N, Cin, *spatial) or (Cin, *spatial)
            Input of any length along the stream's axis, 0 included, and of the first chunk's sizes along all others;
            in the weights' dtype, channels last where the stream is so.

        Returns
        -------
        array
            Outputs, of the chunk's own kind; perhaps of length 0.
        """
        library, view = NUMPY, x
        if type(x) is not np.ndarray:
            library, view = view_of("x", x)
            check_device("x", view, "weight", self._layer._weight)
        shape = self._shape
        if shape is None or view.shape[: shape.axis] + view.shape[shape.axis + 1 :] != shape.rest:
            shape = self._begin_with(view)
        if dtype_name(view.dtype) != shape.plan.dtype:
            raise TypeError(f"x must have the first chunk's dtype {shape.plan.dtype}, got {view.dtype}")
        given, carry = self._given + view.shape[shape.axis], self._carry
        known = view if carry is None else np.concatenate((carry, view), shape.axis)
        result = self._outputs(shape, known, given, max(self._done, self._flow.final(given)))
        self._keep(shape, known, given, result.shape[shape.axis])
        self._kind = library, x
        return result if library is NUMPY else library.wrap(result, x)

    def finish(self) -> Array:
        """Return the outputs that are left, now that no input follows; the next chunk starts a new stream.

        Returns
        -------
        array
            Outputs, of the last chunk's own kind; perhaps of length 0.

        Raises
        ------
        ValueError
            If there was no chunk, so that no shape is known.
        """
        shape, (library, x) = self._shape, self._kind
        if shape is None:
            raise ValueError("finish must follow a chunk, which may be empty: without one no shape is known")
        result = self._outputs(shape, self._carry, self._given, max(self._done, self._flow.outputs(self._given)))
        self.reset()
        return result if library is NUMPY else library.wrap(result, x)

    def _begin_with(self, view: View) -> _Shape:
        """Check the first chunk, or a later one that is not like it."""
        layer, params = self._layer, self._layer._params
        at = len(view.shape) - params.ndim + self._axis - (params.data_format == "channels_last")
        some = tuple(max(size, i == at) for i, size in enumerate(view.shape))
        check_shapes(params, some, layer._weight.shape, None)
        sizes = (*some[:at], self._flow.axis.size, *some[at + 1 :])
        if self._shape is None:
            return self._begin(sizes, dtype_name(view.dtype), "cpu" if isinstance(view, np.ndarray) else "cuda")
        expected = ["any" if i == self._shape.axis else str(size) for i, size in enumerate(self._shape.sizes)]
        raise ValueError(f"x must have the first chunk's shape ({', '.join(expected)}), got {tuple(view.shape)}")

    def _begin(self, sizes: tuple[int, ...], dtype: str, device: str) -> _Shape:
        """Choose what runs by all but a chunk's length, in place of which `sizes` has a typical one."""
        found = self._shapes.get((sizes, dtype, device))
        if found is None:
            plan = replace(_plan_of(self._layer, sizes, dtype), fixed_order=True)
            at = len(sizes) - plan.ndim + self._axis - plan.channels_last
            rest, choice = sizes[:at] + sizes[at + 1 :], select(plan, self._settings, device)
            found = self._shapes[sizes, dtype, device] = _Shape(sizes, rest, at, plan, choice, {})
        return found

    def _outputs(self, shape: _Shape, x: HostArray | None, given: int, end: int) -> HostArray:
        """Compute the outputs up to `end` from `x`, the inputs that were kept and those that came, `given` in all."""
        if end == self._done or x is None:
            sizes = list(shape.plan.output_shape)
            sizes[shape.axis] = 0
            return np.empty(sizes, numpy_dtype(shape.plan.dtype))
        axis, skip = self._flow.piece(self._first, given, self._done, end)
        operands = Operands(NUMPY, x, x, self._layer._weight, self._layer._bias)
        plan, weights = self._prepared(shape, axis, operands)
        result: HostArray = launch(shape.choice.implementation, plan, operands, None, weights)
        note(shape.choice, plan)
        return np.ascontiguousarray(result[_from(skip, shape.axis)]) if skip else result

    def _prepared(self, shape: _Shape, axis: Axis, operands: Operands) -> tuple[Plan, Weights]:
        """The plan of a piece, and the weights packed for it; both are kept."""
        key = axis.size, axis.pad_low, axis.output_size
        found = shape.pieces.get(key)
        if found is None:
            axes = list(shape.plan.axes)
            axes[self._axis - shape.plan.ndim] = axis
            plan = replace(shape.plan, axes=(axes[0], axes[1], axes[2]))
            if len(shape.pieces) >= _MOST_PIECES:
                shape.pieces.clear()
            kernel, packed = shape.choice.implementation, self._layer._packed
            order = kernel, kernel.weight_key(plan)
            if order not in packed:
                packed[order] = prepare(kernel, plan, operands)
            found = shape.pieces[key] = plan, packed[order]
        return found

    def _keep(self, shape: _Shape, x: HostArray, given: int, outputs: int) -> None:
        """Keep of the inputs `x` those that later outputs need, in memory of the stream's own."""
        done = self._done + outputs
        first = self._flow.first_needed(done, given)
        self._carry = x[_from(first - self._first, shape.axis)].copy() if first < given else None
        self._shape, self._given, self._done, self._first = shape, given, done, first


def _from(start: int, axis: int) -> tuple[slice, ...]:
    """Index of what begins at `start` along an axis."""
    return (slice(None),) * axis + (slice(start, None),)


def _as_axis(axis: object, ndim: int) -> int:
    """Number of a spatial axis, counted from the first."""
    try:
        number = operator.index(axis)  # type: ignore[arg-type] # raises where it is none
    except TypeError:
        number = ndim
    if isinstance(axis, bool) or not -ndim <= number < ndim:
        raise ValueError(f"axis must be one of the {ndim} spatial axes, from {-ndim} to {ndim - 1}, got {axis!r}")
    return number % ndim


def _typical_axis(layer: ConvTranspose, axis: int) -> Axis:
    """The axis of a plan long enough to have outputs; checks what can be checked without a chunk."""
    params = layer._params
    sizes = [_TYPICAL + math.ceil(sum(cut) / s) for cut, s in zip(_cuts(params), params.stride, strict=True)]
    channels = layer._weight.shape[0]
    shape = (*sizes, channels) if params.data_format == "channels_last" else (channels, *sizes)
    return _plan_of(layer, shape, layer._weight.dtype).axes[axis - params.ndim]


def _cuts(params: Params) -> tuple[tuple[int, int], ...]:
    return params.padding or ((0, 0),) * params.ndim


def _plan_of(layer: ConvTranspose, shape: tuple[int, ...], dtype: object) -> Plan:
    bias = None if layer._bias is None else ArraySpec(layer._bias.shape, layer._bias.dtype)
    weight = ArraySpec(layer._weight.shape, layer._weight.dtype)
    return plan_call(layer._params, ArraySpec(shape, dtype), weight, bias)  # type: ignore[arg-type]
