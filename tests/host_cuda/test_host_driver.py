"""What the driver and CuPy refuse or do in an order of their own: limits, streams, null pointers, graphs, lifetimes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from host_checks import requires_compiler
from host_cupy import asarray
from host_streams import CudaError
from host_torch import Torch

import gpu_transconv as gtc
from gpu_transconv.kernels.cupy_raw import memory

pytestmark = requires_compiler
RNG = np.random.default_rng(11)
#: A reduction so long that it is split, with partial sums in scratch memory.
LONG_X, LONG_WEIGHT = (RNG.standard_normal(s).astype("f4") for s in ((1, 700, 2, 3), (700, 9, 2, 2)))
X, WEIGHT = (RNG.standard_normal(s).astype("f4") for s in ((1, 5, 4, 6), (5, 6, 2, 2)))


def want(x, weight, **keywords):
    return gtc.conv_transpose(x, weight, stride=2, backend="reference", **keywords)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.fixture
def torch(cupy, monkeypatch):
    fake = Torch(cupy())
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


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
    assert len({name for name, _ in fake.launched if "scatter_tiles" in name}) == 1


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


# --- graphs --------------------------------------------------------------------------------------------


def captured(fake, call, mode):
    """Capture a call on a stream of its own."""
    stream = fake.stream(256)
    with stream:
        stream.begin_capture(mode)
        try:
            result = call()
        finally:
            graph = stream.end_capture()
    return graph, result


def take_what_is_free(fake):
    """What others do between replays: they take what the pool has, and write to it."""
    with fake.stream(256):
        return [fake.zeros(block.size, np.uint8) for block in list(fake.driver.arenas.get(256, ()))]


def test_scratch_memory_of_tensors_is_set_aside_for_the_graph(torch):
    fake = torch.cupy
    torch.current = 256
    layer = gtc.ConvTranspose(torch.tensor(LONG_WEIGHT), stride=2, backend="cupy", formulation="gather")
    x = torch.tensor(LONG_X)
    eager = layer(x)
    close(eager.host, want(LONG_X, LONG_WEIGHT))
    del eager
    graph, result = captured(fake, lambda: layer(x), "relaxed")
    others = take_what_is_free(fake)
    for factor in (1, -2):
        x.host[...] = factor * LONG_X
        with fake.stream(256):
            graph.launch()
        close(result.host, want(factor * LONG_X, LONG_WEIGHT))
        assert all(not other.host.any() for other in others)
    assert [shape for shape in torch.empties if len(shape) == 1], "the reduction was expected to be split"


def test_a_function_call_with_tensors_can_be_captured(torch):
    """The weights are packed inside the graph, into memory that is set aside for it."""
    fake = torch.cupy
    torch.current = 256
    x, weight = torch.tensor(LONG_X), torch.tensor(LONG_WEIGHT)
    gtc.conv_transpose(x, weight, stride=2, backend="cupy")
    graph, result = captured(fake, lambda: gtc.conv_transpose(x, weight, stride=2, backend="cupy"), "relaxed")
    others = take_what_is_free(fake)
    weight.host[...] = -LONG_WEIGHT
    with fake.stream(256):
        graph.launch()
    close(result.host, want(LONG_X, -LONG_WEIGHT))
    assert all(not other.host.any() for other in others)


def test_scratch_memory_of_cupy_lives_with_the_layer(cupy):
    fake = cupy()
    x, stream = asarray(LONG_X), fake.stream(256)
    layer = gtc.ConvTranspose(asarray(LONG_WEIGHT), stride=2, backend="cupy", formulation="gather")
    with stream:
        close(layer(x).get(), want(LONG_X, LONG_WEIGHT))
    graph, result = captured(fake, lambda: layer(x), "relaxed")
    others = take_what_is_free(fake)
    x.host[...] = -LONG_X
    with stream:
        graph.launch()
        close(result.get(), want(-LONG_X, LONG_WEIGHT))
    assert all(not other.host.any() for other in others)


def test_a_function_call_with_cupy_arrays_is_refused_in_a_capture(cupy):
    fake = cupy()
    x, weight = asarray(LONG_X), asarray(LONG_WEIGHT)
    gtc.conv_transpose(x, weight, stride=2, backend="cupy", formulation="gather")
    with pytest.raises(RuntimeError, match=r"captured into a CUDA graph.*ConvTranspose and call it once"):
        captured(fake, lambda: gtc.conv_transpose(x, weight, stride=2, backend="cupy", formulation="gather"), "relaxed")


@pytest.mark.parametrize("what", ["layer", "first call", "kernel", "order"])
def test_what_a_capture_must_not_begin_is_refused(cupy, what):
    """Neither copies of weights, nor loading a kernel, nor packing, whose result only a replay would make."""
    fake = cupy()
    stream = fake.stream(256)
    weight = RNG.standard_normal((64, 20, 4, 4)).astype("f4")
    inputs = {size: RNG.standard_normal((1, 64, size, size)).astype("f4") for size in (1, 2, 40)}
    small, middle, large = map(asarray, inputs.values())
    given = asarray(weight)
    make = lambda: gtc.ConvTranspose(given, stride=2, backend="cupy", formulation="gather")  # noqa: E731
    layer = make()
    if what in ("kernel", "order"):
        with stream:
            layer(small)
            gtc.conv_transpose(middle, given, stride=2, backend="cupy", formulation="gather")  # compiles
    calls = {
        "layer": make,
        "first call": lambda: layer(small),
        "kernel": lambda: layer(large),
        "order": lambda: layer(middle),
    }
    with pytest.raises(RuntimeError, match="captured into a CUDA graph"):
        captured(fake, calls[what], "relaxed")
    with stream:  # and the layer is as good as before
        close(layer(middle).get(), want(inputs[2], weight))


def test_a_prepared_layer_is_captured_on_a_stream_that_it_has_not_seen(torch):
    """PyTorch captures on a stream of its own, in the mode that permits no allocation, no query and no waiting."""
    fake = torch.cupy
    layer = gtc.ConvTranspose(torch.tensor(WEIGHT), stride=2, backend="cupy", formulation="scatter")
    x = torch.tensor(X)
    layer(x)
    torch.current = 256
    out = torch.tensor(np.zeros((1, 6, 8, 12), np.float32))
    graph, _ = captured(fake, lambda: layer(x, out=out), "global")
    with fake.stream(256):
        graph.launch()
    close(out.host, want(X, WEIGHT))


def test_the_stand_in_refuses_what_a_capture_forbids(cupy):
    fake = cupy()
    stream, event = fake.stream(256), fake.cuda.Event()
    event.record(fake.stream(48))
    array = asarray(X)
    forbidden = {
        "an event": lambda: stream.wait_event(event),
        "waiting": stream.synchronize,
        "a query": lambda: event.done,
        "memory": lambda: fake.empty((10**6,)),
        "a copy": array.get,
    }
    for call in forbidden.values():
        with pytest.raises((CudaError, RuntimeError)):
            captured(fake, call, "global")
        call()


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
    assert len(memory.held) == 1
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


def test_an_order_that_one_stream_packs_is_read_by_another(cupy):
    """The first stream is busy: what it packs is complete before a call on another stream could read it."""
    fake = cupy()
    layer = gtc.ConvTranspose(asarray(WEIGHT), stride=2, backend="cupy", formulation="scatter", deterministic=True)
    fake.driver.queue(64).stalled = True
    x = asarray(X)
    with fake.stream(64):
        layer(x)
    close(layer(x).get(), want(X, WEIGHT))


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
