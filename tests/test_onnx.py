"""ONNX's ConvTranspose in its reference evaluator: the backend tests, and random nodes against onnxruntime."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
from checks import refused
from selection import one_of

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import gpu_transconv as gtc  # noqa: E402

#: Versions of the operator, and an opset of each that onnxruntime runs.
OPSETS = {1: 8, 11: 11, 22: 22}
X, W = np.ones((1, 2, 5), np.float32), np.ones((2, 3, 4), np.float32)


def backend_cases() -> list[Any]:
    """ONNX's own node tests of the operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cases of all other operators
        from onnx.backend.test.case.node import collect_testcases

        return [pytest.param(case, id=case.name) for case in collect_testcases("ConvTranspose")]


def model_of(inputs: dict[str, np.ndarray], opset: int = 22, **attributes: Any) -> Any:
    node = helper.make_node("ConvTranspose", [*inputs], ["y"], **attributes)
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in inputs.items()]
    graph = helper.make_graph([node], "one", kinds, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(inputs: dict[str, np.ndarray], opset: int = 22, **attributes: Any) -> np.ndarray:
    session = ReferenceEvaluator(model_of(inputs, opset, **attributes), new_ops=[gtc.onnx.ConvTranspose])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("case", backend_cases())
def test_backend_test(case, launched):
    session = ReferenceEvaluator(case.model, new_ops=[gtc.onnx.ConvTranspose])
    for inputs, outputs in case.data_sets:
        names = [value.name for value in case.model.graph.input]
        (got,) = session.run(None, dict(zip(names, inputs, strict=True)))
        np.testing.assert_allclose(got, outputs[0], rtol=case.rtol, atol=case.atol)
        assert got.dtype == outputs[0].dtype
    assert len(launched) == len(case.data_sets)


def test_there_are_backend_tests():
    assert len(backend_cases()) >= 11


def random_node(draw: random.Random) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the inputs, and attributes, some of them left out."""
    ndim, groups = draw.randint(1, 3), draw.choice((1, 1, 2, 3))
    size, kernel, strides = ([draw.randint(1, most) for _ in range(ndim)] for most in (6, 4, 4))
    dilations, cin, cout = [draw.randint(1, 2) for _ in range(ndim)], groups * draw.randint(1, 3), draw.randint(1, 3)
    given: dict[str, Any] = {"strides": strides, "dilations": dilations, "kernel_shape": kernel}
    given = {name: value for name, value in given.items() if draw.random() < 0.85}
    strides, dilations = given.get("strides", [1] * ndim), given.get("dilations", [1] * ndim)
    extra = [draw.randrange(s) for s in strides] if draw.random() < 0.4 else [0] * ndim
    axes = list(zip(size, strides, dilations, kernel, extra, strict=True))
    full = [(n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in axes]
    given |= {"output_padding": extra} if any(extra) else {}
    given |= {"group": groups} if groups > 1 or draw.random() < 0.5 else {}
    form = draw.choice(("pads", "auto_pad", "output_shape", "output_shape", "none"))
    if form == "pads":
        given["pads"] = [draw.randint(0, (f - 1) // 2) for f in full * 2]
    if form in ("auto_pad", "output_shape"):
        given["auto_pad"] = draw.choice(("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if form == "output_shape":
        given["output_shape"] = [draw.randint(max(1, f - 3), f + 1) for f in full]
    shapes = {"x": (2, cin, *size), "w": (cin, cout, *kernel), "b": (groups * cout,)}
    if draw.random() < 0.5:
        del shapes["b"]
    return shapes, given


def shorter_than_asked(shapes: dict[str, tuple[int, ...]], given: dict[str, Any]) -> list[int]:
    """By how much onnxruntime falls short of ``in*stride``, the size that auto_pad means, on each axis."""
    size, kernel = shapes["x"][2:], shapes["w"][2:]
    ones = [1] * len(size)
    if not given.get("auto_pad", "").startswith("SAME") or "output_shape" in given:
        return [0 for _ in ones]
    rest = (given.get("strides", ones), given.get("dilations", ones), given.get("output_padding", [0] * len(size)))
    return [max(0, s - (d * (k - 1) + 1) - e) for k, s, d, e in zip(kernel, *rest, strict=True)]


@pytest.mark.parametrize("number", one_of(6, range(330)))
def test_random_nodes_against_onnxruntime(number):
    runtime = pytest.importorskip("onnxruntime")
    draw, rng = random.Random(number), np.random.default_rng(number)
    shapes, given = random_node(draw)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    opset = OPSETS[draw.choice((1, 11, 22))]
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    model = model_of(inputs, opset, **given).SerializeToString()
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    got, refusal = run(inputs, opset, **given), ""
    try:
        (want,) = session.run(None, inputs)
    except Exception as error:
        refusal = str(error)
    if refusal:  # of a size beyond what output_padding can add, which we fill with the bias
        assert "Explicit output_sh" in refusal
        assert got.shape[2:] == tuple(given["output_shape"])
        return
    short = shorter_than_asked(shapes, given)
    assert got.shape[2:] == tuple(size + more for size, more in zip(want.shape[2:], short, strict=True))
    inside = (..., *map(slice, want.shape[2:]))
    np.testing.assert_allclose(got[inside], want, atol=1e-5 * max(1, np.abs(want).max()))
    bias = inputs.get("b", np.zeros(got.shape[1], np.float32)).reshape(-1, *[1] * len(short))
    rest = np.ones(got.shape[2:], bool)
    rest[inside[1:]] = False
    np.testing.assert_array_equal(got[:, :, rest], np.broadcast_to(bias, got.shape)[:, :, rest])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes(dtype):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2])
    session = ReferenceEvaluator(node, new_ops=[gtc.onnx.ConvTranspose])
    (got,) = session.run(None, {"x": X.astype(dtype), "w": W.astype(dtype)})
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, gtc.conv_transpose(X, W, stride=2))


@pytest.mark.parametrize(
    ("attributes", "argument", "words"),
    [
        ({"kernel_shape": [3]}, "kernel_shape", ("(4,)", "got (3,)")),
        ({"strides": [1, 1]}, "strides", ("1 spatial axes", "got [1, 1]")),
        ({"strides": [0]}, "stride", (">= 1", "got (0,)")),
        ({"pads": [1]}, "pads", ("two numbers", "got [1]")),
        ({"pads": [-1, 0]}, "padding", ("negative",)),
        ({"group": 4}, "groups", ("divide the 2 input channels", "got 4")),
        ({"output_shape": [4, 4]}, "output_shape", ("1 spatial axes", "[4, 4]")),
        ({"auto_pad": "SAME"}, "auto_pad", ("SAME_UPPER", "'SAME'")),
        ({"output_padding": [1]}, "output_padding", ("smaller", "got 1")),
    ],
)
def test_bad_attributes(attributes, argument, words):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)
    session = ReferenceEvaluator(node, new_ops=[gtc.onnx.ConvTranspose])
    with refused(ValueError, argument, *words):
        session.run(None, {"x": X, "w": W})
