"""The other libraries as contenders, each set up as suits it best; imported only when one is built."""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import Array, HostArray
from .contenders import Build, Contender, UnsupportedError
from .layers import Problem
from .mobile import LiteRT, Ncnn

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Torch(Contender):
    """torch.nn.functional.conv_transpose under inference_mode."""

    def __init__(self, problem: Problem, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        ndim = problem.layer.ndim
        self._dtype = problem.dtype
        self._function = getattr(torch.nn.functional, f"conv_transpose{ndim}d")
        self._geometry = problem.layer.geometry
        self._mode = torch.inference_mode
        self._last = problem.data_format == "channels_last"
        self._x, self._weight, self._bias = (self._tensor(torch, a) for a in (problem.x, problem.weight, problem.bias))
        if self._last:
            self._x = self._x.movedim(-1, 1)
            memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}.get(ndim)
            if memory_format is None:
                self.note = "with transpositions"
            else:
                self._weight = self._weight.to(memory_format=memory_format)

    def _tensor(self, torch: ModuleType, array: HostArray) -> Array:
        if self._dtype == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def run(self) -> Array:
        with self._mode():
            result = self._function(self._x, self._weight, self._bias, **self._geometry)
            # No copy where torch has a channels_last memory format.
            return result.movedim(1, -1).contiguous() if self._last else result

    def as_array(self, result: Array) -> Array:
        if self._dtype == "bfloat16":
            import ml_dtypes
            import torch

            return result.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return result.numpy()


class OnnxRuntime(Contender):
    """onnxruntime's CPU provider, weights as initialisers; the output fresh or bound to a reused one."""

    def __init__(self, problem: Problem, threads: int, *, reuse: bool = False) -> None:
        if problem.dtype != "float32":
            raise UnsupportedError(f"its ConvTranspose takes no {problem.dtype}")
        self.note = _transposition_note(problem)
        self._session = _onnxruntime_session(problem, threads)
        self._feeds = {"x": problem.x}
        self._out = None
        if reuse:
            self._out = np.empty(problem.plan.output_shape, problem.dtype)
            self._binding = self._session.io_binding()
            self._binding.bind_cpu_input("x", problem.x)
            self._binding.bind_output("y", "cpu", 0, self._out.dtype, self._out.shape, self._out.ctypes.data)

    def run(self) -> Array:
        if self._out is None:
            return self._session.run(None, self._feeds)[0]
        self._session.run_with_iobinding(self._binding)
        return self._out

    def poison(self) -> None:
        if self._out is not None:
            self._out.fill(np.nan)


class OpenVino(Contender):
    """OpenVINO's CPU plugin, tuned for latency, no copies of the input or of its own reused output."""

    def __init__(self, problem: Problem, threads: int) -> None:
        # Without its usage reports: they fork this process beside what is timed.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
        import openvino.properties as properties
        import openvino.properties.hint as hints

        if problem.dtype == "float64":
            raise UnsupportedError("it computes float64 in float32")
        types = {name: getattr(openvino.Type, short) for name, short in _OPENVINO_TYPES.items()}
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(onnx_model(problem)),
            "CPU",
            {
                hints.inference_precision: types[problem.dtype],
                hints.performance_mode: hints.PerformanceMode.LATENCY,
                properties.inference_num_threads: threads,
            },
        )
        self.note = _transposition_note(problem)
        self._bfloat16 = problem.dtype == "bfloat16"
        self._request = compiled.create_infer_request()
        if self._bfloat16:
            bits, shape = problem.x.view(np.int16), openvino.Shape(problem.x.shape)
            self._request.set_input_tensor(openvino.Tensor(bits, shape, openvino.Type.bf16))
        else:
            self._request.set_input_tensor(openvino.Tensor(problem.x, shared_memory=True))

    def run(self) -> Array:
        self._request.infer(share_inputs=True, share_outputs=True)
        return self._request.get_output_tensor().data

    def as_array(self, result: Array) -> Array:
        if self._bfloat16:
            import ml_dtypes

            return result.view(ml_dtypes.bfloat16)
        return result


_OPENVINO_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def _transposition_note(problem: Problem) -> str:
    return "with transpositions" if problem.data_format == "channels_last" else ""


@lru_cache(maxsize=1)
def _onnxruntime_session(problem: Problem, threads: int) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(onnx_model(problem), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def onnx_model(problem: Problem) -> bytes:
    """Serialise a model of one ConvTranspose, between transpositions where the layout is channels_last."""
    from onnx import helper, numpy_helper

    layer, last = problem.layer, problem.data_format == "channels_last"
    nodes = [
        helper.make_node(
            "ConvTranspose",
            ["first" if last else "x", "weight", "bias"],
            ["result" if last else "y"],
            strides=layer.stride,
            pads=layer.padding * 2,
            output_padding=layer.output_padding,
            dilations=layer.dilation,
            group=layer.groups,
        )
    ]
    if last:
        axes = range(1, layer.ndim + 1)
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["first"], perm=[0, layer.ndim + 1, *axes]))
        nodes.append(helper.make_node("Transpose", ["result"], ["y"], perm=[0, *(a + 1 for a in axes), 1]))
    element = helper.np_dtype_to_tensor_dtype(problem.x.dtype)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, problem.x.shape)],
        [helper.make_tensor_value_info("y", element, problem.plan.output_shape)],
        [numpy_helper.from_array(problem.weight, "weight"), numpy_helper.from_array(problem.bias, "bias")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


PEERS: dict[str, Build] = {
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "onnxruntime_out": partial(OnnxRuntime, reuse=True),
    "openvino": OpenVino,
    "ncnn": Ncnn,
    "litert": LiteRT,
}
