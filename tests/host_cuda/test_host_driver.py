"""What the driver and CuPy refuse or do in an order of their own: limits, streams, null pointers, lifetimes."""

from __future__ import annotations

import numpy as np
import pytest
from host_checks import close, requires_compiler, want
from host_cupy import asarray

import gpu_transconv as gtc
from gpu_transconv.kernels.cupy import memory

pytestmark = requires_compiler
RNG = np.random.default_rng(11)
X, WEIGHT = (RNG.standard_normal(s).astype("f4") for s in ((1, 5, 4, 6), (5, 6, 2, 2)))


# --- shared memory -------------------------------------------------------------------------------------


def test_launches_of_one_kernel_need_different_shared_memory(cupy):
    """They share one function, and with it one limit: the first, which needs most, comes again after the second."""
    fake = cupy()
    keywords = {"backend": "cupy", "formulation": "scatter", "deterministic": True, "stride": 2}
    x, weight = (RNG.standard_normal(s).astype(np.float16) for s in ((1, 32, 12, 12), (32, 32, 5, 5)))
    for padding, extra in ((0, 0), (2, 1), (0, 0)):
        got = gtc.conv_transpose(x, weight, padding=padding, output_padding=extra, **keywords)
        reference = want(x, weight, padding=padding, output_padding=extra)
        np.testing.assert_allclose(got, reference, rtol=0.01, atol=0.1)
    assert len({name for name, _ in fake.launched if "scatter_owned" in name}) == 1


# --- what a call costs the host ------------------------------------------------------------------------


def test_a_prepared_call_asks_no_array_for_its_interface(cupy, monkeypatch):
    """It builds a dictionary, and a wrapped array checks itself: more than the rest of the call."""
    fake = cupy()
    layer, x = gtc.ConvTranspose(fake.asarray(WEIGHT), stride=2, backend="cupy"), fake.asarray(X)
    first = layer(x).get()
    with monkeypatch.context() as patched:
        patched.delattr(type(x), "__cuda_array_interface__")
        again = layer(x).get()
    close(again, want(X, WEIGHT))
    np.testing.assert_array_equal(again, first)


# --- streams -------------------------------------------------------------------------------------------


def test_work_goes_to_the_stream_that_is_named_without_a_warning(cupy):
    fake = cupy()
    for pointer in (7, 0, 1, None):
        with memory.on_stream(pointer):
            assert fake.cuda.get_current_stream().ptr == (7 if pointer == 7 else 0)
    assert fake.cuda.get_current_stream() is fake.cuda.Stream.null


def test_streams_of_an_older_cupy(cupy):
    fake = cupy()
    del fake.cuda.Stream.from_external
    with pytest.warns(DeprecationWarning, match="ExternalStream"), memory.on_stream(7):
        assert fake.cuda.get_current_stream().ptr == 7


class Interface:
    """An array of some library, made on a stream of its own."""

    def __init__(self, fake, array, stream):
        self.shape, self.stream = array.shape, stream
        with fake.stream(stream):
            self.array = asarray(array)

    @property
    def __cuda_array_interface__(self):
        return self.array.__cuda_array_interface__ | {"stream": self.stream}


@pytest.mark.parametrize("late", ["x", "weight", "bias"])
def test_arrays_made_on_other_streams_are_waited_for(cupy, late):
    fake = cupy()
    bias = RNG.standard_normal(6).astype("f4")
    streams = {"x": 48, "weight": 64, "bias": 80}
    fake.driver.queue(streams[late]).stalled = True
    arrays = {"x": X, "weight": WEIGHT, "bias": bias}
    given = {name: Interface(fake, array, streams[name]) for name, array in arrays.items()}
    got = gtc.conv_transpose(**given, stride=2, formulation="scatter", deterministic=True)
    with fake.stream(streams["x"]):
        close(got.get(), want(X, WEIGHT, bias=bias))


