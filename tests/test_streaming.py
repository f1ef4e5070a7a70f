"""Streams: whatever the chunks, the definition's results, and to the bit the same ones."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from cases import DATA_FORMATS, Case
from checks import Arrays, assert_close, expected, make_arrays, refused
from selection import one_of
from support.fakes import count_packing
from test_random_geometries import make_problem

import gpu_transconv as gtc
from gpu_transconv.kernels.cpu.choose import choose_gather
from gpu_transconv.problem.plan import Plan

#: Layer of an audio decoder: stamps overlap by half.
LAYER = {"stride": 4, "padding": [(0, 4)]}
X, WEIGHT = (np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((2, 6, 40), (6, 3, 8)))


def cut(x: np.ndarray, axis: int, sizes: Iterable[int]) -> Iterator[np.ndarray]:
    """Pieces of those sizes, and what is left as the last one."""
    first = 0
    for size in (*sizes, x.shape[axis]):
        yield x[(slice(None),) * axis + (slice(first, first + size),)]
        first += size


def streamed(stream: gtc.StreamingConvTranspose, x: np.ndarray, axis: int, sizes: Iterable[int]) -> np.ndarray:
    """Results of all pieces, put together."""
    return np.concatenate([*(stream(piece) for piece in cut(x, axis, sizes)), stream.finish()], axis)


def keywords_of(case: Case) -> dict[str, Any]:
    """A case's geometry as a stream takes it, which has no output_size."""
    geometry = case.geometry
    slope = geometry.pop("slope", None)
    if geometry["activation"] == "leaky_relu":
        geometry["activation"] = ("leaky_relu", 0.01 if slope is None else slope)
    if case.keywords.get("padding") == "same":
        geometry |= {"padding": "same", "output_padding": 0}
    return geometry


def chunkings(draw: random.Random, size: int) -> list[list[int]]:
    """The whole, and four random ones: some with empty chunks, one of chunks of a single element."""
    found = [[], [1] * size]
    for most in (3, 20, size):
        sizes: list[int] = []
        while sum(sizes) < size:
            sizes.append(draw.randint(0, most))
        found.append(sizes)
    return found


# Four chunkings and the whole of each of 250 geometries, in all dtypes and both formats.
@pytest.mark.parametrize("number", one_of(10, range(250)))
def test_random_chunkings(number):
    case, dtype, data_format = make_problem(7, number)
    arrays, draw = make_arrays(case, dtype, data_format), random.Random(number)
    axis = draw.randrange(case.ndim)
    stream = gtc.StreamingConvTranspose(
        arrays.weight, arrays.bias, **keywords_of(case), axis=axis - case.ndim * draw.randrange(2),
        data_format=data_format, formulation=draw.choice(("auto", "gather", "scatter")),
    )  # fmt: skip
    at = axis + (not case.unbatched) + (data_format == "channels_first")
    whole, *others = (streamed(stream, arrays.x, at, sizes) for sizes in chunkings(draw, arrays.x.shape[at]))
    assert_close(whole, expected(case, arrays, data_format), dtype, case.reduction)
    assert [other.tobytes() == whole.tobytes() for other in others] == [True] * 4


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
@pytest.mark.parametrize("cout", [1, 40], ids=["boxes", "runs"])
def test_sums_in_several_parts_are_parted_alike(cout, formulation, data_format):
    """Alone, a kernel would part the sum over so many channels by the length of the input."""
    rng = np.random.default_rng(cout)
    x, weight = rng.standard_normal((1, 1300, 150)), rng.standard_normal((1300, cout, 4)) / 50
    x = np.ascontiguousarray(x.swapaxes(1, 2)) if data_format == "channels_last" else x
    at = 1 if data_format == "channels_last" else 2
    arrays = Arrays(x.astype(np.float32), weight.astype(np.float32), None)
    stream = gtc.StreamingConvTranspose(arrays.weight, stride=2, data_format=data_format, formulation=formulation)
    whole, *others = (streamed(stream, arrays.x, at, sizes) for sizes in ([], [1, 1, 1, 30], [140], [64, 1, 64]))
    case = Case("deep", (1, 1300, 150), weight.shape, keywords={"stride": 2})
    assert_close(whole, expected(case, arrays, data_format), "float32", case.reduction)
    assert [other.tobytes() == whole.tobytes() for other in others] == [True] * 3


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_layers_of_one_row_have_the_order_of_many(axis, stride):
    rng = np.random.default_rng(stride)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 5, 30, 31), (5, 1, 5, 4)))
    stream = gtc.StreamingConvTranspose(weight, stride=stride, groups=5, axis=axis, formulation="gather")
    whole, single = (streamed(stream, x, 2 + axis, sizes) for sizes in ([], [1] * 30))
    assert whole.tobytes() == single.tobytes()
    want = gtc.conv_transpose(x, weight, stride=stride, groups=5)
    np.testing.assert_allclose(whole, want, atol=1e-5)


