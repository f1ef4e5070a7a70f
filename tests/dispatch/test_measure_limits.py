"""Peaks of CUDA devices from what they say of themselves."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gpu_transconv.dispatch import measure_limits as peaks
from gpu_transconv.dispatch.limits import shipped

#: Compute capability, multiprocessors, boost clock in GHz, and TFLOP/s in float32 and in float16 on the matrix units,
#: dense, as NVIDIA's data sheets have them.
BOARDS = {
    "V100 SXM2": ((7, 0), 80, 1.53, 15.7, 125),
    "T4": ((7, 5), 40, 1.59, 8.1, 65),
    "A100 SXM": ((8, 0), 108, 1.41, 19.5, 312),
    "RTX A6000": ((8, 6), 84, 1.80, 38.7, 154.8),
    "L40S": ((8, 9), 142, 2.52, 91.6, 366),
    "H100 SXM": ((9, 0), 132, 1.83, 66.9, 989),
    "B200": ((10, 0), 148, 1.85, 75, 2250),
}


@pytest.mark.parametrize("board", BOARDS)
def test_peaks_of_known_boards(board):
    capability, units, clock, single, half = BOARDS[board]
    found = peaks.device_peak(capability, units, clock * 1e9, 2)
    assert found["float32"] / 1e3 == pytest.approx(single, rel=0.1)
    assert found["float16"] / 1e3 == pytest.approx(half, rel=0.1)
    assert found["bfloat16"] == found["float16"]
    assert found["float64"] == found["float32"] / 2
    assert found["tf32"] == (found["float16"] / 2 if capability >= (8, 0) else found["float32"])


def test_newer_and_unknown_devices_are_not_taken_for_old_ones():
    """Capabilities are pairs of numbers: 10.0 comes after 9.0, which it does not as a word."""
    lanes = {c: peaks.device_peak(c, 1, 1e9, 1)["float32"] / 2 for c in ((6, 1), (8, 7), (10, 3), (12, 1), (13, 0))}
    assert lanes == {(6, 1): 64, (8, 7): 128, (10, 3): 128, (12, 1): 128, (13, 0): 128}


def test_a_device_is_asked(monkeypatch):
    facts = {"MultiProcessorCount": 148, "ClockRate": 1_850_000, "ComputeCapabilityMajor": 10}
    facts |= {"ComputeCapabilityMinor": 0, "SingleToDoublePrecisionPerfRatio": 2}
    device = SimpleNamespace(attributes=facts, compute_capability="100")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Device=lambda: device)))
    found, units = peaks._cuda_peak(shipped("cuda"))
    assert units == 148
    assert found["float32"] == pytest.approx(70.1e3, rel=0.01)
    assert found == peaks.device_peak((10, 0), 148, 1.85e9, 2)
