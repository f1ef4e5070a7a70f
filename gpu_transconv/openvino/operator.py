"""The operator in a graph of OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import openvino

from ..prepared import ConvTranspose
from ..problem.arguments import Params
from ..problem.plan import make_plan
from ..problem.shapes import Shape
from ..settings import use

#: Elements of an axis without a bound, where only the outputs of the other axes are asked for: more than any padding
#: cuts off. Chosen, not measured.
_LONG = 1 << 20
#: Shapes of x whose results' shapes are kept, of each layer.
_MOST_SHAPES = 256


@dataclass(frozen=True)
class Layer:
    """A transposed convolution as it is computed here; copies of an operator share it, and what it has packed."""

    params: Params
    weight: Shape
    operator: ConvTranspose
    threads: int | None
    shapes: dict[str, Any] = field(default_factory=dict)  # of results, by what is known of the shape of x

    def shape_of_result(self, x: Shape) -> Shape:
        """Shape of the result for an x of that shape."""
        return make_plan(self.params, tuple(x), self.weight, "float32", has_bias=False).output_shape

    def partial_shape(self, x: Any) -> Any:
        """What is known of the result's shape from what is known of that of x; kept, as each inference asks for it."""
        name = str(x)
        found = self.shapes.get(name)
        if found is None:
            if len(self.shapes) >= _MOST_SHAPES:
                self.shapes.clear()
            found = self.shapes[name] = self._partial_shape(x)
        return found

    def _partial_shape(self, x: Any) -> Any:
        if x.rank.is_dynamic:
            return openvino.PartialShape.dynamic(len(self.weight))
        spatial = list(x)[2:]
        least = [max(1, size.get_min_length()) for size in spatial]
        most = [size.get_max_length() if size.get_max_length() > 0 else max(low, _LONG)
                for size, low in zip(spatial, least, strict=True)]  # fmt: skip
        highest = self.shape_of_result((1, self.weight[0], *most))
        try:
            lowest = self.shape_of_result((1, self.weight[0], *least))
        except ValueError:  # padding leaves nothing of the smallest x
            lowest = (0,) * len(highest)
        sizes = [
            openvino.Dimension(high) if size.is_static
            else openvino.Dimension(low, high if size.get_max_length() > 0 else -1)
            for size, low, high in zip(spatial, lowest[2:], highest[2:], strict=True)
        ]  # fmt: skip
        return openvino.PartialShape([x[0], openvino.Dimension(highest[1]), *sizes])


class TransposedConvolution(openvino.Op):  # type: ignore[misc] # OpenVINO has no types
    """The operator in a graph: its input is x; weights and bias are in the layer."""

    def __init__(self, inputs: Sequence[object], layer: Layer) -> None:
        super().__init__(self)
        self._layer = layer
        self.set_arguments(list(inputs))
        self.constructor_validate_and_infer_types()

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weight, in this package's order."""
        return self._layer.weight

    def validate_and_infer_types(self) -> None:
        """Set the type of the result, and as much of its shape as is known."""
        shape = self._layer.partial_shape(self.get_input_partial_shape(0))
        self.set_output_type(0, self.get_input_element_type(0), shape)

    def clone_with_new_inputs(self, new_inputs: Sequence[object]) -> TransposedConvolution:
        """Copy the operator, for a copy of the model."""
        return TransposedConvolution(new_inputs, self._layer)

    def has_evaluate(self) -> bool:
        """Tell OpenVINO that `evaluate` is here."""
        return True

    def evaluate(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> bool:
        """Compute into the memory of the output tensor."""
        x, layer = inputs[0].data, self._layer
        outputs[0].shape = layer.shape_of_result(x.shape)
        with nullcontext() if layer.threads is None else use(threads=layer.threads):
            layer.operator(x, outputs[0].data)
        return True