def test_the_tiles_may_change_with_the_length():
    """So that the equal bits of this file are not those of one kernel."""
    seen: set[str] = set()
    stream = gtc.StreamingConvTranspose(np.ones((24, 5, 8), np.float32), stride=2, formulation="gather")
    for size in (1, 8, 400):
        stream(np.ones((1, 24, size), np.float32))
        seen |= {choose_gather(plan).kernel.name for plan, _ in stream._shape.pieces.values()}
    assert len(seen) > 1


def test_the_kernel_is_chosen_once(launched):
    stream = gtc.StreamingConvTranspose(WEIGHT, **LAYER)
    streamed(stream, X, 2, [1, 3, 30])
    assert len(launched) == 4
    assert len({*launched}) == 1


def test_weights_are_packed_once(monkeypatch):
    packed = count_packing(monkeypatch)
    stream = gtc.StreamingConvTranspose(WEIGHT, stride=2, padding=3, formulation="scatter")
    for sizes in ([], [1] * 40, [7, 0, 9]):
        streamed(stream, X, 2, sizes)
    assert [kernel.name for kernel, _ in packed] == ["cpu/scatter"]


@pytest.mark.parametrize(
    ("kernel", "padding", "delay"), [(8, 0, 4), (8, [(0, 4)], 0), (8, 2, 2), (4, 0, 0), (8, "same", 2)]
)
def test_delay_is_what_finish_gives(kernel, padding, delay):
    stream = gtc.StreamingConvTranspose(WEIGHT[:, :, :kernel], stride=4, padding=padding)
    assert stream.delay == delay
    lengths = [stream(piece).shape[2] for piece in cut(X, 2, [5, 1, 1])]
    low = 0 if isinstance(padding, list) else 2 if padding in (2, "same") else padding
    assert lengths == [20 - low, 4, 4, 33 * 4]
    assert stream.finish().shape[2] == delay


@pytest.mark.parametrize("how", ["copy", "copy.copy", "copy.deepcopy", "pickle"])
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_a_copy_goes_on_by_itself(formulation, how):
    through = {"copy": gtc.StreamingConvTranspose.copy, "copy.copy": copy.copy, "copy.deepcopy": copy.deepcopy}
    stream = gtc.StreamingConvTranspose(WEIGHT, np.ones(3, np.float32), **LAYER, formulation=formulation)
    whole = streamed(stream, X, 2, [])
    before = [stream(piece) for piece in (X[:, :, :9], X[:, :, 9:11])]
    other = through.get(how, lambda o: pickle.loads(pickle.dumps(o)))(stream)
    stream(np.full_like(X, np.nan))
    after = [other(X[:, :, 11:30]), other(X[:, :, 30:]), other.finish()]
    assert np.concatenate([*before, *after], 2).tobytes() == whole.tobytes()
    stream.reset()
    assert streamed(stream, X, 2, [4]).tobytes() == whole.tobytes()


def test_finish_starts_afresh_and_shapes_may_change():
    stream = gtc.StreamingConvTranspose(WEIGHT, **LAYER)
    for x in (X, X[0], X[:1, :, :7], X):
        want = gtc.conv_transpose(x, WEIGHT, **LAYER)
        np.testing.assert_allclose(streamed(stream, x, x.ndim - 1, [2, 2]), want, atol=1e-5)


