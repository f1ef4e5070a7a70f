"""Make a model for OpenVINO faster: its transposed convolutions run in this package's kernels, of any length.

    python examples/openvino_model.py [--quick]

`openvino.Core().read_model("decoder.onnx")` reads one from ONNX in the same way.
"""

import sys
import time

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from gpu_transconv.openvino import accelerate, explain


def decoder():
    """Upsampling by 8, 5, 4 and 2, as an audio codec has it; the weights are random."""
    rng, channels = np.random.default_rng(0), 256
    x = y = ops.parameter([1, channels, -1], np.float32)
    for ratio in (8, 5, 4, 2):
        weight = rng.standard_normal((channels, channels // 2, 2 * ratio)) / np.sqrt(channels)
        crop = [(ratio + 1) // 2], [ratio // 2]
        y = ops.convolution_backprop_data(ops.elu(y, 1.0), weight.astype(np.float32), [ratio], None, *crop)
        channels //= 2
    return ov.Model([y], [x])


exact = {"INFERENCE_PRECISION_HINT": "f32"}
own = ov.compile_model(decoder(), "CPU", exact)
model = accelerate(decoder())
print(explain(model))
ours = ov.compile_model(model, "CPU", exact)

for frames in (8, 75) if "--quick" in sys.argv else (8, 75, 150, 300):
    x = np.random.default_rng(1).standard_normal((1, 256, frames)).astype(np.float32)
    times = {own: [], ours: []}
    for _ in range(5):  # in turns
        for compiled in times:
            start = time.perf_counter()
            compiled([x])
            times[compiled].append(time.perf_counter() - start)
    before, after = (1e3 * min(seconds) for seconds in times.values())
    expected, found = own([x])[0], ours([x])[0]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    print(f"{frames} frames: OpenVINO {before:.2f} ms, with these operators {after:.2f} ms")
