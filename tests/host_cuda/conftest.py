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
    """Function that puts a stand-in in CuPy's place; with `warpgroups` it has what the kernel for Hopper needs."""
    import numpy as np
    from host_cupy import Cupy
    from host_runner import tensor_map_bytes

    from gpu_transconv.kernels.cupy import compile as compiling
    from gpu_transconv.kernels.cupy import hopper_driver, launch

    def machine_code(source, options, name):
        assert options == ("-std=c++17", "-arch=sm_90a")
        path = tmp_path / f"machine-code-{hash((source, name))}.cuh"
        path.write_text(source)
        return path, name

    def encode(tensor, address):
        content = tensor_map_bytes(tensor, address)
        return np.frombuffer(content, np.dtype((np.void, len(content)))).copy()

    def install(warpgroups=False, **facts):
        fake = Cupy(tmp_path, **facts)
        monkeypatch.setattr(launch, "warpgroups_available", lambda capability: warpgroups and capability == (9, 0))
        monkeypatch.setattr(compiling, "machine_code", machine_code)
        monkeypatch.setattr(hopper_driver, "encode", encode)
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
