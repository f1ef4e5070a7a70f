"""Libraries for phones as contenders: ncnn, and LiteRT with XNNPACK; imported only when one is built."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from ...arrays import Array, HostArray
from .contenders import Contender, UnsupportedError
from .layers import Layer, Problem

#: ncnn's layers, by the number of axes, and the numbers of their parameters: width, height and depth.
_NCNN_LAYERS = {1: "Deconvolution1D", 2: "Deconvolution", 3: "Deconvolution3D"}
_NCNN_PARAMETERS = {
    "kernel": (1, 11, 21),
    "dilation": (2, 12, 22),
    "stride": (3, 13, 23),
    "before": (4, 14, 24),
    "after": (15, 16, 17),
    "output_padding": (18, 19, 20),
}


class Ncnn(Contender):
    """ncnn on the CPU in float32: one image, channels first."""

    def __init__(self, problem: Problem, threads: int) -> None:
        import ncnn

        layer = problem.layer
        if problem.dtype != "float32" or problem.data_format == "channels_last" or layer.n > 1:
            raise UnsupportedError("it is measured on one image, channels first, in float32")
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = options.use_bf16_packed = False
        self._net.load_param_mem(_ncnn_text(layer))
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder, "layer.bin")
            weights.write_bytes(_ncnn_weights(problem))
            self._net.load_model(str(weights))
        self._x = ncnn.Mat(problem.x[0])
        self._shape = problem.plan.output_shape

    def run(self) -> Array:
        extractor = self._net.create_extractor()
        extractor.input("x", self._x)
        status, result = extractor.extract("y")
        if status:
            raise UnsupportedError(f"its extract() returned {status}")
        return result

    def as_array(self, result: Array) -> Array:
        return np.array(result).reshape(self._shape)


def _ncnn_text(layer: Layer) -> str:
    """One layer between an input and an output, as ncnn writes networks."""
    kind = _NCNN_LAYERS[layer.ndim]
    if layer.groups > 1:
        kind = kind.replace("Deconvolution", "DeconvolutionDepthWise")
    values = {0: layer.cout, 5: 1, 6: layer.cin * layer.cout // layer.groups * int(np.prod(layer.kernel))}
    if layer.groups > 1:
        values[7] = layer.groups
    ends = {"before": layer.padding, "after": layer.padding}
    for name, numbers in _NCNN_PARAMETERS.items():
        values |= zip(numbers, reversed(ends.get(name) or getattr(layer, name)), strict=False)
    parameters = " ".join(f"{number}={value}" for number, value in values.items())
    return f"7767517\n2 2\nInput x 0 1 x\n{kind} layer 1 1 x y {parameters}\n"


def _ncnn_weights(problem: Problem) -> bytes:
    """A word that says float32, the weights with the output channels before the inputs of a group, and the bias."""
    layer = problem.layer
    grouped = problem.weight.reshape(layer.groups, layer.cin // layer.groups, *problem.weight.shape[1:])
    return b"\0\0\0\0" + np.ascontiguousarray(grouped.swapaxes(1, 2)).tobytes() + problem.bias.tobytes()


class LiteRT(Contender):
    """LiteRT's interpreter with its XNNPACK: one or two axes, float32, channels last; input and output are its own."""

    def __init__(self, problem: Problem, threads: int) -> None:
        from ai_edge_litert import schema_py_generated
        from ai_edge_litert.interpreter import Interpreter

        layer = problem.layer
        if problem.dtype != "float32" or layer.ndim > 2 or layer.groups > 1 or set(layer.dilation) != {1}:
            raise UnsupportedError("it takes one or two axes in float32, without groups and dilation")
        model = _TfliteModel(schema_py_generated, problem)
        self._interpreter = Interpreter(model_content=model.serialise(), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], model.x)
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._shape = problem.plan.output_shape
        self.note = ", ".join(model.notes)

    def run(self) -> Array:
        self._interpreter.invoke()
        return self._interpreter

    def as_array(self, result: Array) -> Array:
        return result.get_tensor(self._output).reshape(self._shape)


