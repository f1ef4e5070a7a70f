"""The gradients are the same to the last bit for any number of threads and from run to run, in both formulations."""

from __future__ import annotations

import pytest
from test_threads import python

BITS = """
import hashlib, math, sys
import numba
import numpy as np
import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.runtime import parallel

started = []
real = parallel.on_threads
parallel.on_threads = lambda *arguments: started.append(1) or real(*arguments)

# x, weight, stride, padding, dilation, groups: each is worth several threads.
TABLE = [
    ((2, 19, 33, 45), (19, 21, 4, 4), 2, 1, 1, 1),  # tiles
    ((1, 40, 4000), (40, 24, 4), 2, 1, 1, 1),  # pieces
    ((1, 40, 20000), (40, 24, 4), 2, 0, 1, 1),
    ((3, 64, 40, 40), (64, 3, 4, 4), 2, 1, 1, 1),  # lines of pixels
    ((1, 32, 24, 24, 24), (32, 2, 3, 3, 3), 2, 1, 1, 1),
    ((1, 200, 800), (200, 1, 3), 2, 1, 1, 200),  # depthwise
    ((1, 64, 40, 48), (64, 1, 4, 4), 2, 1, 1, 64),
    ((1, 3, 200, 300), (3, 1, 3, 3), 2, 1, 1, 3),
    ((1, 256, 3, 3, 3), (256, 96, 2, 2, 2), 2, 0, 1, 1),  # few pixels
    ((1, 256, 500), (256, 24, 8), 4, 2, 1, 1),
    ((2, 200, 9, 21), (200, 33, 3, 3), 1, 1, 2, 1),
    ((64, 100, 1, 1), (100, 64, 4, 4), 1, 0, 1, 1),
    ((2, 48, 20, 20), (48, 12, 3, 5), (2, 3), (0, 2), (2, 1), 2),
    ((1, 96, 30, 30), (96, 1, 9, 9), 3, 3, 1, 1),
    ((1, 8, 4, 4), (8, 6, 64, 64), 32, 0, 1, 1),  # taps as rows
    ((1, 30, 20), (30, 1, 2000), 200, 0, 1, 1),
]
LAST = [1, 5, 6, 7, 9, 10]  # those that run with the channels last too

def calls(formulation):
    rng = np.random.default_rng(0)
    for number, (x, weight, stride, padding, dilation, groups) in enumerate(TABLE):
        for data_format in ("channels_first", "channels_last")[: 1 + (number in LAST)]:
            geometry = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, data_format=data_format)
            keywords = dict(backend="cpu", formulation=formulation)
            arrays = [rng.standard_normal(shape).astype("f4") for shape in (x, weight)]
            if data_format == "channels_last":
                arrays[0] = np.ascontiguousarray(np.moveaxis(arrays[0], 1, -1))
            shape = gtc.explain(arrays[0].shape, weight, **geometry).output_shape
            grad = rng.standard_normal(shape).astype("f4")
            sizes = x[2:]
            yield gtc.conv_transpose_weight_grad(arrays[0], grad, kernel_size=weight[2:], **geometry, **keywords)
            yield gtc.conv_transpose_input_grad(grad, arrays[1], input_size=sizes, **geometry, **keywords)

for threads in map(int, sys.argv[2:]):
    numba.set_num_threads(threads)
    del started[:]
    print(hashlib.sha256(b"".join(result.tobytes() for result in calls(sys.argv[1]))).hexdigest())
    assert len(started) >= 40 * (threads > 1), len(started)
"""


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_the_number_of_threads_does_not_change_a_bit_of_a_gradient(formulation):
    digests = python(BITS, formulation, "1", "2", "3", NUMBA_NUM_THREADS="3").split()
    assert len(digests) == 3
    assert len(set(digests)) == 1
