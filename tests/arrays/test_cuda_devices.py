"""Arrays that do not say on which device or stream they are: the driver is asked, and the work goes there, in order."""

from __future__ import annotations

import numpy as np
import pytest
from cases import named
from checks import assert_close, expected, make_arrays, refused
from support.fakes import DeviceArray, FakeBackend

import gpu_transconv as gtc
from gpu_transconv.arrays import library_of

CASE = named("2d-kernel-is-twice-stride")
ARRAYS = make_arrays(CASE, "float32")


class NumbaArray(DeviceArray):
    """What Numba's device arrays have in common with others, and its own mark."""

    __cuda_ndarray__ = True
    __module__ = "numba.cuda"


@pytest.fixture(params=[DeviceArray, NumbaArray], ids=["interface", "numba"])
def make(request, monkeypatch):
    """The array's class; Numba's kind allocates results by Numba, which is not here."""
    if request.param is NumbaArray:
        kind = library_of("x", NumbaArray(np.ones(1)))
        monkeypatch.setattr(type(kind), "empty", lambda self, plan, given: None)  # noqa: ARG005
    return request.param


@pytest.mark.parametrize("backend", ["cupy", "numba-cuda"])
@pytest.mark.parametrize("prepared", [False, True], ids=["function", "prepared"])
def test_work_goes_to_the_arrays_device(make, prepared, backend, install):
    fake = FakeBackend()
    fake.index = 1
    install(**{backend.replace("-", "_"): fake})
    x, weight, bias = map(make, ARRAYS)
    if prepared:
        got = gtc.ConvTranspose(weight, bias, **CASE.keywords)(x)
    else:
        got = gtc.conv_transpose(x, weight, bias, **CASE.keywords)
    assert set(fake.devices) == {1}
    assert_close(got.host, expected(CASE, ARRAYS), "float32", CASE.reduction)


def test_arrays_of_two_devices_are_refused(make, install):
    fake = FakeBackend()
    install(cupy=fake)
    x, weight, _ = map(make, ARRAYS)
    fake.indices = {a.__cuda_array_interface__["data"][0]: n for n, a in enumerate((x, weight))}
    with refused(TypeError, "weight must be on x's device cuda:0", "got one on cuda:1"):
        gtc.conv_transpose(x, weight, **CASE.keywords)


def test_arrays_on_other_streams(make, install):
    """x's stream waits for theirs before the work, and they for x's after it; the default stream has two names."""
    fake = FakeBackend()
    install(cupy=fake)
    streams = {"x": 64, "weight": 80, "bias": 1}
    x, weight, bias = (make(a, stream) for a, stream in zip(ARRAYS, streams.values(), strict=True))
    gtc.conv_transpose(x, weight, bias, **CASE.keywords)
    assert sorted(fake.ordered) == [("let wait", 0), ("let wait", 80), ("wait for", 0), ("wait for", 80)]
    assert fake.streams == [64, "left"]
    fake.ordered.clear()
    gtc.conv_transpose(make(ARRAYS[0], 1), make(ARRAYS[1], 0), **CASE.keywords)
    gtc.conv_transpose(make(ARRAYS[0], 64), make(ARRAYS[1], 64), make(ARRAYS[2]), **CASE.keywords)
    assert fake.ordered == []


def test_out_on_another_stream(install):
    fake = FakeBackend()
    install(cupy=fake)
    want = expected(CASE, ARRAYS)
    out = DeviceArray(np.full(want.shape, np.nan, np.float32), 96)
    x, weight, bias = (DeviceArray(a, 64) for a in ARRAYS)
    assert gtc.conv_transpose(x, weight, bias, **CASE.keywords, out=out) is out
    assert fake.ordered == [("wait for", 96), ("let wait", 96)]
    assert_close(out.host, want, "float32", CASE.reduction)


def test_what_a_library_may_take_back_is_held(install):
    fake = FakeBackend()
    install(cupy=fake)
    x, weight, bias = map(DeviceArray, ARRAYS)
    gtc.conv_transpose(x, weight, bias, **CASE.keywords)
    assert fake.held == [[x, weight, bias]]
    fake.held.clear()
    layer = gtc.ConvTranspose(weight, bias, **CASE.keywords)
    layer(x)
    assert fake.held == [[x]]  # the layer's weights are its own
