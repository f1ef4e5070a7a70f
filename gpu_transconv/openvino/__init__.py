"""Transposed convolutions of OpenVINO models in the package's CPU kernels: as operators in Python, packed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import missing_library
from ..kernels.cpu.runtime import threads
from ..problem.shapes import Shape
from ..settings import most_threads

try:
    from openvino.utils import replace_node
except ImportError as error:
    raise missing_library("OpenVINO", "openvino") from error

from .operator import Layer, TransposedConvolution
from .read import Found, Model, search

__all__ = ["Explanation", "Row", "accelerate", "explain"]


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


def accelerate(model: Model) -> Model:
    """Replace the transposed convolutions of a model by operators of this package, in place.

    (Group)ConvolutionBackpropData nodes in float32 with constant weights become operators in Python whose weights are
    packed once; a bias that is added next becomes part of them. Dynamic shapes stay dynamic. All else stays as it is:
    `explain` says why. Compile the model for the CPU afterwards. The operators live in this process: such a model
    cannot be saved.

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
    threads.layer()  # settled in a thread of OpenVINO's, which is bound to a processor, it would know of no other
    for node, found in search(model):
        if isinstance(found, Found):
            layer = Layer(found.params, found.weight.shape, found.operator, most_threads())
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
    for node, found in search(model):
        shape: Shape | None = None
        if isinstance(found, TransposedConvolution):
            shape, reason = found.weight_shape, "replaced"
        elif isinstance(found, Found):
            bias = ", with its bias" if found.last is not node else ""
            shape, reason = found.weight.shape, f"can be replaced{bias}"
        else:
            weight = node.input(1).get_partial_shape()
            shape = tuple(weight.to_shape()) if weight.is_static else None
            reason = f"left: {found}"
        rows.append(Row(node.get_friendly_name(), shape, reason == "replaced", reason))
    return Explanation(tuple(rows))
