"""Transposed convolutions of OpenVINO models in the package's CPU kernels: as operators in Python, packed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .arrays import HostArray
from .errors import missing_library
from .prepared import ConvTranspose
from .problem.arguments import Params, make_params
from .problem.plan import make_plan
from .problem.shapes import Shape
from .settings import most_threads, use

try:
    import openvino
    from openvino.utils import replace_node
except ImportError as error:
    raise missing_library("OpenVINO", "openvino") from error

__all__ = ["Explanation", "Row", "accelerate", "explain"]

#: Types of OpenVINO, which has none for a type checker.
Model: TypeAlias = Any
Node: TypeAlias = Any

_TYPES = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")
#: Elements of an axis without a bound, where only the outputs of the other axes are asked for: more than any padding
#: cuts off. Chosen, not measured.
_LONG = 1 << 20


class Row(NamedTuple):
    """One transposed convolution of a model."""

    name: str
    weight: Shape | None
    replaced: bool
    reason: str


@dataclass(frozen=True)
class Explanation:
    """The transposed convolutions of a model, and what becomes of each; prints as a table."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        if not self.rows:
            return "no transposed convolution"
        width = max(len(row.name) for row in self.rows)
        return "\n".join(
            f"{row.name:{width}}  {'x'.join(map(str, row.weight or ())) or '?':>18}  {row.reason}" for row in self.rows
        )


class _Refused(Exception):  # noqa: N818
    """Why a node is left as it is."""


@dataclass(frozen=True)
class _Layer:
    """A transposed convolution as it is computed here; copies of an operator share it, and what it has packed."""

    params: Params
    weight: Shape
    operator: ConvTranspose
    threads: int | None

    def shape_of_result(self, x: Shape) -> Shape:
        """Shape of the result for an x of that shape."""
        return make_plan(self.params, tuple(x), self.weight, "float32", has_bias=False).output_shape

    def partial_shape(self, x: Any) -> Any:
        """What is known of the result's shape from what is known of that of x."""
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

    def __init__(self, inputs: Sequence[object], layer: _Layer) -> None:
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
        x = inputs[0].data
        outputs[0].shape = self._layer.shape_of_result(x.shape)
        with use(threads=self._layer.threads):
            self._layer.operator(x, outputs[0].data)
        return True


def accelerate(model: Model) -> Model:
    """Replace the transposed convolutions of a model by operators of this package, in place.

    (Group)ConvolutionBackpropData nodes in float32 with constant weights become operators in Python whose weights are
    packed once; a bias that is added next becomes part of them. Dynamic shapes stay dynamic. All else stays as it is:
    `explain` says why. Compile the model for the CPU afterwards. The operators live in this process: such a model cannot
    be saved.

    Parameters
    ----------
    model : openvino.Model
        As ``openvino.Core().read_model`` or ``openvino.convert_model`` returns it. It is changed.

    Returns
    -------
    openvino.Model
        The same model. Inside ``use(threads=...)`` its operators keep that number of threads.

    Raises
    ------
    TypeError
        If `model` is not an OpenVINO model that has not been compiled.
    ImportError
        If OpenVINO is not installed.

    Examples
    --------
    >>> import numpy as np, openvino as ov
    >>> from openvino import opset13 as ops
    >>> from gpu_transconv.openvino import accelerate
    >>> x = ops.parameter([1, 1, -1], np.float32)
    >>> y = ops.convolution_backprop_data(x, np.array([[[1, 2]]], np.float32), strides=[2])
    >>> compiled = ov.compile_model(accelerate(ov.Model([y], [x])), "CPU")
    >>> compiled(np.array([[[1, 10, 100]]], np.float32))[0].tolist()
    [[[1.0, 2.0, 10.0, 20.0, 100.0, 200.0]]]
    """
    for node, found in _search(model):
        if isinstance(found, _Found):
            layer = _Layer(found.params, found.weight.shape, found.operator, most_threads())
            replacement = TransposedConvolution([node.input_value(0)], layer)
            replacement.set_friendly_name(found.last.get_friendly_name())
            replace_node(found.last, replacement)
    return model


