"""What XLA calls: the package on NumPy arrays, with nothing of JAX, which could wait for itself in a callback."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .. import api, gradients
from ..arrays import Array, HostArray
from ..problem.arguments import Activation, Ints, Params
from ..problem.plan import Operation
from ..problem.shapes import Shape
from ..settings import Settings, use


@dataclass(frozen=True)
class Call:
    """All of a call but its arrays, with all sizes written out; JAX compares it to know what it has traced."""

    params: Params
    inputs: Ints
    kernel: Ints
    outputs: Ints
    settings: Settings
    threads: int | None

    def function(self, operation: Operation) -> Callable[..., HostArray]:
        """The function of an operation on NumPy arrays."""
        geometry, settings = self.params, self.settings
        functions: dict[Operation, Callable[..., HostArray]] = {
            "forward": partial(api.conv_transpose, output_size=self.outputs, activation=self.activation),
            "input_grad": partial(gradients.conv_transpose_input_grad, input_size=self.inputs),
            "weight_grad": partial(gradients.conv_transpose_weight_grad, kernel_size=self.kernel),
        }
        return partial(
            functions[operation], stride=geometry.stride, padding=geometry.padding or "same",
            dilation=geometry.dilation, groups=geometry.groups, data_format=geometry.data_format,
            backend=settings.backend, formulation=settings.formulation, deterministic=settings.deterministic,
            precision=settings.precision,
        )  # fmt: skip

    @property
    def activation(self) -> Activation:
        """The activation as callers write it."""
        name = self.params.activation
        return (name, self.params.slope) if name == "leaky_relu" else name

    def linear(self) -> Call:
        """The same without its activation."""
        return replace(self, params=replace(self.params, activation=None, slope=0.0))

    def shape_like(self, shape: Shape, channels: int, spatial: Ints) -> Shape:
        """Shape of what has the batch of `shape`, other channels and other spatial sizes."""
        last = self.params.data_format == "channels_last"
        return (*shape[: -1 - len(spatial)], *((*spatial, channels) if last else (channels, *spatial)))


@dataclass(frozen=True)
class Host:
    """What XLA calls: an operation on arrays of which each has so many `axes` that are not mapped.

    JAX compiles once for those that are equal.
    """

    operation: Operation
    call: Call
    axes: Ints

    def __call__(self, *arrays: Array) -> HostArray:
        """Compute on NumPy arrays with any number of mapped axes in front."""
        values = [np.asarray(array) for array in arrays]
        run, leads = self.call.function(self.operation), [value.shape[:-n] for value, n in self._counted(values)]
        with use(threads=self.call.threads):
            if not any(leads):
                return run(*values)
            mapped = np.broadcast_shapes(*leads)
            if self.operation != "weight_grad" and all(set(lead) <= {1} for lead in leads[1:]):
                return self._folded(run, values)
            return self._one_by_one(run, mapped, values)

    def _folded(self, run: Callable[..., HostArray], values: list[HostArray]) -> HostArray:
        """Only the first array is mapped: its mapped axes and its batch are one batch."""
        first, batch = values[0], values[0].shape[: -1 - self.call.params.ndim]
        others = [value.reshape(value.shape[-n:]) for value, n in self._counted(values)[1:]]
        result = run(first.reshape(math.prod(batch), *first.shape[len(batch) :]), *others)
        return result.reshape(*batch, *result.shape[1:])

    def _one_by_one(self, run: Callable[..., HostArray], mapped: Shape, values: list[HostArray]) -> HostArray:
        """One call for each place on the mapped axes."""
        wide = [np.broadcast_to(value, (*mapped, *value.shape[-n:])) for value, n in self._counted(values)]
        results = [run(*(value[place] for value in wide)) for place in np.ndindex(*mapped)]
        return np.stack(results).reshape(*mapped, *results[0].shape)

    def _counted(self, values: list[HostArray]) -> list[tuple[HostArray, int]]:
        """Each array with the number of its axes that are not mapped, at least one."""
        return list(zip(values, self.axes, strict=True))
