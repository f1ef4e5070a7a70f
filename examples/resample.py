"""Resample sound from 44.1 to 48 kHz with `upfirdn`: 160 samples for every 147, through a filter that lets 20 kHz pass.

python examples/resample.py [--quick]
"""

import math
import sys
import time

import numpy as np

from gpu_transconv.signal import upfirdn

OLD, NEW = 44_100, 48_000
up, down = NEW // math.gcd(OLD, NEW), OLD // math.gcd(OLD, NEW)
reach = 40 * up  # of the filter to both sides, in samples of the common rate OLD * up

# A windowed sinc. It is as high as `up`, since the zeros between the samples take that much of the mean away.
time_of_tap = np.arange(-reach, reach + 1) / up
taps = (np.sinc(time_of_tap) * np.kaiser(2 * reach + 1, 8)).astype(np.float32)

seconds = 1 if "--quick" in sys.argv else 20
tones = np.array([[440.0], [9_000.0]])  # one in each channel
old = np.sin(2 * np.pi * tones * np.arange(seconds * OLD) / OLD).astype(np.float32)
upfirdn(taps, old[:, :OLD], up, down)  # compiles
start = time.perf_counter()
new = upfirdn(taps, old, up, down)
took = time.perf_counter() - start

# The filter's middle lies `reach` samples of the common rate after its start: sample m of the result is at this time.
moments = (np.arange(new.shape[1]) * down - reach) / (OLD * up)
inside = (moments > 0.01) & (moments < seconds - 0.01)
error = np.abs(new - np.sin(2 * np.pi * tones * moments))[:, inside].max()
print(
    f"{seconds} s of stereo in {took * 1e3:.0f} ms, {seconds / took:.0f} times as fast as it plays; error {error:.1g}"
)
assert error < 1e-3