def test_what_comes_later_on_another_stream_waits_for_the_work(cupy):
    """The weight is overwritten on its own stream after the call, while x's stream is still busy."""
    fake = cupy()
    x, weight = Interface(fake, X, 48), Interface(fake, WEIGHT, 64)
    fake.driver.queue(48).stalled = True
    got = gtc.conv_transpose(x, weight, stride=2, formulation="scatter", deterministic=True)
    with fake.stream(64):
        weight.array[...] = asarray(np.zeros_like(WEIGHT))
    with fake.stream(48):
        close(got.get(), want(X, WEIGHT))


# --- null pointers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepared", [False, True], ids=["function", "prepared"])
def test_an_empty_batch_of_tensors(torch, prepared):
    x, weight = torch.tensor(X[:0]), torch.tensor(WEIGHT)
    got = gtc.ConvTranspose(weight, stride=2)(x) if prepared else gtc.conv_transpose(x, weight, stride=2)
    assert type(got) is torch.Tensor
    assert got.shape == (0, 6, 8, 12)
    assert memory.as_device(x).shape == x.shape


# --- lifetimes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_weights_outlive_their_layer_where_another_stream_reads_them(cupy, formulation):
    fake = cupy()
    bias = RNG.standard_normal(6).astype("f4")
    layer = gtc.ConvTranspose(
        asarray(WEIGHT), asarray(bias), stride=2, backend="cupy", formulation=formulation, deterministic=True
    )
    x, busy = asarray(X), fake.stream(64)
    layer(x)
    fake.driver.queue(64).stalled = True
    with busy:
        got = layer(x)
    del layer
    taken = [fake.zeros(size, np.uint8) for size in (6 * 4, WEIGHT.nbytes, 1024, 2048) for _ in range(4)]
    with busy:
        close(got.get(), want(X, WEIGHT, bias=bias))
    del taken
    assert len(memory.held)
    fake.driver.queue(64).stalled = False
    gtc.conv_transpose(x, asarray(WEIGHT), stride=2, backend="cupy")
    assert len(memory.held) == 0


def test_weights_that_one_stream_reads_go_with_their_layer(cupy):
    fake = cupy()
    layer = gtc.ConvTranspose(asarray(WEIGHT), stride=2, backend="cupy", formulation="scatter")
    layer(asarray(X))
    free = sum(len(arena) for arena in fake.driver.arenas.values())
    del layer
    assert len(memory.held) == 0
    assert sum(len(arena) for arena in fake.driver.arenas.values()) > free


@pytest.mark.parametrize("late", [False, True], ids=["first", "late"])
def test_an_order_that_one_stream_packs_is_read_by_another(cupy, late):
    """The first stream is busy: what it packs is complete before a call on another stream could read it."""
    fake = cupy()
    weight, x = (RNG.standard_normal(s).astype("f4") for s in ((8, 8, 3, 3), (1, 8, 2, 2)))
    layer = gtc.ConvTranspose(asarray(weight), stride=2, backend="cupy", formulation="gather")
    if late:
        layer(asarray(np.ones((1, 8, 32, 32), np.float32)))  # which reads the weights as they are
    fake.driver.queue(64).stalled = True
    given = asarray(x)
    with fake.stream(64):
        layer(given)
    close(layer(given).get(), want(x, weight))


def test_what_is_lent_is_kept_until_the_work_has_passed(cupy):
    """An array of a library that may take its memory back as soon as nobody holds the array."""
    fake = cupy()

    class Lent(Interface):
        def __del__(self):
            self.array.host.fill(np.nan)

    x, weight = (Lent(fake, a, 0) for a in (X, WEIGHT))
    x.stream = weight.stream = None
    fake.driver.queue(0).stalled = True
    got = gtc.conv_transpose(x, weight, stride=2, formulation="scatter", deterministic=True)
    del x, weight
    gtc.conv_transpose(asarray(X), asarray(WEIGHT), stride=2, formulation="scatter")  # which looks after what is kept
    close(got.get(), want(X, WEIGHT))
    assert len(memory.held) == 1
    memory.held.sweep()
    assert len(memory.held) == 0
