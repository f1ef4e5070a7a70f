"""Where these tests can run at all, and the stand-in for CuPy."""

from __future__ import annotations

import sys

import pytest

#: Fibers and the interception of accesses are written for Linux; elsewhere not even the helpers can be imported.
collect_ignore_glob = [] if sys.platform == "linux" else ["*.py"]


def forget():
    from gpu_transconv.dispatch.select import invalidate
    from gpu_transconv.kernels.cupy import compile as compiling
    from gpu_transconv.kernels.cupy import launch, memory

    invalidate()
    memory.held.forget()
    for cached in (launch.device_properties, launch._bind, compiling.compiled):
        cached.cache_clear()


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    """Function that puts a stand-in in CuPy's place."""
    from host_cupy import Cupy

    def install(**facts):
        fake = Cupy(tmp_path, **facts)
        monkeypatch.setitem(sys.modules, "cupy", fake)
        forget()
        return fake

    yield install
    monkeypatch.undo()
    forget()


@pytest.fixture
def torch(cupy, monkeypatch):
    """A stand-in in PyTorch's place, with tensors on the device of CuPy's."""
    from host_torch import Torch

    fake = Torch(cupy())
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def jax(cupy, monkeypatch):
    """A stand-in in JAX's place, with arrays on the device of CuPy's."""
    from host_jax import Jax

    fake = Jax(cupy())
    monkeypatch.setitem(sys.modules, "jax", fake)
    return fake
