"""The converters of docs/guide/padding.md against the libraries whose words they translate."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import gpu_transconv as gtc

PAGE = Path(__file__).resolve().parents[1] / "docs" / "guide" / "padding.md"
if not PAGE.exists():
    pytest.skip("the pages are part of the checkout, not of the package", allow_module_level=True)


@pytest.fixture(scope="module")
def page():
    """Names that the page's examples define."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    names = {}
    for example in doctest.DocTestParser().get_examples(code):
        exec(example.source, names)
    return names


def geometries(seed, count=50):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        kernel, stride, dilation, size = (int(rng.integers(*ends)) for ends in ((1, 6), (1, 4), (1, 3), (1, 7)))
        yield rng, kernel, stride, dilation, size


@pytest.mark.parametrize("kind", ["SAME", "VALID", "pairs"])
def test_jax(page, kind):
    jax = pytest.importorskip("jax")
    for rng, kernel, stride, dilation, size in geometries(1):
        span = page["span_of"](kernel, dilation)
        low = int(rng.integers(0, span))
        padding = kind if kind != "pairs" else (low, int(rng.integers(max(0, span - 1 - low), span + stride - 1)))
        x, weight = rng.integers(-4, 5, (1, 2, size)), rng.integers(-4, 5, (kernel, 2, 3))
        expected = jax.lax.conv_transpose(
            x.astype(np.float32), weight.astype(np.float32), (stride,), padding if kind != "pairs" else [padding],
            rhs_dilation=(dilation,), dimension_numbers=("NCH", "HIO", "NCH"),
        )  # fmt: skip
        if 0 in expected.shape:
            continue
        keywords = page["from_jax"](padding, kernel, stride, dilation)
        found = gtc.conv_transpose1d(x.astype(np.float32), weight[::-1].transpose(1, 2, 0).astype(np.float32),
                                     stride=stride, dilation=dilation, **keywords)  # fmt: skip
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on JAX: its words mean the same on every backend."""
    pytest.importorskip("jax")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        return pytest.importorskip("keras")


@pytest.mark.parametrize("kind", ["valid", "same"])
def test_keras(page, keras, kind):
    for rng, kernel, stride, dilation, size in geometries(3, 15):
        if stride > 1 < dilation:
            continue  # Keras refuses it
        x = rng.integers(-4, 5, (1, size, 2)).astype(np.float32)
        weight = rng.integers(-4, 5, (kernel, 3, 2)).astype(np.float32)
        keywords = {"padding": "same"}
        if kind == "valid":
            keywords = {"padding": 0, "output_padding": max(stride - page["span_of"](kernel, dilation), 0)}
        expected = keras.ops.conv_transpose(x, weight, stride, kind, dilation_rate=dilation)
        found = gtc.conv_transpose1d(x, weight.transpose(2, 1, 0), stride=stride, dilation=dilation,
                                     data_format="channels_last", **keywords)  # fmt: skip
        np.testing.assert_array_equal(found, expected, err_msg=str((kernel, stride, dilation, size)))


@pytest.mark.parametrize("kind", ["pads", "SAME_UPPER", "SAME_LOWER", "output_shape"])
def test_onnx(page, kind):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    for rng, kernel, stride, dilation, size in geometries(2):
        span = page["span_of"](kernel, dilation)
        whole = (size - 1) * stride + span
        given = {"kernel": kernel, "stride": stride, "dilation": dilation}
        attributes = {"strides": [stride], "dilations": [dilation], "kernel_shape": [kernel]}
        if kind == "pads":
            given["pads"] = tuple(int(end) for end in rng.integers(0, max(1, (whole - 1) // 2 + 1), 2))
            given["output_padding"] = int(rng.integers(0, stride))
            attributes |= {"pads": list(given["pads"]), "output_padding": [given["output_padding"]]}
        elif kind == "output_shape":
            given |= {"output_shape": int(rng.integers(1, whole + 1)), "size": size}
            attributes["output_shape"] = [given["output_shape"]]
        else:
            if span < stride:
                continue  # onnxruntime refuses it
            given["auto_pad"] = attributes["auto_pad"] = kind
        x, weight = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((1, 2, size), (2, 3, kernel)))
        keywords = page["from_onnx"](**given)
        found = gtc.conv_transpose1d(x, weight, stride=stride, dilation=dilation, **keywords)
        node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xwy"]
        graph = onnx.helper.make_graph([node], "one", values[:2], values[2:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(found, session.run(None, {"x": x, "w": weight})[0], err_msg=str(given))