def explain(model: Model) -> Explanation:
    """Say of each transposed convolution of a model whether `accelerate` has replaced it or would, and why not.

    Parameters
    ----------
    model : openvino.Model
        Before or after `accelerate`; it is not changed.

    Returns
    -------
    Explanation
        Its ``rows`` have a name, the weight's shape (in this package's order, where it is replaced), whether it was
        replaced, and the reason; it prints as a table.

    Raises
    ------
    TypeError
        If `model` is not an OpenVINO model that has not been compiled.

    Examples
    --------
    >>> import numpy as np, openvino as ov
    >>> from openvino import opset13 as ops
    >>> from gpu_transconv.openvino import explain
    >>> x, weight = ops.parameter([1, 1, 5], np.float32), ops.parameter([1, 1, 2], np.float32)
    >>> y = ops.convolution_backprop_data(x, weight, strides=[2], name="up")
    >>> print(explain(ov.Model([y], [x, weight])))
    up  1x1x2  left: its weights are not constant
    """
    rows = []
    for node, found in _search(model):
        shape: Shape | None = None
        if isinstance(found, TransposedConvolution):
            shape, reason = found.weight_shape, "replaced"
        elif isinstance(found, _Found):
            bias = ", with its bias" if found.last is not node else ""
            shape, reason = found.weight.shape, f"can be replaced{bias}"
        else:
            weight = node.input(1).get_partial_shape()
            shape = tuple(weight.to_shape()) if weight.is_static else None
            reason = f"left: {found}"
        rows.append(Row(node.get_friendly_name(), shape, reason == "replaced", reason))
    return Explanation(tuple(rows))


# --- what a model has ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A transposed convolution that can be replaced, and the node whose result is then computed: it, or its bias."""

    params: Params
    weight: HostArray
    operator: ConvTranspose
    last: Node


def _search(model: Model) -> Iterator[tuple[Node, _Found | TransposedConvolution | str]]:
    """The transposed convolutions of a model in order, each with what it is, or with why it is left."""
    if not isinstance(model, openvino.Model):
        raise TypeError(f"model must be an openvino.Model, not yet compiled, got {type(model).__name__}")
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == TransposedConvolution.__name__:
            yield node, node
        elif kind in _TYPES:
            try:
                yield node, _read(node)
            except _Refused as refusal:
                yield node, str(refusal)


def _read(node: Node) -> _Found:
    """Read a node's geometry and constants, or raise `_Refused`."""
    kind = node.get_input_element_type(0).get_type_name()
    weight = _constant(node.input_value(1))
    if kind != "f32":
        raise _Refused(f"its element type is {kind}, not f32")
    if weight is None:
        raise _Refused("its weights are not constant")
    if node.get_input_size() > 2:
        raise _Refused("its output's shape is an input")
    attributes, groups = node.get_attributes(), 1
    if attributes["auto_pad"] not in ("explicit", "valid"):
        raise _Refused(f"auto_pad is {attributes['auto_pad']!r}")
    if node.get_type_name() == "GroupConvolutionBackpropData":  # (groups, Cin // groups, Cout // groups, *kernel)
        groups, weight = weight.shape[0], weight.reshape(-1, *weight.shape[2:])
    pads = list(zip(attributes["pads_begin"], attributes["pads_end"], strict=True))
    geometry = {
        "stride": attributes["strides"], "padding": "valid" if attributes["auto_pad"] == "valid" else pads,
        "output_padding": attributes["output_padding"], "dilation": attributes["dilations"], "groups": groups,
    }  # fmt: skip
    bias, last = _bias_after(node, weight.shape[1] * groups)
    try:
        params = make_params(weight.ndim - 2, **geometry)
        return _Found(params, weight, ConvTranspose(weight, bias, **geometry), last)
    except (ValueError, TypeError) as error:
        raise _Refused(str(error)) from None


def _constant(output: Any) -> HostArray | None:
    """The value of an output that depends on constants alone, or None."""
    node = output.get_node()
    if node.get_type_name() == "Constant":
        return np.array(node.data)
    inputs = [_constant(value) for value in node.input_values()]
    if not inputs or any(value is None for value in inputs):
        return None
    if any(made.get_partial_shape().is_dynamic for made in node.outputs()):
        return None
    tensors = [openvino.Tensor(np.ascontiguousarray(value)) for value in inputs]
    results = [openvino.Tensor(made.get_element_type(), made.get_shape()) for made in node.outputs()]
    return np.array(results[output.get_index()].data) if node.evaluate(results, tensors) else None


def _bias_after(node: Node, channels: int) -> tuple[HostArray | None, Node]:
    """What is added to each channel of a node's result, and the node that adds it; else None, and the node."""
    targets = list(node.output(0).get_target_inputs())
    add = targets[0].get_node() if len(targets) == 1 else None
    if add is None or add.get_type_name() != "Add":
        return None, node
    value = _constant(add.input_value(1 - targets[0].get_index()))
    axes = node.get_output_partial_shape(0).rank
    if value is None or axes.is_dynamic or value.ndim > axes.get_length():
        return None, node
    per_channel = value.reshape((1,) * (axes.get_length() - value.ndim) + value.shape)
    if per_channel.size != channels or per_channel.shape[1] != channels or value.dtype != np.float32:
        return None, node
    return per_channel.reshape(channels), add
