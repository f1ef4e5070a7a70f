"""The Numba-CUDA backend: its tests in the simulator, in their own processes, and what it says where it cannot run."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpu_transconv as gtc
from gpu_transconv.kernels.numba_cuda import memory

TESTS = Path(__file__).parent
#: Processes into which the simulator's tests are cut, so that pytest-xdist can spread them.
PARTS = 8
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
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@missing
@pytest.mark.parametrize("part", range(PARTS))
def test_in_the_simulator(part):
    arguments = (
        "-m",
        "pytest",
        "tests/simulator",
        "-m",
        "",
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
    assert int(passed[1]) > 60
    assert "skipped" not in done.stdout


@missing
def test_available_in_the_simulator():
    code = "import gpu_transconv as gtc; print(*gtc.backends()['numba-cuda'])"
    assert run_python("-c", code, NUMBA_ENABLE_CUDASIM="1").stdout.split() == ["True", "None"]


def test_unavailable_without_the_package(monkeypatch):
    monkeypatch.setattr(memory, "find_spec", lambda _: None)
    status = memory.status()
    assert "numba-cuda is not installed" in status
    assert "pip install" in status


class FakeCuda:
    """What `status` asks of numba.cuda."""

    def __init__(self, error=None, devices=()):
        self.error, self.gpus = error, devices

    def cuda_error(self):
        return self.error

    def is_available(self):
        return self.error is None


@missing
@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (FakeCuda(error="CUDA driver library\ncannot be found"), ("CUDA driver library cannot be found", "install")),
        (FakeCuda(), ("sees no device", "CUDA_VISIBLE_DEVICES")),
    ],
    ids=["driver", "device"],
)
def test_unavailable_without(cuda, words, monkeypatch):
    from gpu_transconv.kernels.numba_cuda import cuda as module

    monkeypatch.setattr(module, "cuda", cuda)
    monkeypatch.setattr(module, "SIMULATED", False)
    status = memory.status()
    assert [word for word in (*words, "NUMBA_ENABLE_CUDASIM=1") if word not in status] == []
    monkeypatch.setattr(module, "cuda", FakeCuda(devices=("one",)))
    assert memory.status() is None


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
        "tests/test_kernels.py",
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