def test_a_chunk_may_be_overwritten_after_the_call():
    stream, buffer = gtc.StreamingConvTranspose(WEIGHT, stride=2), np.empty((2, 6, 10), np.float32)
    got = []
    for piece in np.split(X, 4, axis=2):
        buffer[...] = piece
        got.append(stream(buffer))
    buffer.fill(np.nan)
    got.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(got, 2), gtc.conv_transpose(X, WEIGHT, stride=2), atol=1e-5)


def test_empty_chunks_alone():
    stream = gtc.StreamingConvTranspose(WEIGHT, **LAYER)
    assert stream(X[:, :, :0]).shape == (2, 3, 0)
    assert stream.finish().shape == (2, 3, 0)
    with pytest.raises(ValueError, match="finish must follow a chunk"):
        stream.finish()


def test_padding_that_leaves_nothing_of_a_short_input():
    stream = gtc.StreamingConvTranspose(WEIGHT, stride=1, padding=6)
    assert [stream(X[:, :, :3]).shape[2], stream.finish().shape[2]] == [0, 0]
    np.testing.assert_allclose(
        streamed(stream, X, 2, [3, 1]), gtc.conv_transpose(X, WEIGHT, stride=1, padding=6), atol=1e-5
    )


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("formulation", ["gather", "scatter"])
def test_weights_that_are_not_finite(formulation, value):
    weight = WEIGHT.copy()
    weight[2, 1, 5] = value
    with np.errstate(invalid="ignore"):
        stream = gtc.StreamingConvTranspose(weight, stride=4, formulation=formulation)
        whole, *others = (streamed(stream, X, 2, sizes) for sizes in ([], [1] * 40, [17]))
        want = gtc.conv_transpose(X, weight, stride=4)
    np.testing.assert_allclose(whole, want, atol=1e-5)
    assert [other.tobytes() == whole.tobytes() for other in others] == [True] * 2


def test_tensors_give_tensors():
    torch = pytest.importorskip("torch")
    stream = gtc.StreamingConvTranspose(torch.from_numpy(WEIGHT), **LAYER)
    parts = [*(stream(torch.from_numpy(np.ascontiguousarray(piece))) for piece in cut(X, 2, [5, 0])), stream.finish()]
    assert all(isinstance(part, torch.Tensor) for part in parts)
    want = gtc.conv_transpose(X, WEIGHT, **LAYER)
    np.testing.assert_allclose(torch.cat(parts, 2).numpy(), want, atol=1e-5)


@pytest.mark.parametrize(
    ("keywords", "error", "argument", "words"),
    [
        ({"axis": 1}, ValueError, "axis", ("from -1 to 0", "got 1")),
        ({"axis": True}, ValueError, "axis", ("got True",)),
        ({"axis": "time"}, ValueError, "axis", ("got 'time'",)),
        ({"stride": 0}, ValueError, "stride", (">= 1", "got 0")),
        ({"padding": -1}, ValueError, "padding", ("got -1",)),
        ({"output_padding": 4}, ValueError, "output_padding", ("got 4",)),
        ({"groups": 4}, ValueError, "groups", ("divide the 6 input channels", "got 4")),
        ({"bias": np.ones(2, np.float32)}, ValueError, "bias", ("(3,)", "got (2,)")),
        ({"backend": "gpu"}, ValueError, "backend", ("got 'gpu'",)),
    ],
)
def test_bad_arguments(keywords, error, argument, words):
    with refused(error, argument, *words):
        gtc.StreamingConvTranspose(WEIGHT, **{"stride": 4, **keywords})


