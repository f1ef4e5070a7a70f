"""JAX's arrays on a device: neither library takes back memory that the other still reads."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from checks import refused
from host_checks import close, requires_compiler, want
from host_jax import STREAM

import gpu_transconv as gtc
from gpu_transconv.kernels.cupy import memory

pytestmark = requires_compiler
RNG = np.random.default_rng(12)
X, WEIGHT = (RNG.standard_normal(s).astype("f4") for s in ((1, 5, 4, 6), (5, 6, 2, 2)))


@pytest.mark.parametrize("prepared", [False, True], ids=["function", "prepared"])
def test_inputs_live_until_the_work_has_passed(jax, prepared):
    x, weight = jax.put(X), jax.put(WEIGHT)
    keywords = {"stride": 2, "formulation": "scatter", "deterministic": True}
    layer = gtc.ConvTranspose(weight, **keywords) if prepared else None
    if prepared:
        layer(jax.put(X))
    jax.cupy.driver.queue(0).stalled = True
    got = layer(x) if prepared else gtc.conv_transpose(x, weight, **keywords)
    assert type(got) is jax.Array
    del x, weight
    close(got.read(), want(X, WEIGHT))


def test_results_live_until_jax_has_read_them(jax):
    x, weight = jax.put(X), jax.put(WEIGHT)
    gtc.conv_transpose(x, weight, stride=2)
    jax.cupy.driver.queue(STREAM).stalled = True
    got = gtc.conv_transpose(x, weight, stride=2)
    later = jax.array(got, copy=True)  # stands for any operation of JAX's
    del got
    with jax.cupy.stream(0):
        taken = [jax.cupy.zeros(block.size, np.uint8) for block in list(jax.cupy.driver.arenas.get(0, ()))]
    close(later.read(), want(X, WEIGHT))
    del taken


def test_arrays_on_a_device_need_cupy(jax, monkeypatch):
    x = jax.put(X)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with refused(TypeError, "x must be on the CPU where CuPy is not installed", "JAX", "install cupy"):
        gtc.conv_transpose(x, x)


def test_what_is_kept_is_let_go(jax):
    for _ in range(5):
        got = gtc.conv_transpose(jax.put(X), jax.put(WEIGHT), stride=2)
        got.read()
        assert len(memory.held) <= 2
    memory.held.sweep()
    assert len(memory.held) == 0
