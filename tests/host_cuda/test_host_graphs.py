"""CUDA graphs: what is captured writes to the same memory on every replay, and what cannot be captured is refused."""

from __future__ import annotations

import numpy as np
import pytest
from host_checks import close, requires_compiler, want
from host_cupy import asarray
from host_streams import CudaError

import gpu_transconv as gtc

pytestmark = requires_compiler
RNG = np.random.default_rng(11)
#: A reduction so long that it is split, with partial sums in scratch memory.
LONG_X, LONG_WEIGHT = (RNG.standard_normal(s).astype("f4") for s in ((1, 700, 2, 3), (700, 9, 2, 2)))
X, WEIGHT = (RNG.standard_normal(s).astype("f4") for s in ((1, 5, 4, 6), (5, 6, 2, 2)))


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


def test_copies_of_cupy_arrays_are_refused_in_a_capture(cupy):
    fake = cupy()
    layer = gtc.ConvTranspose(asarray(WEIGHT), stride=2, backend="cupy", formulation="scatter")
    wide = asarray(np.repeat(X, 2, axis=-1))[..., ::2]
    with fake.stream(256):
        close(layer(wide).get(), want(X, WEIGHT))
    with pytest.raises(RuntimeError, match=r"CUDA graph: an array would be copied.*; pass contiguous arrays"):
        captured(fake, lambda: layer(wide), "relaxed")


def test_weights_on_another_stream_are_refused_in_a_capture(torch):
    fake = torch.cupy
    torch.current = 256
    x, weight = torch.tensor(X), asarray(WEIGHT)
    gtc.conv_transpose(x, weight, stride=2, backend="cupy")
    fake.stream(256).begin_capture("global")  # by PyTorch, of which CuPy's current stream knows nothing
    with pytest.raises(RuntimeError, match=r"CUDA graph: weight, bias or out is on another stream; make"):
        gtc.conv_transpose(x, weight, stride=2, backend="cupy")
    fake.stream(256).end_capture()


@pytest.mark.parametrize("what", ["layer", "first call", "kernel", "order"])
def test_what_a_capture_must_not_begin_is_refused(cupy, what):
    """Neither copies of weights, nor loading a kernel, nor packing, whose result only a replay would make."""
    fake = cupy()
    stream = fake.stream(256)
    weight = RNG.standard_normal((4, 4, 3, 3)).astype("f4")
    inputs = {size: RNG.standard_normal((1, 4, size, size)).astype("f4") for size in (2, 48)}
    small, large, given = asarray(inputs[2]), asarray(inputs[48]), asarray(weight)
    keywords = {"stride": 2, "backend": "cupy", "formulation": "gather"}
    layer = gtc.ConvTranspose(given, **keywords)
    with stream:
        if what != "kernel":
            gtc.conv_transpose(small, given, **keywords)  # compiles
        if what in ("kernel", "order"):
            layer(small if what == "kernel" else large)  # the large one reads the weights as they are
    calls = {
        "layer": (lambda: gtc.ConvTranspose(given, **keywords), "the weights cannot be copied"),
        "first call": (lambda: layer(small), "the weights have not been packed yet"),
        "kernel": (lambda: layer(large), "the kernel gtc::gather_direct.* has not been compiled yet"),
        "order": (lambda: layer(small), "the weights have not been packed for inputs of this size"),
    }
    call, why = calls[what]
    with pytest.raises(RuntimeError, match=f"captured into a CUDA graph: {why}; make a"):
        captured(fake, call, "relaxed")
    with stream:  # and the layer is as good as before
        close(layer(small).get(), want(inputs[2], weight))


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
