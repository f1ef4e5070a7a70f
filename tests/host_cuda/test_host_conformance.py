"""The probes of Hopper's matrix unit in the emulation: what a device is held against, and that they can fail."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from host_checks import edited, requires_compiler
from host_compiler import KERNELS
from host_runner import device_array, run_kernel, tensor_map_bytes, to_device
from selection import one_of

from benchmarks.gpu_check import conformance
from benchmarks.gpu_check.conformance import PROBES, compare

pytestmark = requires_compiler


def run_probe(probe, source=KERNELS / conformance.SOURCE, order=0):
    dtype = np.dtype(ml_dtypes.bfloat16 if probe.dtype == "bfloat16" else probe.dtype)
    a, x = (to_device(array.astype(dtype)) for array in probe.operands())
    image = device_array(probe.columns * 32, np.uint32)
    sums = device_array((64, probe.columns), np.float32)
    tensor = tensor_map_bytes(probe.tensor_map(), x.ctypes.data)
    arguments = [tensor, a, image, sums]
    run_kernel(source, probe.kernel, (1, 1, 1), (128, 1, 1), arguments, probe.shared, order=order, read_by_maps=[x])
    return compare(probe, image, sums, x)


@pytest.mark.parametrize("probe", one_of(3, PROBES), ids=lambda probe: probe.name)
def test_the_emulation_passes(probe):
    for order in range(3):
        assert run_probe(probe, order=order)["status"] == "ok"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [("{part * LINE_BYTES", "{0 * LINE_BYTES", "box"), ("STEP * LINE_BYTES", "STEP * 64", "sums")],
)
def test_what_differs_is_said(old, new, word, tmp_path):
    probe = next(one for one in PROBES if one.across and one.columns == 128)
    found = run_probe(probe, edited(KERNELS / conformance.SOURCE, old, new, tmp_path))
    assert found["status"] == "wrong"
    assert word in found["note"]
