"""Read the transposed convolutions of an OpenVINO model, and the constants that they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import openvino

from ..arrays import HostArray
from ..prepared import ConvTranspose
from ..problem.arguments import Params, make_params
from .operator import TransposedConvolution

#: Types of OpenVINO, which has none for a type checker.
Model: TypeAlias = Any
Node: TypeAlias = Any

_TYPES = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")


class Refused(Exception):  # noqa: N818
    """Why a node is left as it is."""


@dataclass(frozen=True)
class Found:
    """A transposed convolution that can be replaced, and the node whose result is then computed: it, or its bias."""

    params: Params
    weight: HostArray
    operator: ConvTranspose
    last: Node


def search(model: Model) -> Iterator[tuple[Node, Found | TransposedConvolution | str]]:
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
            except Refused as refusal:
                yield node, str(refusal)


def _read(node: Node) -> Found:
    """Read a node's geometry and constants, or raise `Refused`."""
    kind = node.get_input_element_type(0).get_type_name()
    weight = _constant(node.input_value(1))
    if kind != "f32":
        raise Refused(f"its element type is {kind}, not f32")
    if weight is None:
        raise Refused("its weights are not constant")
    if node.get_input_size() > 2:
        raise Refused("its output's shape is an input")
    attributes, groups = node.get_attributes(), 1
    if attributes["auto_pad"] not in ("explicit", "valid"):
        raise Refused(f"auto_pad is {attributes['auto_pad']!r}")
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
        return Found(params, weight, ConvTranspose(weight, bias, **geometry), last)
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from None


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
