"""OpenVINO models with their transposed convolutions replaced: equal to OpenVINO's own, shapes dynamic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from checks import refused

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.runtime import threads

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from gpu_transconv.openvino import accelerate, explain  # noqa: E402

#: One thread and float32, which newer processors would not take by themselves.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


class Graph:
    """An ONNX model in the making."""

    def __init__(self) -> None:
        self.rng, self.nodes, self.weights, self.count = np.random.default_rng(3), [], [], 0

    def weight(self, *shape: int) -> str:
        scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 1.0
        values = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        self.count += 1
        self.nodes.append(helper.make_node(kind, inputs, [f"v{self.count}"], name=f"n{self.count}", **attributes))
        return f"v{self.count}"

    def conv(self, x: str, cin: int, cout: int, ndim: int, stride: int = 1) -> str:
        size = {"kernel_shape": [3] * ndim, "pads": [1] * 2 * ndim, "strides": [stride] * ndim}
        return self.add("Relu", self.add("Conv", x, self.weight(cout, cin, *[3] * ndim), self.weight(cout), **size))

    def up(self, x: str, cin: int, cout: int, kernel: list[int], **attributes: object) -> str:
        groups = attributes.get("group", 1)
        weights = self.weight(cin, cout // groups, *kernel), self.weight(cout)
        return self.add("ConvTranspose", x, *weights, kernel_shape=kernel, **attributes)

    def model(self, y: str, *shape: object) -> object:
        """Read by OpenVINO from ONNX."""
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), (y, None)))
        made = helper.make_model(
            helper.make_graph(self.nodes, "g", [x], [y], self.weights),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        return openvino.Core().read_model(made.SerializeToString())


def decoder() -> object:
    """A 1-D decoder as codecs have it, of any length: crops in the layer, one of them on one side."""
    g = Graph()
    x, channels = "x", 32
    for stride, pads in ((8, [4, 4]), (5, [2, 3]), (2, [0, 2])):
        x = g.up(g.add("Elu", x), channels, channels // 2, [2 * stride], strides=[stride], pads=pads)
        channels //= 2
    return g.model(g.add("Tanh", x), "n", 32, "length")


def u_net(ndim: int) -> object:
    """Two levels, with kernels of the stride and of twice that, groups and output padding."""
    g = Graph()
    first = g.conv("x", 2, 8, ndim)
    second = g.conv(first, 8, 16, ndim, stride=2)
    third = g.conv(second, 16, 32, ndim, stride=2)
    stride = [2] * ndim
    up = g.up(third, 32, 16, [2] * ndim, strides=stride)
    up = g.conv(g.add("Concat", up, second, axis=1), 32, 16, ndim)
    odd = {"pads": [1] * 2 * ndim, "output_padding": [1] * ndim}
    up = g.up(up, 16, 8, [3] * ndim, strides=stride, group=2, **odd)
    return g.model(g.conv(g.add("Concat", up, first, axis=1), 16, 3, ndim), "n", 2, *SIZES[ndim])


#: Names of the dynamic sizes of a picture and of a volume.
SIZES = {2: ("height", "width"), 3: ("depth", "height", "width")}
MODELS: dict[str, tuple[Callable[[], object], list[tuple[int, ...]]]] = {
    "decoder": (decoder, [(1, 32, n) for n in (75, 8, 1, 150)] + [(2, 32, 33)]),
    "2-D U-Net": (lambda: u_net(2), [(1, 2, 16, 16), (1, 2, 32, 8), (2, 2, 8, 8), (1, 2, 4, 20), (3, 2, 12, 24)]),
    "3-D U-Net": (
        lambda: u_net(3), [(1, 2, 8, 8, 8), (1, 2, 4, 8, 12), (1, 2, 16, 4, 4), (1, 2, 8, 16, 8), (2, 2, 4, 4, 4)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_are_equal(name):
    make, shapes = MODELS[name]
    own, ours = make(), accelerate(make())
    assert [row.reason for row in explain(ours).rows] == ["replaced"] * len(explain(own).rows)
    assert ours.output(0).partial_shape.rank == own.output(0).partial_shape.rank
    own, ours = (openvino.compile_model(model, "CPU", EXACT) for model in (own, ours))
    for shape in shapes:
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        expected, found = own([x])[0], ours([x])[0]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_two_requests_at_the_same_time():
    own = openvino.compile_model(decoder(), "CPU", EXACT)
    ours = openvino.compile_model(accelerate(decoder()), "CPU", EXACT | {"NUM_STREAMS": 2})
    requests = [ours.create_infer_request() for _ in range(2)]
    rng = np.random.default_rng(2)
    for _ in range(5):
        inputs = [rng.standard_normal((1, 32, n)).astype(np.float32) for n in (40, 64)]
        for request, x in zip(requests, inputs, strict=True):
            request.start_async([x])
        for request, x in zip(requests, inputs, strict=True):
            request.wait()
            expected = own([x])[0]
            assert np.abs(request.get_output_tensor().data - expected).max() <= 1e-5 * np.abs(expected).max()


def test_bias_becomes_part_of_the_operator(launched):
    model = accelerate(decoder())
    assert "Add" not in [node.get_type_name() for node in model.get_ops()]
    openvino.compile_model(model, "CPU", EXACT)([np.ones((1, 32, 4), np.float32)])
    assert [name.split("/")[0] for name in launched] == ["cpu"] * 3


@pytest.mark.parametrize("shape", [(2, 5), (1, 3, 1), (1, 1, 5), (1,)])
def test_what_is_added_is_a_bias_only_if_each_channel_has_a_value(shape):
    def model() -> object:
        x = ops.parameter([2, 2, 3], np.float32)
        y = ops.convolution_backprop_data(x, np.arange(12, dtype=np.float32).reshape(2, 3, 2), [2], output_padding=[0])
        y = ops.pad(y, [0, 0, 0], [0, 0, 0], "constant")
        return openvino.Model([ops.add(y, np.ones(shape[-1:] if shape[-1] in (1, 6) else (1,), np.float32))], [x])

    x = np.ones((2, 2, 3), np.float32)
    own, ours = (openvino.compile_model(m, "CPU", EXACT)([x])[0] for m in (model(), accelerate(model())))
    assert np.array_equal(own, ours)


def test_shapes_that_are_partly_known():
    x = ops.parameter(openvino.PartialShape("?,3,5,2..7,?"), openvino.Type.f32)
    y = ops.convolution_backprop_data(x, np.ones((3, 4, 3, 3, 3), np.float32), [2] * 3, pads_begin=[1] * 3)
    before = openvino.Model([y], [x]).output(0).partial_shape
    model = accelerate(openvino.Model([y], [x]))
    assert model.output(0).partial_shape == before
    model.reshape([1, 3, 5, 6, 7])
    assert list(model.output(0).shape) == [1, 4, 10, 12, 14]


def left(**changes: object) -> object:
    """A model with one transposed convolution that cannot be replaced."""
    kind = changes.get("kind", np.float32)
    x, weight = ops.parameter([1, 2, 5], kind), ops.constant(np.ones((2, 3, 4), kind))
    parameters = [x]
    if changes.get("weight_is_input"):
        weight = ops.parameter([2, 3, 4], kind)
        parameters.append(weight)
    shape = changes.get("output_shape")
    y = ops.convolution_backprop_data(
        x, weight, [2], None if shape is None else ops.constant(np.array(shape)), [0], [0], [1],
        auto_pad=changes.get("auto_pad", "explicit"), name="up",
    )  # fmt: skip
    return openvino.Model([y], parameters)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": np.float16}, "element type is f16"),
        ({"weight_is_input": True}, "weights are not constant"),
        ({"output_shape": [11]}, "output's shape is an input"),
        ({"auto_pad": "same_upper"}, "auto_pad is 'same_upper'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_left_and_why(changes, reason):
    model = left(**changes)
    accelerate(model)
    [row] = explain(model).rows
    assert (row.name, row.weight, row.replaced) == ("up", (2, 3, 4), False)
    assert row.reason.startswith("left: ")
    assert reason in row.reason
    assert str(explain(model)).startswith("up")


def test_constants_that_are_computed_are_constant():
    """Weights in float16 that are converted, as compressed models have them."""

    def model() -> object:
        x = ops.parameter([1, 2, -1], np.float32)
        halves = (np.arange(24) / 7).reshape(2, 3, 4).astype(np.float16)
        return openvino.Model([ops.convolution_backprop_data(x, ops.convert(halves, "f32"), [2])], [x])

    x = np.ones((1, 2, 5), np.float32)
    replaced = accelerate(model())
    assert [row.replaced for row in explain(replaced).rows] == [True]
    own, ours = (openvino.compile_model(m, "CPU", EXACT)([x])[0] for m in (model(), replaced))
    assert np.abs(own - ours).max() <= 1e-5 * np.abs(own).max()


@pytest.mark.parametrize("function", [accelerate, explain])
def test_what_is_no_model_is_refused(function):
    with refused(TypeError, "model must be an openvino.Model", "got str"):
        function("model.onnx")


def test_a_model_without_transposed_convolutions():
    x = ops.parameter([1, 2], np.float32)
    model = openvino.Model([ops.relu(x)], [x])
    assert accelerate(model) is model
    assert str(explain(model)) == "no transposed convolution"


def test_threads_are_those_of_the_block(monkeypatch):
    seen = []
    layer = gtc.ConvTranspose.__call__
    from gpu_transconv.settings import most_threads

    monkeypatch.setattr(gtc.ConvTranspose, "__call__", lambda *a: seen.append(most_threads()) or layer(*a))
    with gtc.use(threads=1):
        model = accelerate(decoder())
    openvino.compile_model(model, "CPU", EXACT)([np.ones((1, 32, 4), np.float32)])
    assert seen == [1, 1, 1]


THREADS = """
import numba, numpy as np, openvino as ov
from openvino import opset13 as ops
from gpu_transconv.openvino import accelerate

x = ops.parameter([1, 1, -1], np.float32)
accelerate(ov.Model([ops.convolution_backprop_data(x, np.ones((1, 1, 2), np.float32), strides=[2])], [x]))
print(numba.threading_layer())
"""


def test_threads_are_those_of_the_thread_that_accelerates():
    """Settled in the first inference, the layer would have the one processor that OpenVINO binds a thread to."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [threads.layer()]