@pytest.mark.parametrize(
    ("first", "then", "error", "words"),
    [
        (X[0, 0], None, ValueError, ("x must have 3 axes", "got shape (40,)")),
        (X[:, :5], None, ValueError, ("channels", "(2, 5, 40)")),
        (X.astype(np.float64), None, TypeError, ("float32", "float64")),
        ([1.0], None, TypeError, ("x must be an array", "list")),
        (X, X[:1], ValueError, ("the first chunk's shape (2, 6, any)", "got (1, 6, 40)")),
        (X, X[0], ValueError, ("the first chunk's shape (2, 6, any)", "got (6, 40)")),
        (X, X.astype(np.float64), TypeError, ("the first chunk's dtype float32", "got float64")),
    ],
)
def test_bad_chunks_change_nothing(first, then, error, words):
    stream = gtc.StreamingConvTranspose(WEIGHT, **LAYER)
    start = [] if then is None else [stream(first)]
    with pytest.raises(error) as caught:
        stream(first if then is None else then)
    assert [word for word in words if word not in str(caught.value)] == []
    whole = np.concatenate([X, X], 2) if start else X
    got = np.concatenate([*start, stream(X), stream.finish()], 2)
    np.testing.assert_allclose(got, gtc.conv_transpose(whole, WEIGHT, **LAYER), atol=1e-5)


def test_backends_whose_sums_depend_on_the_length_are_refused():
    stream = gtc.StreamingConvTranspose(WEIGHT, backend="reference")
    with pytest.raises(gtc.BackendUnavailableError, match="the order of its sums may change"):
        stream(X)


class Decoder:
    """A decoder as EnCodec's is built, without its LSTM: causal, each layer a stream or computed as a whole.

    A convolution is a transposed one with stride 1 whose taps run backwards; causal, its end is cut off.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.layers: list[tuple[np.ndarray, np.ndarray, dict[str, Any]]] = []
        self.blocks: list[tuple[int, ...]] = []
        self._add(rng, 16, 32, 7)
        for channels, stride in ((32, 4), (16, 3), (8, 2)):
            self._add(rng, channels, channels // 2, 2 * stride, stride=stride)
            self._add(rng, channels // 2, channels // 4, 3)  # the residual branch
            self._add(rng, channels // 4, channels // 2, 1)
        self._add(rng, 4, 1, 7)

    def _add(self, rng: np.random.Generator, cin: int, cout: int, kernel: int, stride: int = 1) -> None:
        weight = rng.standard_normal((cin, cout, kernel)) / np.sqrt(cin * kernel / stride)
        keywords = {"stride": stride, "padding": [(0, kernel - stride)]}
        self.layers.append((weight.astype(np.float32), rng.standard_normal(cout).astype(np.float32) / 9, keywords))

    def run(self, steps: list[Any], x: np.ndarray) -> np.ndarray:
        """Apply the layers, as functions."""
        first, *middle, last = steps
        y = first(x)
        for up, narrow, wide in zip(*[iter(middle)] * 3, strict=True):
            y = up(elu(y))
            y = y + wide(elu(narrow(elu(y))))
        return last(elu(y))


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.mark.parametrize("frames", [1, 3])
def test_a_decoder_frame_by_frame_is_the_whole_decoder(frames):
    decoder = Decoder(np.random.default_rng(0))
    codes = np.random.default_rng(1).standard_normal((1, 16, 24)).astype(np.float32)
    streams = [gtc.StreamingConvTranspose(w, b, **keywords) for w, b, keywords in decoder.layers]
    assert sum(stream.delay for stream in streams) == 0
    whole = decoder.run([gtc.ConvTranspose(w, b, **keywords) for w, b, keywords in decoder.layers], codes)
    parts = [decoder.run(streams, piece) for piece in np.split(codes, 24 // frames, axis=2)]
    assert {part.shape for part in parts} == {(1, 1, 24 * frames)}
    np.testing.assert_allclose(np.concatenate(parts, 2), whole, atol=1e-5 * np.abs(whole).max())
    assert [stream.finish().shape[-1] for stream in streams] == [0] * len(streams)


def test_plans_of_a_fixed_order_are_others():
    """Kernels and their caches tell them apart from plans of the same sizes."""
    stream = gtc.StreamingConvTranspose(WEIGHT)
    stream(X)
    plans: list[Plan] = [plan for plan, _ in stream._shape.pieces.values()]
    assert [plan.fixed_order for plan in plans] == [True]