class _TfliteModel:
    """A problem as TensorFlow Lite writes it, with one spatial axis as the second of two."""

    def __init__(self, schema: ModuleType, problem: Problem) -> None:
        self._schema = schema
        self._buffers = [schema.BufferT()]  # the first one is empty, for tensors without contents
        self._tensors: list[object] = []
        self._shapes: list[Sequence[int]] = []
        self._operators: list[object] = []
        self._codes: list[object] = []
        self.notes: list[str] = []
        layer, last = problem.layer, problem.data_format == "channels_last"
        ones = (1,) * (2 - layer.ndim)
        size, kernel, stride = (ones + axes for axes in (layer.spatial, layer.kernel, layer.stride))
        padding = (0,) * len(ones) + layer.padding
        end = ones + (problem.plan.output_shape[1:-1] if last else problem.plan.output_shape[2:])
        self.x = problem.x.reshape((layer.n, *size, layer.cin) if last else (layer.n, layer.cin, *size))
        first = self._tensor(self.x.shape)
        flow = first if last else self._transpose(first, (0, 2, 3, 1))
        same = all(_is_same(*axis) for axis in zip(size, kernel, stride, padding, end, strict=True))
        whole = end if same else tuple(map(_whole, size, kernel, stride, padding, end))
        weight = problem.weight.reshape(layer.cin, layer.cout, *kernel).transpose(1, 2, 3, 0)
        options = schema.TransposeConvOptionsT()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH, options.strideW = stride
        shape = (layer.n, *whole, layer.cout)
        operands = [self._numbers(shape), self._contents(weight), flow, self._contents(problem.bias)]
        flow = self._operator("TRANSPOSE_CONV", operands, shape, options, version=3)  # the third takes a bias
        if not same:
            flow = self._slice(flow, (0, *padding, 0), (layer.n, *end, layer.cout))
        self._ends = first, flow if last else self._transpose(flow, (0, 3, 1, 2))

    def serialise(self) -> bytes:
        """Return the model as a file has it."""
        import flatbuffers

        graph, model = self._schema.SubGraphT(), self._schema.ModelT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [self._ends[0]], [self._ends[1]]
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self._buffers, self._codes
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, shape: Sequence[int], kind: str = "FLOAT32", buffer: int = 0) -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), getattr(self._schema.TensorType, kind), buffer
        self._tensors.append(tensor)
        self._shapes.append(shape)
        return len(self._tensors) - 1

    def _contents(self, array: HostArray, kind: str = "FLOAT32") -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self._tensor(array.shape, kind, len(self._buffers) - 1)

    def _numbers(self, values: Sequence[int]) -> int:
        return self._contents(np.array(values, np.int32), "INT32")

    def _transpose(self, operand: int, order: Sequence[int]) -> int:
        if "with transpositions" not in self.notes:
            self.notes.append("with transpositions")
        shape = [self._shapes[operand][axis] for axis in order]
        return self._operator("TRANSPOSE", [operand, self._numbers(order)], shape, self._schema.TransposeOptionsT())

    def _slice(self, operand: int, begin: Sequence[int], shape: Sequence[int]) -> int:
        self.notes.append("with a slice")
        operands = [operand, self._numbers(begin), self._numbers(shape)]
        return self._operator("SLICE", operands, shape, self._schema.SliceOptionsT())

    def _operator(self, name: str, operands: list[int], shape: Sequence[int], options: object, version: int = 1) -> int:
        code, operator = self._schema.OperatorCodeT(), self._schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self._schema.BuiltinOperator, name)
        code.version = version
        self._codes.append(code)
        result = self._tensor(shape)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self._codes) - 1, operands, [result]
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType, operator.builtinOptions = getattr(self._schema.BuiltinOptions, kind), options
        self._operators.append(operator)
        return result


def _is_same(size: int, kernel: int, stride: int, padding: int, end: int) -> bool:
    """Whether the padding of an axis is what TensorFlow's "SAME" takes for these sizes."""
    both = (size - 1) * stride + kernel - end
    return -(-end // stride) == size and both >= 0 and both // 2 == padding


def _whole(size: int, kernel: int, stride: int, padding: int, end: int) -> int:
    """Size of an axis without padding, from which the result is a slice."""
    return max((size - 1) * stride + kernel, padding + end)
