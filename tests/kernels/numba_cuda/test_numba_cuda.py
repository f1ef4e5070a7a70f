"""The Numba-CUDA backend: its tests in the simulator, in their own processes, and what it says where it cannot run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import gpu_transconv as gtc
from gpu_transconv.kernels.numba_cuda import availability

ROOT = Path(__file__).parents[3]
#: Processes into which the simulator's tests are cut, so that pytest-xdist can spread them.
PARTS = 4
SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1", "GPU_TRANSCONV_TEST_BACKENDS": "numba-cuda"}
missing = pytest.mark.skipif(
    sys.platform == "darwin" and importlib.util.find_spec("numba_cuda") is None,
    reason="there is no numba-cuda for macOS",
)


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GPU_TRANSCONV_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        env=inherited | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@missing
@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_in_the_simulator(part):
    arguments = (
        "-m",
        "pytest",
        "tests/simulator",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    )
    done = run_python(*arguments, **SIMULATOR, GPU_TRANSCONV_TEST_PART=f"{part}/{PARTS}")
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) > 120
    assert "skipped" not in done.stdout


@missing
def test_available_in_the_simulator():
    code = "import gpu_transconv as gtc; print(*gtc.backends()['numba-cuda'])"
    assert run_python("-c", code, NUMBA_ENABLE_CUDASIM="1").stdout.split() == ["True", "None"]


def test_unavailable_without_the_package(monkeypatch):
    monkeypatch.setattr(availability, "find_spec", lambda _: None)
    status = availability.status()
    assert "numba-cuda is not installed" in status
    assert "pip install" in status


def fail(words):
    raise RuntimeError(words)


def missing_library(name):
    return lambda library: fail(f"no such {name}") if library == name else None


@missing
@pytest.mark.parametrize(
    ("count", "load", "words"),
    [
        (lambda: fail("no\ndriver"), lambda _: None, ("driver", "(no driver)", "install", "NUMBA_ENABLE_CUDASIM=1")),
        (lambda: 0, lambda _: None, ("sees no device", "CUDA_VISIBLE_DEVICES", "NUMBA_ENABLE_CUDASIM=1")),
        (lambda: 1, missing_library("nvvm"), ("libNVVM", "(no such nvvm)", "pip install nvidia-nvvm", "CUDA_HOME")),
        (lambda: 1, missing_library("nvrtc"), ("NVRTC", "(no such nvrtc)", "pip install nvidia-cuda-nvrtc")),
        (lambda: 1, lambda _: None, None),
    ],
    ids=["driver", "device", "nvvm", "nvrtc", "nothing"],
)
def test_status_names_what_is_missing(count, load, words, monkeypatch):
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(availability, "_count_devices", count)
    monkeypatch.setattr(availability, "_load", load)
    status = availability.status()
    assert status is None if words is None else [word for word in words if word not in status] == []


def test_asking_by_name_says_what_is_missing():
    status = gtc.backends()["numba-cuda"]
    if status:
        pytest.skip("the backend can run here")
    import numpy as np

    x = np.ones((1, 1, 2), np.float32)
    with pytest.raises(gtc.BackendUnavailableError, match=re.escape(status.reason)):
        gtc.conv_transpose1d(x, x, backend="numba-cuda")


@missing
def test_gpu_tests_fail_where_the_gpu_is_missing():
    if gtc.backends()["numba-cuda"]:
        pytest.skip("there is a GPU here")
    arguments = (
        "-m",
        "pytest",
        "tests/kernels/test_kernels.py",
        "-m",
        "gpu",
        "-q",
        "-k",
        "numba-cuda and 1d-plain and float64",
    )
    done = run_python(*arguments, "-p", "no:cacheprovider", "-p", "no:xdist")
    assert done.returncode == 1, done.stdout
    assert "passed" not in done.stdout
    assert "skipped" not in done.stdout
    assert "is not available" in done.stdout


class FakeKernel:
    """Stands for a compiled kernel: notes how it is configured and called, and warns as Numba does of small grids."""

    def __init__(self):
        self.configured, self.calls = [], []

    def __getitem__(self, configuration):
        from numba.cuda.core.errors import NumbaPerformanceWarning

        warnings.warn(NumbaPerformanceWarning("Grid size 1 will likely result in GPU under-utilization"), stacklevel=2)
        self.configured.append(configuration)
        return lambda *arguments: self.calls.append((configuration, arguments))


@missing
def test_launches_are_configured_once_per_stream_and_do_not_warn(monkeypatch):
    from gpu_transconv.kernels.numba_cuda import cuda as module

    monkeypatch.setattr(module, "SIMULATED", False)
    monkeypatch.setattr(module, "stream_at", lambda address: f"stream {address}")
    kernel = FakeKernel()
    for number, stream in enumerate((0, 0, 7, 0, 7)):
        module.launch(kernel, 3, 64, stream, number, "x")
    assert kernel.configured == [(3, 64, "stream 0"), (3, 64, "stream 7")]
    assert [arguments for _, arguments in kernel.calls] == [(number, "x") for number in range(5)]
    assert [configuration[2][-1] for configuration, _ in kernel.calls] == list("00707")
