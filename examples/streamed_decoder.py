"""An audio decoder that plays while it decodes: every layer is a stream, and nothing is overlapped or cut by hand.

The layers are those of a codec such as EnCodec: upsampling by 8, 5, 4 and 2 with a residual branch after each. All are
causal, so each frame of codes becomes its 320 samples at once. The weights here are random.

    python examples/streamed_decoder.py [--quick]
"""

import math
import sys
import time

import numpy as np
from rich.progress import track

import gpu_transconv as gtc

rng = np.random.default_rng(0)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def layer(cin, cout, kernel, stride=1):
    """Weights, bias and geometry; with stride 1 it is a convolution, whose end is cut off to make it causal."""
    weight = rng.standard_normal((cin, cout, kernel), np.float32) / math.sqrt(cin * kernel / stride)
    bias = rng.standard_normal(cout, np.float32) / 10
    return weight, bias, {"stride": stride, "padding": [(0, kernel - stride)]}


LAYERS = [layer(128, 512, 7)]
for channels, stride in ((512, 8), (256, 5), (128, 4), (64, 2)):
    half = channels // 2
    LAYERS += [layer(channels, half, 2 * stride, stride), layer(half, half // 2, 3), layer(half // 2, half, 1)]
LAYERS += [layer(32, 1, 7)]


def decode(layers, codes):
    first, *blocks, last = layers
    x = first(codes)
    for up, narrow, wide in zip(*[iter(blocks)] * 3, strict=True):
        x = up(elu(x))
        x = x + wide(elu(narrow(elu(x))))
    return np.tanh(last(elu(x)))


frames = 15 if "--quick" in sys.argv else 375  # 75 of them are a second
codes = rng.standard_normal((1, 128, frames), np.float32)
streams = [gtc.StreamingConvTranspose(weight, bias, **geometry) for weight, bias, geometry in LAYERS]
decode([stream.copy() for stream in streams], codes[:, :, :3])  # compiles
start = time.perf_counter()
audio = [decode(streams, codes[:, :, i : i + 1]) for i in track(range(frames), "decoding")]
seconds = time.perf_counter() - start
whole = decode([gtc.ConvTranspose(weight, bias, **geometry) for weight, bias, geometry in LAYERS], codes)
error = np.abs(np.concatenate(audio, 2) - whole).max()
print(f"{seconds / frames * 1e3:.1f} ms a frame of 13.3 ms; {error:.1g} from the whole decode; delay 0 samples")
assert error < 1e-4
