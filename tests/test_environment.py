"""Garbage in the environment: refused in words that name the variable, or without effect on the result."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from checks import refused

import gpu_transconv as gtc
from gpu_transconv.dispatch import device
from gpu_transconv.dispatch.select import invalidate
from gpu_transconv.kernels.cpu.runtime import requirements

X, WEIGHT = np.ones((1, 5, 3)), np.ones((5, 5, 2))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DISABLE_JIT", 1, ["NUMBA_DISABLE_JIT is set", "unset it", "GPU_TRANSCONV_BACKEND=reference"]),
        ("NUMBA_NUM_THREADS", 0, ["NUMBA_NUM_THREADS must be a number >= 1, got 0"]),
        ("NUMBA_NUM_THREADS", -3, ["NUMBA_NUM_THREADS must be a number >= 1, got -3"]),
        ("CPU_FEATURES", "abacus", ["NUMBA_CPU_FEATURES must be names after + or -", "got 'abacus'"]),
        ("CPU_FEATURES", "+avx,avx2", ["NUMBA_CPU_FEATURES must be names after + or -", "got '+avx,avx2'"]),
        ("THREADING_LAYER", "abacus", ["NUMBA_THREADING_LAYER must be one of tbb, omp", "got 'abacus'"]),
        ("THREADING_LAYER_PRIORITY", [], ["NUMBA_THREADING_LAYER_PRIORITY must be tbb, omp, workqueue", "got ''"]),
        ("THREADING_LAYER_PRIORITY", ["tbb", "tbb", "omp"], ["in some order, got 'tbb tbb omp'"]),
    ],
)
def test_what_numba_makes_of_a_variable_is_checked(monkeypatch, name, value, words):
    monkeypatch.setattr(requirements.config, name, value)
    invalidate()
    try:
        status = gtc.backends()["cpu"]
        assert not status.available
        for word in words:
            assert word in status.reason
        for keywords, start in (({"backend": "cpu"}, "backend 'cpu' is not available"), ({}, "no backend for arrays")):
            with refused(gtc.BackendUnavailableError, start, *words):
                gtc.conv_transpose(X, WEIGHT, **keywords)
        assert gtc.conv_transpose(X, WEIGHT, backend="reference").shape == (1, 5, 4)
    finally:
        invalidate()


def test_a_layer_that_cannot_be_loaded(monkeypatch):
    monkeypatch.setattr(requirements.config, "THREADING_LAYER", "omp")
    monkeypatch.setitem(sys.modules, "numba.np.ufunc.omppool", None)
    assert "NUMBA_THREADING_LAYER=omp cannot be loaded" in requirements.unmet()


@pytest.mark.parametrize("layer", ["tbb", "TBB", "omp", "workqueue", "default", "safe", "threadsafe", "forksafe"])
def test_layers_that_numba_knows(monkeypatch, layer):
    monkeypatch.setattr(requirements.config, "THREADING_LAYER", layer)
    assert requirements.unmet() is None


def test_features_that_numba_takes(monkeypatch):
    for features in (None, "", "+avx2", "+avx2,-avx512f", "+avx2,"):
        monkeypatch.setattr(requirements.config, "CPU_FEATURES", features)
        assert requirements.unmet() is None


@pytest.mark.parametrize("word", ["0", "-2", "two", "1.5", "²", "", " "])
def test_a_number_of_threads_that_is_none(monkeypatch, word):
    monkeypatch.setenv("NUMBA_NUM_THREADS", word)
    assert device.threads() == device.usable_cores()


VARIABLES = """
import os, sys
import numpy as np
import gpu_transconv as gtc

x, weight = np.ones((1, 5, 3)), np.ones((5, 5, 2))
want = gtc.conv_transpose(x, weight, backend="reference")
for words in sys.argv[1:]:
    settings = dict(word.split("=") for word in words.split())
    variable = next(iter(settings))
    child = os.fork()  # Numba is imported in the child, and reads the variables then
    if child == 0:
        os.environ.update(settings)
        try:
            print(np.array_equal(gtc.conv_transpose(x, weight), want), gtc.backends()["cpu"].available, flush=True)
        except gtc.BackendUnavailableError as error:
            print(variable in str(error), gtc.backends()["cpu"].available, flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""
REFUSED = ("NUMBA_DISABLE_JIT=1", "NUMBA_NUM_THREADS=0", "NUMBA_OPT=fast")
HARMLESS = ("GPU_TRANSCONV_CACHE_DIR=/dev/null/folder NUMBA_CACHE_DIR=/dev/null/folder",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
def test_variables_in_a_process_of_their_own():
    command = [sys.executable, "-W", "error", "-c", VARIABLES, *REFUSED, *HARMLESS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["True False"] * len(REFUSED) + ["True True"] * len(HARMLESS), done.stderr
